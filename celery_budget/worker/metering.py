"""Metering, the main process's side: numbers executions and reads what they have used.

The child's side is `child/meter.py`; between the two lies the board.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Protocol

from celery_budget.board import CELLS, Board, Flag, PoolKind, SharedBoard, Usage, charged
from celery_budget.local_board import LocalBoard
from celery_budget.worker import seams
from celery_budget.worker.eventer import BillingEventer
from celery_budget.worker.slots import Metered

if TYPE_CHECKING:
    from celery.concurrency.base import BasePool

    from celery_budget.worker.intake import Held


class Connect(Protocol):
    """Makes the meter of the children: `child.meter.connect`, not imported in this process."""

    def __call__(
        self, board: Board, resources: tuple[str, ...], kind: PoolKind, *, can_stop: bool
    ) -> Metered:
        """Give what the pool calls instead of a target."""
        ...


class Metering:
    """The meter of one worker; made before the pool starts.

    Args:
        pool: The worker's own.
        kind: How it runs tasks.
        resources: Names of all resources that the policy mentions.
        connect: Makes the meter of the children.
        can_stop: Whether executions may be told to end.

    Attributes:
        metered: To be called by the pool instead of a target.
    """

    def __init__(
        self,
        pool: BasePool,
        kind: PoolKind,
        resources: tuple[str, ...],
        connect: Connect,
        *,
        can_stop: bool,
    ) -> None:
        self._pool = pool
        self._kind = kind
        self._board: Board = SharedBoard() if kind is PoolKind.PREFORK else LocalBoard()
        self._charged = charged(resources)
        self._runs = 0
        #: Of children by process id: as it was when it was asked for last.
        self._indexes: dict[int, int] = {}
        self.metered = connect(self._board, resources, kind, can_stop=can_stop)

    def begin(self, held: Held, *, is_degraded: bool) -> None:
        """Give a ticket's execution its number, and let its events tell what it used.

        The number's lowest bit tells that it is to do less.
        """
        self._runs += 2
        held.run = self._runs + is_degraded
        if seams.is_told(held.request):
            held.request.eventer = BillingEventer(held.request.eventer, held, self.usage)

    def read(self, held: Held) -> Usage | None:
        """Read what an execution has written so far; None when it has not begun or no child has it.

        A process that has gone must not be found here: its number may be that of another one.
        """
        index = self._index(held)
        if index is None and self._kind is PoolKind.PREFORK:
            return None
        return self._board.read(held.run, index)

    def ask(self, held: Held) -> bool:
        """Ask an execution to leave at its next checkpoint; tell whether it can be asked (yet)."""
        if self._kind is PoolKind.PREFORK and not seams.is_accepted(held.request):
            return False
        return self._board.put(Flag.YIELD, held.run, self._index(held))

    def evict(self, held: Held) -> bool:
        """Tell an execution to end; the signal is to follow. Tell whether it can be told (yet)."""
        usage = self.read(held)
        if usage is None or usage.is_final or usage.pid != held.request.worker_pid:
            return False  # not begun, or over
        return self._board.put(Flag.EVICT, held.run, self._index(held))

    def excuse(self, held: Held) -> None:
        """Ask it no longer."""
        self._board.take(Flag.YIELD, held.run, self._index(held))

    def stop(self, held: Held, notice: bytes) -> None:
        """Tell an execution in a child that it has to end; the signal is to follow."""
        index = self._index(held)
        if index is not None and isinstance(self._board, SharedBoard):
            self._board.stop(held.run, index, notice)

    def _index(self, held: Held) -> int | None:
        """Find the number of the child that runs it, if children do."""
        pid = getattr(held.request, "worker_pid", None)
        if self._kind is not PoolKind.PREFORK or pid is None:
            return None
        return seams.child_index(self._pool, pid)

    def usage(self, held: Held) -> dict[str, int]:
        """Tell what an execution has used, as far as that could be measured.

        Returns:
            Units by resource; the same object for the event of its end and for its settlement.
        """
        if held.usage is not None:
            return held.usage
        frozen_us = int(held.frozen_s * 1e6)
        elapsed_us = int((monotonic() - held.started) * 1e6) - frozen_us
        if held.request.worker_pid is None:  # no child has taken it
            return {"runtime": elapsed_us}
        read = self._ended(held)
        if read is None:
            return {"runtime": elapsed_us}
        used = read.units(self._charged)
        if read.is_final:
            if frozen_us and "runtime" in used:
                used["runtime"] = max(0, used["runtime"] - frozen_us)
            held.usage = used
        else:
            used["runtime"] = elapsed_us  # it still runs, or was killed and has told no end
        return used

    def _ended(self, held: Held) -> Usage | None:
        """Read what an execution has written; also when its child has gone.

        Its cell is most likely where that child's last one was. No other run has this number, so
        what is found there is not another's.
        """
        pid = held.request.worker_pid
        index = self._indexes.get(pid)
        read = None if index is None else self._board.read(held.run, index)
        if read is not None:
            return read
        index = self._index(held)
        if index is not None:
            if len(self._indexes) >= CELLS:
                self._indexes.clear()
            self._indexes[pid] = index
        return self._board.read(held.run, index)
