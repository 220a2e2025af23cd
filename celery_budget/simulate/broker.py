"""The broker of a simulation: one queue a band, and messages that take their time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from random import Random

from celery_budget.core.shortage import Queued
from celery_budget.simulate.clock import Clock
from celery_budget.simulate.job import Job

#: How long a message is under way at least and at most, seconds: Redis and RabbitMQ on one machine
#: (tests/benchmarks/throughput.py, 2026-11).
DELAY_S = 0.001, 0.003


class Queue(deque[Job]):
    """What waits for the workers of one band, in order of arrival."""

    def take(self) -> Job | None:
        """Take the first; None when there is none."""
        return self.popleft() if self else None


class Broker:
    """All queues, and who is told when something comes.

    Args:
        clock: Of the simulation.
        bands: Names.
        chance: Decides how long messages are under way.
        delay_s: Least and longest time of a message from being asked for to its arrival, for
            each band of that name, or for all under "".

    Attributes:
        queues: By name of the band. One of them may be replaced by another that can `take`.
    """

    def __init__(
        self,
        clock: Clock,
        bands: Iterable[str],
        chance: Random,
        delay_s: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        self.queues: dict[str, Queue] = {name: Queue() for name in bands}
        self._clock = clock
        self._chance = chance
        self._delay_s = {"": DELAY_S, **(delay_s or {})}
        self._consumers: list[Callable[[str], object]] = []

    def consume(self, consumer: Callable[[str], object]) -> None:
        """Tell a worker, by name of the band, when something comes that it may ask for."""
        self._consumers.append(consumer)

    def look(self, workers: int) -> dict[str, Queued]:
        """Tell what waits for each band, as a worker sees it from outside.

        Args:
            workers: How many share it.
        """
        now = self._clock.now
        found = {}
        for band, queue in self.queues.items():
            first = queue[0] if len(queue) and not queue[0].is_redelivered else None
            age_s = 0.0 if first is None else max(0.0, now - first.published)
            found[band] = Queued(len(queue), age_s, now, workers)
        return found

    def publish(self, job: Job) -> None:
        """Put a job at the end of its band's queue."""
        self.queues[job.band].append(job)
        self._tell(job.band)

    def give_back(self, job: Job) -> None:
        """Put a job at the front of its band's queue."""
        job.is_redelivered = True
        self.queues[job.band].appendleft(job)
        self._tell(job.band)

    def _tell(self, band: str) -> None:
        consumers = list(self._consumers)
        # Another one is asked first the next time, as brokers take turns.
        self._consumers = consumers[1:] + consumers[:1]
        for consumer in consumers:
            if not self.queues[band]:
                return
            consumer(band)

    def delay_s(self, band: str) -> float:
        """Draw how long a message of a band is under way, seconds."""
        return self._chance.uniform(*self._delay_s.get(band, self._delay_s[""]))

    def fetch(self, band: str, most: int, arrive: Callable[[Job], object]) -> int:
        """Send a worker messages of a band; tell how many are on their way.

        Args:
            band: Its name.
            most: As many as the worker asks for.
            arrive: Called with each when it has come.
        """
        queue = self.queues[band]
        for sent in range(most):
            job = queue.take()
            if job is None:
                return sent
            self._clock.after(self.delay_s(band), lambda job=job: arrive(job))  # type: ignore[misc]
        return max(0, most)
