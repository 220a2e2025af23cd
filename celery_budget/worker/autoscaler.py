"""An autoscaler that follows what waits, for how long, how it ends, and what the node has left.

    app.conf.worker_autoscaler = "celery_budget.worker.autoscaler:BudgetAutoscaler"

    celery -A shop worker --autoscale 16,2

Celery's own counts the tasks that a worker has, and a worker with bands has no more than it has
slots. Where `install` was not called, or the policy is empty, this one does what Celery's does.
"""

from __future__ import annotations

from typing import Any

from celery.worker.autoscale import Autoscaler

from celery_budget.core.scaling import Load, Scaler
from celery_budget.worker.control import steps


class BudgetAutoscaler(Autoscaler):
    """Grows and shrinks the pool of one worker; for the setting `worker_autoscaler`.

    Attributes:
        scaler: Decides.

    .. versionadded:: 0.1
    """

    #: Tells the worker's bootstep to let it follow the load.
    is_budgeted = True

    def __init__(
        self, pool: Any, max_concurrency: int, min_concurrency: int = 0, **options: Any
    ) -> None:
        super().__init__(pool, max_concurrency, min_concurrency, **options)
        self.scaler = Scaler(min_concurrency, max_concurrency)

    def maybe_scale(self, req: Any = None) -> None:
        """Do what Celery's does, for a worker without bands; with them `follow` does it."""
        if self.worker.consumer not in steps:
            super().maybe_scale(req)

    def follow(self, load: Load, now: float) -> None:
        """Give the pool as many slots as the load takes, within the limits; called each second.

        Args:
            load: As it is now.
            now: Seconds, monotonic.
        """
        # `celery control autoscale` changes them.
        self.scaler.least, self.scaler.most = self.min_concurrency, self.max_concurrency
        change = self.scaler.step(load, now) - load.slots
        if change > 0:
            self._grow(change)
        elif change < 0:
            self._shrink(-change)
        if change:
            self.pool.maintain_pool()

    def info(self) -> dict[str, Any]:
        """Tell what `celery inspect stats` shows of it."""
        return {**super().info(), "needed": self.scaler.needed}
