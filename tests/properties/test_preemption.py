"""Preemption on a virtual clock: urgent work does not wait for lesser, and nobody starves."""

from __future__ import annotations

import heapq
from itertools import count
from math import inf
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from celery_budget.core.decisions import Evict, Freeze, Reason, Start, Stay, Thaw, Wait, Yield
from celery_budget.core.departures import EVICT_REST_S, MOST_REST_S, REST_S
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
LEAVING = (Method.CHECKPOINT,)
EVICTABLE = (Method.EVICT,)
WAYS = (
    (),
    FREEZABLE,
    LEAVING,
    EVICTABLE,
    FREEZABLE + LEAVING,
    LEAVING + FREEZABLE,
    LEAVING + EVICTABLE,
    LEAVING + FREEZABLE + EVICTABLE,
)
#: An evicted task takes at most so long to clean up.
CLEAN_UP_S = 0.5
#: What was asked to leave comes back through the broker after so long.
RETURN_S = 0.002
#: Decisions at one moment: each of them starts, ends or asks something, or is a slip.
MOST_DECISIONS = 1_000
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
    #: Between two checkpoints.
    step_s = inf
    is_asked = is_evicted = False
    times_left = 0
    leaves_at = inf


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
            bands,
            slots,
            preemption=PreemptionRule(max_freeze_s=MAX_FREEZE_S),
            ways=frozenset(Method),
            spare=spare,
        )
        self.dispatcher.listen(["critical", "urgent"], 0.0)
        self.now = 1_000.0
        self.children: set[Job] = set()
        self.ended: list[Job] = []
        self.freezes = self.departures = 0
        self.returning: list[tuple[float, str, Job]] = []
        self._slots, self._spare = slots, spare
        self._chance, self._refusal = chance, refusal
        self._ids = count()
        self._look_at = inf

    def offer(
        self, band: str, work_s: float, methods: tuple[Method, ...] = (), step_s: float = inf
    ) -> Job:
        """Let a job arrive."""
        job = Job(f"id-{next(self._ids)}", band, band, published=self.now)
        job.work_s, job.step_s = work_s, step_s
        job.methods = methods
        self.dispatcher.offer(job, self.now)
        self.decide()
        return job

    def decide(self) -> None:
        """Perform what the dispatcher says."""
        self._look_at = inf
        for _ in range(MOST_DECISIONS):
            decision = self.dispatcher.decide(self.now)
            if decision is None:
                break
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
            elif isinstance(decision, Yield):
                assert RANK[decision.cause.band] < RANK[job.band]
                self._ask(job)
            elif isinstance(decision, Evict):
                assert RANK[decision.cause.band] < RANK[job.band]
                self._evict(job)
            elif isinstance(decision, Stay):
                assert job.is_asked
                job.is_asked, job.leaves_at = False, inf
            else:
                assert isinstance(decision, Thaw)
                assert job.ran_since is None
                job.ran_since = self.now
                job.frozen_s += self.now - job.frozen_since
                job.longest_freeze_s = max(job.longest_freeze_s, self.now - job.frozen_since)
                self._plan(job)
        else:
            raise AssertionError("it decides for ever")
        self._check()

    def _ask(self, job: Job) -> None:
        assert not job.is_asked
        if self._chance.random() < self._refusal:
            self.dispatcher.failed(job, self.now)
            return
        # The more often it has left, the longer it is left alone.
        assert self.now - job.began >= min(REST_S * job.times_left, MOST_REST_S) - ROUNDING_S
        job.is_asked = True
        self._plan(job)

    def _evict(self, job: Job) -> None:
        assert not job.is_evicted
        assert job.ran_since is not None
        if self._chance.random() < self._refusal:
            self.dispatcher.failed(job, self.now)
            job.is_asked, job.leaves_at = False, inf
            return
        if job.times_left:
            assert self.now - job.began >= EVICT_REST_S * 2 ** (job.times_left - 1) - ROUNDING_S
        job.is_evicted = True
        job.leaves_at = self.now + self._chance.uniform(0.0, CLEAN_UP_S)

    def _plan(self, job: Job) -> None:
        """Find the moment at which a job comes to its next checkpoint."""
        assert not job.is_evicted
        if job.is_asked and job.ran_since is not None and job.step_s < inf:
            done = job.done_s + self.now - job.ran_since
            job.leaves_at = self.now + job.step_s - done % job.step_s

    def _leave(self, job: Job) -> None:
        """Let a job end at a checkpoint, and come back with what is left to do."""
        assert job.ran_since is not None
        self.departures += 1
        self.children.remove(job)
        self.dispatcher.ended(job, self.now, has_left=True)
        rest = Job(job.id, job.band, job.band, published=job.published)
        rest.work_s = job.work_s
        if not job.is_evicted:
            rest.work_s -= job.done_s + self.now - job.ran_since
        rest.step_s, rest.methods, rest.times_left = job.step_s, job.methods, job.times_left + 1
        heapq.heappush(self.returning, (self.now + RETURN_S, rest.id, rest))

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
        job.leaves_at = inf

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
            leaving = min(self.children, key=lambda child: child.leaves_at, default=None)
            at_leave = inf if leaving is None else leaving.leaves_at
            at_return = self.returning[0][0] if self.returning else inf
            if min(at, at_look, at_leave, at_return) > until:
                break
            if at_return <= min(at, at_look, at_leave):
                self.now = max(self.now, at_return)
                self.dispatcher.offer(heapq.heappop(self.returning)[2], self.now)
            elif leaving is not None and at_leave < min(at, at_look):
                self.now = at_leave
                self._leave(leaving)
            elif at <= at_look:
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
    """No cycles, no lost slot, and each job is frozen for less than it runs and one stretch.

    What left comes back and ends, too, and is asked the less often, the more often it has left.
    """
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
        step_s = chance.choice((0.001, 0.05, 1.0, inf))
        jobs.append(worker.offer(band, work_s, chance.choice(WAYS), step_s))
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
        worker.offer("optional", 1_000.0, FREEZABLE)
    busy: list[float] = []
    for _ in range(50):
        worker.advance(worker.now + chance.expovariate(5))
        while busy and busy[0] <= worker.now:
            heapq.heappop(busy)
        if len(busy) < slots:
            work_s = chance.uniform(0.001, 0.3)
            heapq.heappush(busy, worker.now + work_s)
            job = worker.offer("critical", work_s)
            urgent.append((job, worker.now))

    assert worker.freezes > 0
    assert all(job.began == at for job, at in urgent)


@given(seed=st.integers(0, 2**32), slots=st.integers(1, 4))
def test_urgent_work_waits_for_one_checkpoint_and_no_longer(seed: int, slots: int) -> None:
    """Where every task has one now and then; those that left often are left alone for a while."""
    chance = Random(seed)
    bands = (BANDS[0], Band("optional", 1))
    worker = Worker(slots, 0, chance, 0.0, bands)
    for _ in range(slots * 2):
        worker.offer("optional", 1_000.0, LEAVING, step_s=0.02)
    urgent = []
    for _ in range(50):
        worker.advance(worker.now + chance.uniform(0.05, 1.0))
        urgent.append((worker.offer("critical", 0.001), worker.now))
    worker.advance(worker.now + 10.0)

    assert worker.departures > 0
    assert all(job.began - at <= 0.02 + MOST_REST_S + ROUNDING_S for job, at in urgent)
    quick = sum(job.began - at <= 0.02 + ROUNDING_S for job, at in urgent)
    assert quick >= len(urgent) * 0.7


@given(seed=st.integers(0, 2**32), slots=st.integers(2, 4), lend=st.integers(0, 1))
def test_what_is_reserved_is_there_at_once_though_it_is_lent(
    seed: int, slots: int, lend: int
) -> None:
    """To tasks that give way, and to as many others as the policy lends it to."""
    chance = Random(seed)
    reserve = chance.randint(1, slots - 1)
    bands = (Band("critical", 0, preempts=True, reserve=reserve, lend=lend), Band("optional", 1))
    worker = Worker(slots, reserve, chance, 0.0, bands)
    worker.dispatcher.listen([], worker.now)
    urgent, others, most = [], [], 0
    for _ in range(200):
        worker.advance(worker.now + chance.expovariate(5))
        running = [job for job in worker.children if job.band == "critical"]
        if chance.random() < 0.5 and len(running) < reserve - lend:
            job = worker.offer("critical", chance.uniform(0.01, 0.5))
            urgent.append((job, worker.now))
        else:
            methods = chance.choice((FREEZABLE, FREEZABLE, ()))
            others.append(worker.offer("optional", chance.uniform(0.1, 2.0), methods))
        lesser = [job for job in worker.children if job.band == "optional" and job.ran_since]
        most = max(most, len(lesser))
        stubborn = [job for job in lesser if not job.methods]
        assert len(stubborn) <= slots - reserve + lend + min(reserve, len(lesser) - len(stubborn))
    worker.advance(worker.now + 10_000)

    assert not worker.children
    assert all(job.began == at for job, at in urgent)
    assert most == slots
