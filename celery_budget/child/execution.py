"""The execution that is metered in this thread or greenlet.

`child/meter.py` opens and ends it around a task's body; `child/charge.py` adds to it. Loads
nothing that only workers need: senders import `budget` too.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

from celery_budget.board import Cell


class Execution(NamedTuple):
    """One metered execution of a task. One is made for each task: hence a tuple.

    Attributes:
        cell: Where it writes.
        charged: The resources it can charge, by their place in the cell.
        pid: The process in which it began; a fork of it must not write.
    """

    cell: Cell
    charged: tuple[str, ...]
    pid: int


#: None in eager and plain calls outside a worker's tasks, and where the pool has no board.
execution: ContextVar[Execution | None] = ContextVar("celery_budget_execution", default=None)
