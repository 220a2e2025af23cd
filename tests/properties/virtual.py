"""One worker of the simulation, fed by hand, and what its bands were served.

Used by the simulations in this folder. Nothing here decides.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, count
from math import inf
from random import Random

from hypothesis import settings

from celery_budget.policy.model import Band, Policy
from celery_budget.simulate.broker import Queue
from celery_budget.simulate.clock import BEGIN
from celery_budget.simulate.job import Job, Run
from celery_budget.simulate.worker import SimulatedWorker
from celery_budget.simulate.world import World

_numbers = count(1)


def job(
    band: str,
    length_s: float,
    *,
    now: float = BEGIN,
    tenant: str = "",
    expires: float = inf,
    name: str = "",
) -> Job:
    """Make a job, published now, of a task type of its band's own."""
    return Job(
        name or f"job-{next(_numbers)}", band, band, tenant, inf, expires, now, length_s=length_s
    )


class Endless(Queue):
    """A queue that is never empty, until it is stopped."""

    def __init__(self, make: Callable[[], Job]) -> None:
        super().__init__()
        self._make = make
        self.is_stopped = False

    def __bool__(self) -> bool:
        return len(self) > 0 or not self.is_stopped

    def take(self) -> Job | None:
        """Take the first, or a new one."""
        if len(self) > 0:
            return self.popleft()
        return None if self.is_stopped else self._make()


class VirtualWorker(SimulatedWorker):
    """A worker alone in its world, with backlogs that never end.

    Args:
        bands: By rank.
        slots: Of the pool.
        rng: Decides how long messages are under way.
        delay_s: As for a `Broker`.
    """

    def __init__(
        self,
        bands: Sequence[Band],
        slots: int,
        *,
        rng: Random | None = None,
        delay_s: dict[str, tuple[float, float]] | None = None,
    ) -> None:
        policy = Policy(bands=tuple(bands), default_band=bands[0].name)
        seed = 0 if rng is None else rng.randrange(2**32)
        self.world = World(policy, seed=seed, delay_s=delay_s)
        self._fillers: dict[str, Callable[[], None]] = {}
        self._is_open = False
        super().__init__(self.world, "only", slots)

    @property
    def now(self) -> float:
        """Unix seconds."""
        return self.world.clock.now

    @property
    def runs(self) -> list[Run]:
        """All executions since the beginning."""
        return self.world.runs

    @property
    def expired(self) -> list[Job]:
        """All jobs whose time was over."""
        return self.world.expired

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Let something happen at a time, after which the worker looks."""

        def act() -> None:
            action()
            self.turn()

        self.world.clock.at(time, act)

    def hold(self, job: Job) -> None:
        """Put a job into the worker's reach, before it looks again."""
        self.dispatcher.offer(job, self.now)

    def _arrive(self, job: Job) -> None:
        super()._arrive(job)
        self.turn()

    def publish(self, job: Job) -> None:
        """Put a job into the broker: it comes when the worker's window asks for it."""
        self._connect()
        self.world.broker.queues[job.band].append(job)

    def keep_full(self, band: str, make: Callable[[], Job], *, held: int | None = None) -> None:
        """Let a band's backlog never end.

        Args:
            band: Of the worker.
            make: Makes the next job.
            held: So many are in the worker's reach at any time; None: they wait in the broker.
        """
        if held is None:
            self._connect()
            self.world.broker.queues[band] = Endless(make)
            return

        def fill() -> None:
            while self.dispatcher.held(band) < held:
                self.hold(make())

        self._fillers[band] = fill

    def stop(self, band: str) -> None:
        """End a backlog that `keep_full` began."""
        self._fillers.pop(band, None)
        queue = self.world.broker.queues[band]
        if isinstance(queue, Endless):
            queue.is_stopped = True

    def _connect(self) -> None:
        if not self._is_open:
            self._is_open = True
            self.open()

    def _fetch(self, band: str) -> None:
        if self._is_open:
            super()._fetch(band)

    def turn(self) -> None:
        """Fill up, and then look."""
        for fill in self._fillers.values():
            fill()
        super().turn()

    def run(self, seconds: float) -> list[Run]:
        """Let time pass; give all executions since the beginning."""
        self.turn()
        self.world.clock.run(seconds)
        return self.world.runs


class Served:
    """Slot time that a band got since the beginning, as a function of time."""

    def __init__(self, runs: Sequence[Run], band: str, until: float) -> None:
        steps: list[tuple[float, int]] = []
        for run in runs:
            if run.job.band == band:
                steps += [(run.started, 1), (min(run.ended, until), -1)]
        steps.sort()
        self.times = [BEGIN, *(time for time, _ in steps), until]
        running = [0, *accumulate(change for _, change in steps)]
        parts = (
            slots * (after - before)
            for slots, before, after in zip(running, self.times, self.times[1:], strict=False)
        )
        self._sums = [0.0, *accumulate(parts)]

    def at(self, time: float) -> float:
        """Slot-seconds until a time."""
        place = bisect_right(self.times, time) - 1
        if place + 1 == len(self.times):
            return self._sums[-1]
        before, after = self.times[place], self.times[place + 1]
        part = (time - before) / (after - before) if after > before else 0.0
        return self._sums[place] + part * (self._sums[place + 1] - self._sums[place])

    def between(self, begin: float, end: float) -> float:
        """Slot-seconds in a stretch of time."""
        return self.at(end) - self.at(begin)

    def least(self, span: float, begin: float, end: float) -> float:
        """Slot-seconds in the worst span of that length: of all, not of some samples.

        What a span gets changes its slope only where the span begins or ends at a start or end.
        """
        begins = {begin, end - span}
        begins |= {time for time in self.times if begin <= time <= end - span}
        begins |= {time - span for time in self.times if begin <= time - span <= end - span}
        return min(self.between(time, time + span) for time in begins)


Length = Callable[[], float]


def repeatable(examples: int) -> settings:
    """Try so many examples, the same ones in each run."""
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None)


def lengths(rng: Random, longest_s: float, kind: str) -> Length:
    """Draw service times up to a bound: evenly, mostly short, or one of two."""
    if kind == "even":
        return lambda: rng.uniform(0.02 * longest_s, longest_s)
    if kind == "short":
        return lambda: min(longest_s, max(0.02 * longest_s, rng.expovariate(4 / longest_s)))
    return lambda: longest_s if rng.random() < 0.4 else 0.05 * longest_s


def fill(
    worker: VirtualWorker, band: str, length: Length, held: int | None, tenant: str = ""
) -> None:
    """Give a band a backlog that never ends."""
    worker.keep_full(band, lambda: job(band, length(), now=worker.now, tenant=tenant), held=held)
