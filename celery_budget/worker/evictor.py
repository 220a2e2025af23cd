"""The evictor: ends running tasks that said they may be run again, so that others get their slots.

First softly, by the signal of soft time limits, so that the body can clean up; after a grace its
process is killed. Either way it counts as having left, and never as failed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from celery.utils.log import get_logger

from celery_budget.board import YIELDED
from celery_budget.worker import seams
from celery_budget.worker.tree import ProcessTree

if TYPE_CHECKING:
    from celery.concurrency.base import BasePool

    from celery_budget.worker.intake import Held
    from celery_budget.worker.metering import Metering

logger = get_logger(__name__)


class Evictor:
    """What is being evicted on one worker.

    Args:
        pool: The worker's own, of children.
        metering: Reaches executions.
        grace_s: From the signal to the kill, seconds.
        call_after: Calls a function in so many seconds, in the loop's thread.

    Attributes:
        evictions: How many tasks have left because of it since the worker started.
    """

    def __init__(
        self,
        pool: BasePool,
        metering: Metering,
        grace_s: float,
        call_after: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self.evictions = 0
        self._pool = pool
        self._metering = metering
        self._grace_s = grace_s
        self._call_after = call_after
        self._going: set[Held] = set()

    def evict(self, held: Held, why: str) -> bool:
        """Tell a task to end; tell whether it can be told (yet).

        Args:
            held: Runs.
            why: In words, for the log.
        """
        pid = held.request.worker_pid
        if pid is None or not self._metering.evict(held):
            return False
        logger.info("Task %s[%s] is evicted %s.", held.task, held.id, why)
        self._going.add(held)
        seams.tell(self._pool, pid)
        self._call_after(self._grace_s, partial(self._kill, held))
        return True

    def _kill(self, held: Held) -> None:
        if held not in self._going:
            return
        logger.warning(
            "Task %s[%s] has not ended within %.1f s of being evicted, and is killed.",
            held.task,
            held.id,
            self._grace_s,
        )
        pid = held.request.worker_pid
        ProcessTree(pid).kill()
        seams.kill(self._pool, pid)
        seams.end(held.request, YIELDED)

    def ended(self, held: Held) -> bool:
        """Take note that a task has ended; tell whether it was evicted."""
        if held not in self._going:
            return False
        self._going.discard(held)
        self.evictions += held.has_left
        return True
