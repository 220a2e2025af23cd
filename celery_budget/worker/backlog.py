"""The backlog: how much waits in the broker for the bands of one worker, and for how long.

Asked for in a thread with a connection of its own, now and then. Only workers that throttle lesser
bands for one with a `latency_target`, or whose pool follows the load, have one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from threading import Event, Thread
from time import monotonic, time
from typing import TYPE_CHECKING

from celery.utils.log import get_logger

from celery_budget.core.shortage import Queued
from celery_budget.producer.depths import PART
from celery_budget.producer.sounding import Sounding
from celery_budget.worker import seams
from celery_budget.worker.heads import Heads

if TYPE_CHECKING:
    from celery.worker.consumer import Consumer
    from kombu import Queue

    from celery_budget.policy.model import Policy
    from celery_budget.worker.pump import Pump

logger = get_logger(__name__)

#: Between two looks, seconds, and after a failure. A throttle follows once a second. A look takes
#: 0.3 ms a queue at most (loopback, 2026-11).
PERIOD_S = 1.0
LOST_S = 10.0


class Backlog:
    """What waits in the broker, as it was a moment ago.

    Args:
        consumer: Of the worker.
        pump: The same.
        policy: Gives the policy that holds now.
        workers: Tells how many share what waits; 0: nobody knows.

    Attributes:
        is_whole: Whether the depths of all bands are wanted.
        found: By name of the band, of the last look.
    """

    def __init__(
        self,
        consumer: Consumer,
        pump: Pump,
        policy: Callable[[], Policy],
        workers: Callable[[], int],
    ) -> None:
        self._consumer = consumer
        self._pump = pump
        self._policy = policy
        self._workers = workers
        self._queues: tuple[tuple[str, Queue], ...] = ()
        self._heads = Heads()
        self._is_closed = Event()
        self._thread: Thread | None = None
        self._told_lost = False
        self.is_whole = False
        self.found: Mapping[str, Queued] = {}

    @property
    def shared(self) -> Mapping[str, float]:
        """Messages that count for this worker, by name of the band."""
        workers = max(1, self._workers())
        return {band: queued.messages / workers for band, queued in self.found.items()}

    def look(self) -> None:
        """Tell the dispatcher what was found last, and what to look at; called in the loop."""
        self._queues = tuple(self._wanted())
        if self._queues and self._thread is None:
            self._thread = Thread(target=self._watch, name="celery-budget backlog", daemon=True)
            self._thread.start()
        self._pump.dispatcher.see(self.found)

    def _wanted(self) -> Iterable[tuple[str, Queue]]:
        """Give the queues to look at, with the names of their bands."""
        policy = self._policy()
        bands = {band.name for band in policy.bands}
        if not self.is_whole:
            # Without windows, messages wait in the worker as well, in numbers that say nothing.
            lowest = max((b.rank for b in policy.bands if not b.preempts), default=-1)
            has_windows = self._pump.channels is not None
            bands = {
                band.name
                for band in policy.bands
                if has_windows and band.latency_target is not None and band.rank < lowest
            }
        consumer = self._consumer.task_consumer
        for queue in list(consumer.queues) if bands and consumer is not None else ():
            band = policy.owner(queue.name)
            if band in bands:
                yield band, queue

    def close(self) -> None:
        """End for good; a question under way is not waited for."""
        self._is_closed.set()

    def _watch(self) -> None:
        while not self._is_closed.is_set():
            if not self._queues:
                self.found = {}
                self._is_closed.wait(PERIOD_S)
                continue
            connection = self._consumer.app.connection_for_read()
            try:
                with connection, Sounding(connection) as sounding:
                    self._look_on(sounding, is_redis=connection.transport.driver_type == "redis")
            except connection.connection_errors + connection.channel_errors as error:
                self.found = {}
                if not self._told_lost:
                    self._told_lost = True
                    logger.warning(
                        "The depths of queues cannot be read: %r. Until they can, this worker goes "
                        "by what it has itself.",
                        error,
                    )
                self._is_closed.wait(LOST_S)

    def _look_on(self, sounding: Sounding, *, is_redis: bool) -> None:
        """Look again and again, as long as there are queues to look at."""
        while (queues := self._queues) and not self._is_closed.is_set():
            begun, now = monotonic(), time()
            bands = {queue.name: band for band, queue in queues}
            oldest: dict[str, float] = {}
            if is_redis:
                depths = seams.redis_depths(sounding.channel, list(bands))
                oldest = self._heads.oldest(sounding.channel, self._timed(bands, depths))
            else:
                depths = {queue.name: sounding.depth(queue) for _, queue in queues}
            messages = dict.fromkeys(bands.values(), 0)
            for name, band in bands.items():
                messages[band] += depths[name]
            workers = self._workers()
            self.found = {
                band: Queued(count, max(0.0, now - oldest.get(band, now)), now, workers)
                for band, count in messages.items()
            }
            self._told_lost = False
            self._is_closed.wait(max(PERIOD_S, (monotonic() - begun) / PART))

    def _timed(self, bands: Mapping[str, str], depths: Mapping[str, int]) -> dict[str, str]:
        """Choose the queues whose ages count: with messages, of bands with a target."""
        timed = {band.name for band in self._policy().bands if band.latency_target is not None}
        return {name: band for name, band in bands.items() if depths[name] and band in timed}
