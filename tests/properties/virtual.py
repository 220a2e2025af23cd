"""A worker on a virtual clock: the dispatcher's own code between simulated pool and broker.

Used by the simulations in this folder. Nothing here decides; it only lets time pass.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate, count
from math import inf
from random import Random

from hypothesis import settings

from celery_budget.core.decisions import Expire, Reason, Wait
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.ticket import Ticket
from celery_budget.policy.model import Band

#: When every simulation begins, Unix seconds.
BEGIN = 1_700_000_000.0


class Job(Ticket):
    """A ticket that knows how long it will run, seconds."""

    __slots__ = ("length_s",)

    length_s: float


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
    made = Job(name or f"job-{next(_numbers)}", band, band, tenant, inf, expires, now)
    made.length_s = length_s
    return made


@dataclass(slots=True)
class Run:
    """One execution: Unix seconds; `ended` is inf while it goes on."""

    job: Job
    reason: Reason
    started: float
    ended: float = inf


class VirtualWorker:
    """Performs the dispatcher's decisions and lets jobs run for as long as they say.

    Args:
        bands: By rank.
        slots: Of the pool.
        rng: Decides how long messages are under way.
        delay_s: Least and longest time of a message from being asked for to its arrival, for
            each band of that name, or for all under "".
    """

    def __init__(
        self,
        bands: Sequence[Band],
        slots: int,
        *,
        rng: Random | None = None,
        delay_s: dict[str, tuple[float, float]] | None = None,
    ) -> None:
        self.now = BEGIN
        self.dispatcher = Dispatcher(bands, slots)
        self.runs: list[Run] = []
        self.expired: list[Job] = []
        self._rng = rng or Random(0)
        self._delay_s = delay_s or {"": (0.001, 0.003)}
        self._names = [band.name for band in bands]
        self._queues: dict[str, deque[Job]] = {name: deque() for name in self._names}
        self._makers: dict[str, Callable[[], Job]] = {}
        self._under_way = dict.fromkeys(self._names, 0)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._fillers: list[Callable[[], None]] = []
        self._order = count()
        self._is_timed = False
        self._has_broker = False

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Let something happen at a time."""
        heappush(self._events, (time, next(self._order), action))

    def hold(self, job: Job) -> None:
        """Put a job into the worker's reach at once."""
        self.dispatcher.offer(job, self.now)

    def publish(self, job: Job) -> None:
        """Put a job into the broker: it comes when the worker's window asks for it."""
        self._connect()
        self._queues[job.band].append(job)

    def keep_full(self, band: str, make: Callable[[], Job], *, held: int | None = None) -> None:
        """Let a band's backlog never end.

        Args:
            band: Of the worker.
            make: Makes the next job.
            held: So many are in the worker's reach at any time; None: they wait in the broker.
        """
        self._makers[band] = make
        if held is None:
            self._connect()
            return

        def fill() -> None:
            while self._makers.get(band) is make and self.dispatcher.held(band) < held:
                self.hold(make())

        self._fillers.append(fill)

    def stop(self, band: str) -> None:
        """End a backlog that `keep_full` began."""
        del self._makers[band]

    def _connect(self) -> None:
        if not self._has_broker:
            self._has_broker = True
            self.dispatcher.listen(self._names, self.now)

    def run(self, seconds: float) -> list[Run]:
        """Let time pass; give all executions since the beginning."""
        until = self.now + seconds
        self._turn()
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heappop(self._events)
            action()
            self._turn()
        self.now = until
        return self.runs

    def _turn(self) -> None:
        for fill in self._fillers:
            fill()
        self._pump()
        if self._has_broker:
            self._fetch()

    def _pump(self) -> None:
        while (decision := self.dispatcher.decide(self.now)) is not None:
            if isinstance(decision, Wait):
                if not self._is_timed:
                    self._is_timed = True
                    self.at(decision.until, self._time_is_up)
                return
            ticket = decision.ticket
            assert isinstance(ticket, Job)
            if isinstance(decision, Expire):
                self.expired.append(ticket)
                continue
            run = Run(ticket, decision.reason, self.now)
            self.runs.append(run)
            self.at(self.now + ticket.length_s, lambda run=run: self._end(run))  # type: ignore[misc]

    def _time_is_up(self) -> None:
        self._is_timed = False

    def _end(self, run: Run) -> None:
        run.ended = self.now
        self.dispatcher.ended(run.job, self.now)

    def _fetch(self) -> None:
        for band in self._names:
            queue, make = self._queues[band], self._makers.get(band)
            for _ in range(self.dispatcher.window(band) - self._under_way[band]):
                if queue:
                    fetched = queue.popleft()
                elif make is not None:
                    fetched = make()
                else:
                    break
                self._under_way[band] += 1
                delay = self._rng.uniform(*self._delay_s.get(band, self._delay_s.get("", (0, 0))))
                self.at(self.now + delay, lambda job=fetched: self._arrive(job))  # type: ignore[misc]

    def _arrive(self, job: Job) -> None:
        self._under_way[job.band] -= 1
        self.hold(job)


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
