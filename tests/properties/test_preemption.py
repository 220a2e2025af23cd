"""Freezing on a virtual clock: whatever comes, nobody waits for lesser work, and nobody starves."""

from __future__ import annotations

import heapq
from itertools import count
from math import inf
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from celery_budget.core.decisions import Freeze, Reason, Start, Thaw, Wait
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.ticket import Ticket
from celery_budget.policy.model import Band
from celery_budget.policy.preemption import Method, PreemptionRule

BANDS = (
    Band("critical", 0, preempts=True),
    Band("urgent", 1, preempts=True),
    Band("important", 2, weight=4.0),
    Band("optional", 3, min_share=0.05),
)
RANK = {band.name: band.rank for band in BANDS}
FREEZABLE = (Method.FREEZE,)
MAX_FREEZE_S = 5.0
#: The clocks of a freeze and of a run are read at the same moment here.
ROUNDING_S = 1e-6


class Job(Ticket):
    """A ticket with the work it takes and what it has had of it."""

    work_s = 0.0
    done_s = 0.0
    began = inf
    ran_since: float | None = None
    frozen_s = 0.0
    longest_freeze_s = 0.0
    frozen_since = inf


class Worker:
    """A worker whose children run jobs on a virtual clock.

    Args:
        slots: Of the worker.
        spare: Children beside the slots.
        chance: Tells which freezes fail.
        refusal: Part of the freezes that fail.
        bands: By rank.
    """

    def __init__(
        self,
        slots: int,
        spare: int,
        chance: Random,
        refusal: float,
        bands: tuple[Band, ...] = BANDS,
    ) -> None:
        self.dispatcher = Dispatcher(
            bands, slots, preemption=PreemptionRule(spare=spare, max_freeze_s=MAX_FREEZE_S)
        )
        self.dispatcher.listen(["critical", "urgent"], 0.0)
        self.now = 1_000.0
        self.children: set[Job] = set()
        self.ended: list[Job] = []
        self.freezes = 0
        self._slots, self._spare = slots, spare
        self._chance, self._refusal = chance, refusal
        self._ids = count()
        self._look_at = inf

    def offer(self, band: str, work_s: float, *, freezable: bool) -> Job:
        """Let a job arrive."""
        job = Job(f"id-{next(self._ids)}", band, band, published=self.now)
        job.work_s = work_s
        job.methods = FREEZABLE if freezable else ()
        self.dispatcher.offer(job, self.now)
        self.decide()
        return job

    def decide(self) -> None:
        """Perform what the dispatcher says."""
        self._look_at = inf
        while (decision := self.dispatcher.decide(self.now)) is not None:
            if isinstance(decision, Wait):
                assert decision.until > self.now
                self._look_at = decision.until
                break
            job = decision.ticket
            assert isinstance(job, Job)
            if isinstance(decision, Start):
                self._start(job, decision.reason)
            elif isinstance(decision, Freeze):
                assert RANK[decision.cause.band] < RANK[job.band]
                assert BANDS[RANK[decision.cause.band]].preempts
                self._freeze(job)
            else:
                assert isinstance(decision, Thaw)
                assert job.ran_since is None
                job.ran_since = self.now
                job.frozen_s += self.now - job.frozen_since
                job.longest_freeze_s = max(job.longest_freeze_s, self.now - job.frozen_since)
        self._check()

    def _start(self, job: Job, reason: Reason) -> None:
        frozen = [other for other in self.children if other.ran_since is None]
        if reason is Reason.MIN_SHARE:  # goes before higher bands too
            frozen = [other for other in frozen if other.band == job.band]
        assert not [other for other in frozen if RANK[other.band] <= RANK[job.band]]
        job.began = job.ran_since = self.now
        self.children.add(job)

    def _freeze(self, job: Job) -> None:
        assert job.ran_since is not None
        if self._chance.random() < self._refusal:
            self.dispatcher.failed(job, self.now)
            return
        self.freezes += 1
        # It may be frozen for as long as it has run, and not be begun again before.
        assert job.frozen_s <= self.now - job.began - job.frozen_s + ROUNDING_S
        job.done_s += self.now - job.ran_since
        job.ran_since, job.frozen_since = None, self.now

    def _check(self) -> None:
        running = [job for job in self.children if job.ran_since is not None]
        assert len(self.children) <= self._slots + self._spare
        assert len(running) <= self._slots + self._spare
        idle = self._slots - len(running)
        frozen = len(self.children) - len(running)
        if frozen and idle > 0:
            # A ticket of a band that preempts waits a moment for messages of one above it.
            assert self._look_at < inf

    def advance(self, until: float) -> None:
        """Let time pass, with all that ends meanwhile."""
        while True:
            ends = [
                (job.ran_since + job.work_s - job.done_s, job.id, job)
                for job in self.children
                if job.ran_since is not None
            ]
            due = [
                job.frozen_since + MAX_FREEZE_S for job in self.children if job.ran_since is None
            ]
            at, _, job = min(ends, default=(inf, "", None))
            at_look = min([self._look_at, *due])
            if min(at, at_look) > until:
                break
            if at <= at_look:
                assert job is not None
                self.now = max(self.now, at)
                self.children.remove(job)
                self.ended.append(job)
                self.dispatcher.ended(job, self.now)
            else:
                self.now = max(self.now, at_look)
            self.decide()
        self.now = until


@given(
    seed=st.integers(0, 2**32),
    slots=st.integers(1, 4),
    spare=st.integers(1, 3),
    refusal=st.sampled_from([0.0, 0.0, 0.3]),
)
def test_whatever_comes_ends_and_nothing_is_frozen_for_ever(
    seed: int, slots: int, spare: int, refusal: float
) -> None:
    """No cycles, no lost slot, and each job is frozen for less than it runs and one stretch."""
    chance = Random(seed)
    worker = Worker(slots, spare, chance, refusal)
    jobs = []
    arrivals = [worker.now]
    for _ in range(chance.randint(1, 80)):
        arrivals.append(arrivals[-1] + chance.expovariate(chance.choice((1, 10, 100))))
    for at in arrivals:
        worker.advance(at)
        band = chance.choice(BANDS).name
        work_s = chance.expovariate(1 / chance.choice((0.01, 0.5, 3.0)))
        jobs.append(worker.offer(band, work_s, freezable=chance.random() < 0.8))
    worker.advance(worker.now + 10_000)

    assert not worker.children
    assert sorted(job.id for job in jobs) == sorted(job.id for job in worker.ended)
    assert worker.dispatcher.free == slots
    for job in jobs:
        assert job.longest_freeze_s <= MAX_FREEZE_S + ROUNDING_S
        assert job.frozen_s <= job.work_s + MAX_FREEZE_S + ROUNDING_S


@given(seed=st.integers(0, 2**32), slots=st.integers(1, 4))
def test_urgent_work_never_waits_while_something_can_give_way(seed: int, slots: int) -> None:
    """With a spare child for each slot, at most as many at once as there are slots."""
    chance = Random(seed)
    bands = (BANDS[0], Band("optional", 1))  # a minimum share would go before
    worker = Worker(slots, slots, chance, 0.0, bands)
    urgent = []
    for _ in range(slots * 2):
        worker.offer("optional", 1_000.0, freezable=True)
    busy: list[float] = []
    for _ in range(50):
        worker.advance(worker.now + chance.expovariate(5))
        while busy and busy[0] <= worker.now:
            heapq.heappop(busy)
        if len(busy) < slots:
            work_s = chance.uniform(0.001, 0.3)
            heapq.heappush(busy, worker.now + work_s)
            job = worker.offer("critical", work_s, freezable=False)
            urgent.append((job, worker.now))

    assert worker.freezes > 0
    assert all(job.began == at for job, at in urgent)
