"""The freezer: stops children of the prefork pool where they are, and lets them go on.

The dispatcher decides who gives way; here it is done, in the loop's thread. A frozen task keeps
its process, its memory and whatever it has locked; the clocks of its time limits stand still.
Mechanics and races: docs/explanation/preemption.md.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger

from celery_budget.worker import seams
from celery_budget.worker.tree import has_programs

if TYPE_CHECKING:
    from celery.concurrency.base import BasePool

    from celery_budget.worker.intake import Held

logger = get_logger(__name__)


class Freezer:
    """What is frozen on one worker.

    Args:
        pool: The worker's own, of children, each with a pipe of its own.
        hub: Has the timers of the time limits.
        thawed: Told of a task that had to go on because of a signal.

    Attributes:
        freezes: How many tasks were frozen since the worker started.
    """

    def __init__(
        self,
        pool: BasePool,
        hub: Any,
        thawed: Callable[[Held], None],
    ) -> None:
        self.freezes = 0
        self._pool = pool
        self._hub = hub
        self._thawed = thawed
        self._frozen: dict[Held, seams.TimeLimit | None] = {}

    def freeze(self, held: Held) -> bool:
        """Stop a task where it is; tell whether it could be.

        Not one of which the pool has not heard that it began, and not one that has started
        programs: those would run on, or, stopped with it, outlive a worker that is killed.
        """
        pid = held.request.worker_pid
        if pid is None or not seams.is_accepted(held.request) or not seams.stop(self._pool, pid):
            return False
        if has_programs(pid):
            seams.go_on(self._pool, pid)
            return False
        self._frozen[held] = seams.hold_limit(self._pool, self._hub, held.request)
        held.frozen_at = monotonic()
        self.freezes += 1
        logger.debug("Task %s[%s] is frozen.", held.task, held.id)
        return True

    def thaw(self, held: Held) -> None:
        """Let a frozen task go on; also one that has ended, as its child takes the next."""
        if held not in self._frozen:
            return
        limit = self._frozen.pop(held)
        # The signal may have come when the task had just ended: an idle child has to go on too.
        seams.go_on(self._pool, held.request.worker_pid)
        held.frozen_s += monotonic() - held.frozen_at
        held.frozen_at = 0.0
        if limit is not None:
            seams.release_limit(self._pool, self._hub, held.request, limit)
        logger.debug("Task %s[%s] goes on.", held.task, held.id)

    def release(self, pid: int) -> None:
        """Let the task in a child go on that gets a signal: it takes none while it is stopped."""
        for held in [held for held in self._frozen if held.request.worker_pid == pid]:
            self.thaw(held)
            self._thawed(held)

    def close(self) -> None:
        """Let everything go on: the worker waits for what runs, or ends it."""
        for held in list(self._frozen):
            self.thaw(held)
            self._thawed(held)
