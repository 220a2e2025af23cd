"""The execution that is metered in this thread or greenlet.

`child/meter.py` opens and ends it around a task's body; `child/charge.py` adds to it and
`child/results.py` tells of it. Loads nothing that only workers need: senders import `budget` too.
"""

from __future__ import annotations

from contextvars import ContextVar
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from celery_budget.board import Cell, Usage

if TYPE_CHECKING:
    from celery_budget.child.gauge import Gauge


class Execution(NamedTuple):
    """One metered execution of a task. One is made for each task: hence a tuple.

    Attributes:
        cell: Where it writes.
        charged: The resources it can charge, by their place in the cell.
        pid: The process in which it began; a fork of it must not write.
        started_ns: When it began, nanoseconds of the monotonic clock.
        gauge: Measures it; None where there is nothing to measure.
        mark: What the gauge noted at its start.
    """

    cell: Cell
    charged: tuple[str, ...]
    pid: int
    started_ns: int
    gauge: Gauge | None
    mark: Any

    def usage(self) -> dict[str, int]:
        """Tell what it has used up to now, units by resource; only in its own thread."""
        cpu, peak, io = (None, None, None) if self.gauge is None else self.gauge.since(self.mark)
        wall_us = (monotonic_ns() - self.started_ns) // 1_000
        used = Usage(
            is_final=False,
            started_ns=self.started_ns,
            pid=self.pid,
            wall_us=wall_us,
            cpu_us=cpu,
            peak_bytes=peak,
            io_bytes=io,
            charges=self.cell.charges(),
        )
        return used.units(self.charged)


#: None in eager and plain calls outside a worker's tasks, and where the pool has no board.
execution: ContextVar[Execution | None] = ContextVar("celery_budget_execution", default=None)
