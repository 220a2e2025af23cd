"""Scaling, the worker's side: gathers the load of a worker whose autoscaler follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic, time
from typing import TYPE_CHECKING

from celery_budget.core.scaling import Load
from celery_budget.worker.backlog import Backlog
from celery_budget.worker.slots import Outcomes

if TYPE_CHECKING:
    from celery.worker.consumer import Consumer
    from kombu import Queue

    from celery_budget.policy.model import Policy
    from celery_budget.worker.autoscaler import BudgetAutoscaler
    from celery_budget.worker.pump import Pump


class PoolScaling:
    """Lets the pool of one worker follow its load.

    Args:
        autoscaler: Of the worker.
        consumer: The same.
        pump: The same.
        policy: Gives the policy that holds now.
        workers: Tells how many share the backlog.
    """

    def __init__(
        self,
        autoscaler: BudgetAutoscaler,
        consumer: Consumer,
        pump: Pump,
        policy: Callable[[], Policy],
        workers: Callable[[], int],
    ) -> None:
        self._autoscaler = autoscaler
        self._consumer = consumer
        self._pump = pump
        self._policy = policy
        self._workers = workers
        self._outcomes = Outcomes()
        self._backlog = Backlog(consumer.app, self._queues)

    @property
    def needed(self) -> int:
        """Slots that the work of this worker takes, whatever it may have."""
        return self._autoscaler.scaler.needed

    def open(self, _wake: Callable[[], None]) -> None:
        """Begin to look at the broker, and at how tasks end; again after a reconnect."""
        self._pump.pool.outcomes = self._outcomes
        self._backlog.open()

    def close(self) -> None:
        """End for good."""
        self._backlog.close()

    def look(self) -> None:
        """Let the pool follow; called each second, in the loop."""
        with self._pump.lock:
            load = self._load()
        self._autoscaler.follow(load, monotonic())

    def _queues(self) -> Iterator[tuple[str, Queue]]:
        policy = self._policy()
        consumer = self._consumer.task_consumer
        for queue in [] if consumer is None else list(consumer.queues):
            band = policy.owner(queue.name)
            if band is not None:
                yield band, queue

    def _load(self) -> Load:
        dispatcher = self._pump.dispatcher
        shared = max(1, self._workers())
        queued = {band: depth / shared for band, depth in self._backlog.waiting.items()}
        return Load(
            dispatcher.slots,
            dispatcher.slots - dispatcher.free,
            dispatcher.work_s(queued),
            dispatcher.age_s(time()),
            self._outcomes.take(),
            dispatcher.need or 0.0,
        )
