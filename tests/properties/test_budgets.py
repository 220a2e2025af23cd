"""Workers that share budgets through a ledger, on a virtual clock: bounds, liveness, memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_budget.core.accounts import Accounts, CalendarWindow
from celery_budget.core.admission import Group
from celery_budget.core.decisions import Refuse, Start, Wait
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.exchange import Report
from celery_budget.core.ticket import Ticket
from celery_budget.policy.budget import Scope
from celery_budget.policy.load import load
from celery_budget.policy.model import Policy
from celery_budget.stores.memory import MemoryLedger
from tests.properties.virtual import BEGIN, repeatable

ONE = 1_000_000
LEASE_S = 5.0

#: Between two reports while something moves, while nothing does, and at least; as the worker's
#: leases have them.
TICK_S, IDLE_S, LEAST_S = 0.05, 1.0, 0.01


@dataclass(slots=True)
class Run:
    """One execution: Unix seconds; `ended` is inf while it goes on."""

    ticket: Ticket
    worker: str
    started: float
    ended: float = inf


@dataclass(slots=True)
class Job:
    """How long an execution of a ticket takes, and what it turns out to use."""

    ticket: Ticket
    length_s: float
    usage: Mapping[str, int] = field(default_factory=dict)


class FleetWorker:
    """One worker's dispatcher and books, and the way of its reports."""

    def __init__(self, fleet: Fleet, name: str, slots: int) -> None:
        self.fleet = fleet
        self.name = name
        self.accounts = Accounts(
            fleet.policy,
            {Scope.WORKER: name},
            lambda _window, _now: CalendarWindow(0, 0, 0),
            lease_s=LEASE_S,
        )
        self.dispatcher = Dispatcher(
            fleet.policy.bands, slots, accounts=self.accounts, weight=fleet.policy.tenant_weight
        )
        self.is_dead = False
        self._jobs: dict[Ticket, Job] = {}
        self._number = 0
        self._epoch = ""
        self._is_under_way = False
        self._last = -IDLE_S
        self._polled = inf
        self._timed = inf

    def hold(self, job: Job) -> None:
        """Take a ticket."""
        self._jobs[job.ticket] = job
        self.dispatcher.offer(job.ticket, self.fleet.now)
        self.pump()

    def poll(self) -> None:
        """Report if that is due, or look again when it will be."""
        if self._is_under_way or self.is_dead:
            return
        due = self._last + self._pace()
        if due > self.fleet.now:
            if not self.fleet.now < self._polled <= due:
                self._polled = due
                self.fleet.at(due, self.poll)
            return
        self._report()

    def _pace(self) -> float:
        if self.accounts.is_urgent:
            return LEAST_S
        if self.accounts.is_moving:
            return TICK_S
        free_s = self.accounts.next_us() / ONE - self._last
        return max(LEAST_S, min(free_s, IDLE_S))

    def _report(self) -> None:
        """Send a report, whose answer comes a moment later."""
        fleet = self.fleet
        lines = self.accounts.lines(fleet.now, fleet.now_us, self.dispatcher.slots)
        self._number += 1
        self._is_under_way = True
        self._last = fleet.now
        report = Report(self.name, self._number, self._epoch, 3 * int(TICK_S * ONE), lines)
        fleet.after(fleet.delay_s(), lambda: self._arrive(report))

    def _arrive(self, report: Report) -> None:
        answer = self.fleet.ledger.exchange(report)

        def hear() -> None:
            self._is_under_way = False
            self._epoch = answer.epoch
            if not self.is_dead:
                self.dispatcher.wake(self.accounts.heard(report.lines, answer, self.fleet.now))
                self.pump()

        self.fleet.after(self.fleet.delay_s(), hear)

    def pump(self) -> None:
        """Perform decisions until nothing more can start."""
        fleet = self.fleet
        while (decision := self.dispatcher.decide(fleet.now)) is not None:
            if isinstance(decision, Wait):
                if not fleet.now < self._timed <= decision.until:
                    self._timed = decision.until
                    fleet.at(decision.until, self.pump)
                break
            if isinstance(decision, Refuse):
                fleet.refused.append(decision.ticket)
                continue
            assert isinstance(decision, Start)
            run = Run(decision.ticket, self.name, fleet.now)
            fleet.runs.append(run)
            job = self._jobs.pop(decision.ticket)
            fleet.after(job.length_s, lambda run=run, job=job: self._end(run, job))  # type: ignore[misc]
        self.poll()

    def _end(self, run: Run, job: Job) -> None:
        if self.is_dead:
            return
        run.ended = self.fleet.now
        self.dispatcher.ended(run.ticket, self.fleet.now, usage=job.usage)
        self.pump()

    def die(self) -> None:
        """End without a word, and everything that runs here."""
        self.is_dead = True
        for run in self.fleet.runs:
            if run.worker == self.name and run.ended == inf:
                run.ended = self.fleet.now


class Fleet:
    """Several workers, a ledger in memory, and the time.

    Args:
        policy: Of all of them, as a file would have it.
        workers: How many.
        slots: Of each.
        rng: Decides how long messages are under way.
    """

    def __init__(self, policy: Mapping[str, Any], workers: int, slots: int, rng: Random) -> None:
        self.now = BEGIN
        self.policy: Policy = load(policy)
        self.ledger = MemoryLedger(lambda: self.now_us, int(LEASE_S * ONE))
        self.runs: list[Run] = []
        self.refused: list[Ticket] = []
        self._rng = rng
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._ids = count(1)
        self.workers = [FleetWorker(self, f"w{number}", slots) for number in range(workers)]
        for worker in self.workers:
            self.after(rng.uniform(0, TICK_S), worker.poll)

    @property
    def now_us(self) -> int:
        """The ledger's clock."""
        return int(self.now * ONE)

    def delay_s(self) -> float:
        """Draw how long a message takes."""
        return self._rng.uniform(0.0005, 0.005)

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Let something happen at a time."""
        heappush(self._events, (time, next(self._order), action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Let something happen in a while."""
        self.at(self.now + seconds, action)

    def ticket(self, band: str, task: str, tenant: str = "", **cost: int) -> Ticket:
        """Make a ticket, published now."""
        made = Ticket(f"id-{next(self._ids)}", task, band, tenant, published=self.now)
        made.cost = tuple(sorted(cost.items()))
        return made

    def fill(self, jobs: int, make: Callable[[], Job]) -> None:
        """Give every worker so many jobs, none at the very microsecond of another worker."""
        for worker in self.workers:
            for _ in range(jobs):
                worker.hold(make())
            self.now += 0.0001

    def run(self, seconds: float, look: Callable[[], None] | None = None) -> None:
        """Let time pass, looking around in every tick."""
        until = self.now + seconds
        looked = self.now
        while self._events and self._events[0][0] <= until:
            time, _, action = heappop(self._events)
            while look is not None and looked + TICK_S < time:
                looked += TICK_S
                self.now = looked
                look()
            self.now = max(self.now, time)
            action()
        self.now = until

    def most_at_once(self, of: Callable[[Ticket], int]) -> int:
        """Tell how many units running tickets held together at most."""
        changes: Counter[tuple[float, int]] = Counter()
        for run in self.runs:
            changes[run.started, 1] += of(run.ticket)
            changes[run.ended, 0] -= of(run.ticket)
        most = held = 0
        for _, change in sorted(changes.items()):
            held += change
            most = max(most, held)
        return most

    def most_started(self, of: Callable[[Ticket], bool], window_s: float) -> int:
        """Tell how many started at most in any window of so many seconds."""
        times = [run.started for run in self.runs if of(run.ticket)]
        most = first = 0
        for place, at in enumerate(times):
            while at - times[first] >= window_s:
                first += 1
            most = max(most, place - first + 1)
        return most


class Watch:
    """Finds a group that waits though its accounts have enough and its worker has a free slot.

    Of all that wait it looks at the first: of the most urgent band, the one that waits longest.
    What others lack may be kept for it.
    """

    #: What another worker keeps at hand goes back within ten, and must be asked for once more.
    MOST_TICKS = 12

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._first: Group | None = None
        self._ticks = 0

    def look(self) -> None:
        """Look once; called every tick."""
        waiting = [
            (group.rank, group.since, worker.name, group, worker)
            for worker in self._fleet.workers
            if not worker.is_dead and worker.dispatcher.free
            for group in worker.accounts._blocked
            if group.waits_for is not None
        ]
        first = min(waiting, default=None, key=lambda each: each[:3])
        if first is None or not self._can(first[3]) or first[3] is not self._first:
            self._first = None if first is None else first[3]
            self._ticks = 0
            return
        self._ticks += 1
        assert self._ticks <= self.MOST_TICKS, f"stuck on {first[4].name} since {first[1]}"

    def _can(self, group: Group) -> bool:
        known = self._fleet.ledger.accounts([each.name for each in group.allowances])
        for allowance, units in zip(group.allowances, group.needs, strict=True):
            account = known.get(allowance.name)
            balance = allowance.rule.full if account is None else account.balance
            if balance + allowance.free < units:
                return False
        return True


BANDS = {"a": {}, "b": {}}


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    """Draw budgets of several kinds that may meet on one ticket."""
    budgets: dict[str, Any] = {}
    if draw(st.booleans()):
        budgets["task:x"] = {"starts": f"{draw(st.integers(5, 60))}/1s"}
    if draw(st.booleans()):
        budgets["tenant:*"] = {"slots": draw(st.integers(1, 4))}
    fleet: dict[str, Any] = {}
    if draw(st.booleans()) or not budgets:
        fleet["slots"] = draw(st.integers(1, 5))
    if draw(st.booleans()):
        fleet["memory"] = 100
    if draw(st.booleans()):
        fleet["tokens"] = f"{draw(st.integers(100, 2_000))}/1s"
    if fleet:
        budgets["fleet"] = fleet
    return {"default_band": "a", "bands": BANDS, "budgets": budgets}


def units_of(resource: str, ticket: Ticket) -> int:
    """Tell what a ticket declared of a resource."""
    return dict(ticket.cost).get(resource, 0)


@given(
    policy=rules(),
    workers=st.integers(1, 3),
    slots=st.integers(1, 3),
    jobs=st.integers(1, 60),
    seed=st.integers(0, 2**32),
)
@repeatable(60)
def test_no_limit_is_passed_and_nobody_is_stuck(
    policy: dict[str, Any], workers: int, slots: int, jobs: int, seed: int
) -> None:
    """Whichever budgets meet on a ticket, and on however many workers."""
    rng = Random(seed)
    fleet = Fleet(policy, workers, slots, rng)
    offered = []
    for _ in range(jobs):
        worker = rng.choice(fleet.workers)

        def publish(worker: FleetWorker = worker) -> None:
            # All that there can ever be takes longer: see the test of that.
            tokens = rng.randrange(ONE, 8 * ONE)
            ticket = fleet.ticket(
                rng.choice("ab"),
                rng.choice("xy"),
                rng.choice(("", "one", "two")),
                memory=rng.randrange(1, 100),
                tokens=tokens,
            )
            offered.append(ticket)
            worker.hold(Job(ticket, rng.choice((0.001, 0.02, 0.3)), {"tokens": tokens}))

        # Not at the same microsecond, which two machines never share.
        begun = rng.choice((0.0, 1.0, rng.uniform(0, 3)))
        fleet.at(BEGIN + begun + rng.uniform(0, 0.001), publish)
    watch = Watch(fleet)
    while len(fleet.runs) < jobs and fleet.now < BEGIN + 60:
        fleet.run(1.0, watch.look)
    fleet.run(1.0)

    budgets = policy["budgets"]
    assert Counter(run.ticket for run in fleet.runs) == Counter(offered)
    everywhere = budgets.get("fleet", {})
    if "slots" in everywhere:
        assert fleet.most_at_once(lambda _: 1) <= everywhere["slots"]
    if "memory" in everywhere:
        assert fleet.most_at_once(lambda ticket: units_of("memory", ticket)) <= 100
    if "tenant:*" in budgets:
        for tenant in ("one", "two"):
            most = fleet.most_at_once(lambda ticket, tenant=tenant: ticket.tenant == tenant)  # type: ignore[misc]
            assert most <= budgets["tenant:*"]["slots"]
    if "task:x" in budgets:
        limit = int(budgets["task:x"]["starts"].partition("/")[0])
        burst = max(1, limit // 10)
        # What was granted in one tick may start in the next.
        late = -(-limit // 20)
        assert fleet.most_started(lambda ticket: ticket.task == "x", 1.0) <= limit + burst + late


def test_a_ticket_that_needs_all_there_can_be_gets_it() -> None:
    """Nobody may keep a little at hand for ever that is missing elsewhere."""
    fleet = Fleet({"budgets": {"fleet": {"tokens": "100/1s"}}}, 2, 2, Random(3))
    first, second = fleet.workers

    def small() -> None:
        first.hold(Job(fleet.ticket("default", "small", tokens=ONE // 10), 0.01, {"tokens": 1}))
        fleet.after(0.02, small)

    small()
    fleet.run(1.0)
    large = fleet.ticket("default", "large", tokens=10 * ONE)
    second.hold(Job(large, 0.01))
    fleet.run(4.0)

    assert large in [run.ticket for run in fleet.runs]


def test_two_workers_that_need_the_same_accounts_do_not_wait_for_each_other() -> None:
    """Each would hold what the other one lacks."""
    policy = {"budgets": {"fleet": {"slots": 2, "memory": 100}, "tenant:*": {"slots": 1}}}
    fleet = Fleet(policy, 2, 4, Random(5))
    numbers = count()

    def job() -> Job:
        kind = next(numbers) % 3
        return Job(fleet.ticket("default", "x", f"t{kind}", memory=(40, 70, 100)[kind]), 0.05)

    fleet.fill(40, job)
    watch = Watch(fleet)
    fleet.run(20.0, watch.look)

    assert 80 == len(fleet.runs)
    assert fleet.most_at_once(lambda ticket: units_of("memory", ticket)) <= 100


def test_a_dead_workers_capacity_comes_back_and_is_never_given_twice() -> None:
    """Until its lease ends it may be merely cut off."""
    fleet = Fleet({"budgets": {"fleet": {"slots": 3}}}, 3, 2, Random(7))
    fleet.fill(100, lambda: Job(fleet.ticket("default", "x"), 0.2))
    fleet.run(1.0)
    victim = next(run.worker for run in fleet.runs if run.ended == inf)
    next(worker for worker in fleet.workers if worker.name == victim).die()
    died = fleet.now
    fleet.run(9.0)

    after = [run for run in fleet.runs if run.started > died + LEASE_S + 1.0]
    assert 3 == fleet.most_at_once(lambda _: 1)
    assert len(after) >= 0.9 * 3 * (fleet.now - died - LEASE_S - 1.0) / 0.2


def test_what_waits_for_a_budget_and_goes_leaves_nothing_behind() -> None:
    """Tenants are without number, and a worker runs for months."""
    policy = {"budgets": {"tenant:*": {"usd": "1/1s", "slots": 1}}}
    fleet = Fleet(policy, 1, 4, Random(9))
    (worker,) = fleet.workers
    for number in range(400):
        for _ in range(2):
            ticket = fleet.ticket("default", "x", f"tenant-{number}", usd=ONE // 10)
            worker.hold(Job(ticket, 0.01, {"usd": ONE // 20}))
        if number % 4 == 0:
            worker.dispatcher.withdraw(ticket.id)
    fleet.run(40.0)

    (state,) = worker.dispatcher._order.bands
    assert 700 == len(fleet.runs)
    assert (0, 0) == (len(worker.accounts.groups), len(worker.accounts.allowances))
    assert not worker.accounts._blocked
    assert not worker.accounts._register.active
    assert state.queue.tenants < 100
    assert {} == fleet.ledger.accounts()


@pytest.mark.parametrize("limit", [5, 50, 500])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_rate_is_used_to_the_full(limit: int, workers: int) -> None:
    """A budget that is half used because of how it is shared is half a budget."""
    fleet = Fleet(
        {"budgets": {"task:x": {"starts": f"{limit}/1s"}}}, workers, 4, Random(limit + workers)
    )
    fleet.fill(15 * limit, lambda: Job(fleet.ticket("default", "x"), 0.002))
    fleet.run(10.0)

    # The least burst is one start: what comes while the answer to the last is under way is lost.
    assert len(fleet.runs) >= 9.0 * limit
    assert len(fleet.runs) <= 10.0 * limit + max(1, limit // 10)
