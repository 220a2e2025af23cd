"""Scaling, the worker's side: gathers the load of a worker whose autoscaler follows it."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, time
from typing import TYPE_CHECKING

from celery_budget.core.scaling import Load
from celery_budget.worker.slots import Outcomes

if TYPE_CHECKING:
    from celery_budget.worker.autoscaler import BudgetAutoscaler
    from celery_budget.worker.backlog import Backlog
    from celery_budget.worker.pump import Pump


class PoolScaling:
    """Lets the pool of one worker follow its load.

    Args:
        autoscaler: Of the worker.
        pump: The same.
        backlog: What waits in the broker; of all bands from now on.
    """

    def __init__(self, autoscaler: BudgetAutoscaler, pump: Pump, backlog: Backlog) -> None:
        self._autoscaler = autoscaler
        self._pump = pump
        self._outcomes = Outcomes()
        self._backlog = backlog
        backlog.is_whole = True

    @property
    def needed(self) -> int:
        """Slots that the work of this worker takes, whatever it may have."""
        return self._autoscaler.scaler.needed

    def open(self, _wake: Callable[[], None]) -> None:
        """Begin to look at how tasks end; again after a reconnect."""
        self._pump.pool.outcomes = self._outcomes

    def look(self) -> None:
        """Let the pool follow; called each second, in the loop."""
        with self._pump.lock:
            load = self._load()
        self._autoscaler.follow(load, monotonic())

    def _load(self) -> Load:
        dispatcher = self._pump.dispatcher
        return Load(
            dispatcher.slots,
            dispatcher.slots - dispatcher.free,
            dispatcher.work_s(self._backlog.shared),
            dispatcher.age_s(time()),
            self._outcomes.take(),
            dispatcher.need or 0.0,
        )
