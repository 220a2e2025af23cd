"""What the ledger promises of workers that obey it, whatever they do and in whatever order.

A worker that obeys starts at once what it was granted for waiting work, keeps the rest at hand,
renews its lease in time, and repeats a report whose answer was lost. It may crash.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from celery_budget.core.account import AHEAD, AccountRule, Want
from celery_budget.core.exchange import Answer, Line, Report
from celery_budget.stores.memory import MemoryLedger
from tests.properties.virtual import repeatable

SECOND = 1_000_000
TICK_US = 50_000
LEASE_US = 5 * SECOND
BEGIN = 1_700_000_000 * SECOND
FLEET = 3

RULES = [
    AccountRule(7),
    AccountRule(7),
    AccountRule(40, 10 * SECOND, 9),
    AccountRule(40, 10 * SECOND, 40),
    AccountRule(40, 10 * SECOND, 0, turns=True),
    AccountRule(40, 10 * SECOND, 15, turns=True),
]


@dataclass
class Task:
    """One that runs: what was set aside for it, and what it will have used."""

    estimate: int
    actual: int


@dataclass
class ObedientWorker:
    """What one worker knows.

    Attributes:
        name: Of its process.
        free: Units at hand.
        running: Its tasks.
        spent: Units spent that no report has told.
        number: Of its last report.
        unanswered: That report, if its answer was lost.
        told: When it last heard from the ledger.
        idle: What the ledger believes to be idle here.
    """

    name: str
    told: int
    free: int = 0
    running: list[Task] = field(default_factory=list)
    spent: int = 0
    number: int = 0
    unanswered: Report | None = None
    idle: int = 0

    @property
    def held(self) -> int:
        return self.free + sum(task.estimate for task in self.running)


class Fleet(RuleBasedStateMachine):
    """Workers of one account, against sums that are plain to see."""

    @initialize(kept=st.sampled_from(RULES))
    def begin(self, kept: AccountRule) -> None:
        self.kept = kept
        self.now = BEGIN
        self.ledger = MemoryLedger(lambda: self.now, LEASE_US)
        self.workers = [ObedientWorker(f"w{number}", self.now) for number in range(FLEET)]
        self.crashed = 0
        #: When, how much was used, and what came back later of what was not idle then.
        self.uses: list[tuple[int, int, int]] = []

    @rule(
        who=st.integers(0, FLEET - 1),
        units=st.integers(0, 60),
        least=st.integers(1, 60),
        is_need=st.booleans(),
        floor=st.sampled_from([0, 0, 3]),
        is_lost=st.sampled_from([False, False, True]),
    )
    def exchange(
        self, who: int, units: int, least: int, is_need: bool, floor: int, is_lost: bool
    ) -> None:
        worker = self.workers[who]
        if worker.unanswered is not None:
            self.send(worker, worker.unanswered, is_lost=False)
        rank = 1 if is_need else AHEAD
        wants = (Want(rank, units, min(least, units), self.now, floor),) if units else ()
        worker.number += 1
        line = Line("a", self.kept, worker.spent, worker.held, worker.free, wants)
        worker.spent = 0
        self.send(worker, Report(worker.name, worker.number, "", TICK_US, (line,)), is_lost)

    def send(self, worker: ObedientWorker, report: Report, is_lost: bool) -> None:
        (line,) = report.lines
        before = self.total()
        answer = self.ledger.exchange(report)
        if worker.unanswered is None:
            self.check_conservation(before - line.spent, answer)
        else:
            assert self.total() <= before
        granted = answer.lines[0].units
        is_need = bool(line.wants) and line.wants[0].rank < AHEAD
        worker.idle = line.idle + (0 if is_need else granted)
        if line.wants and granted:
            (want,) = line.wants
            possible = min(want.floor, self.kept.full - min(want.least, self.kept.full))
            assert answer.lines[0].balance >= possible
            assert granted <= want.units
        if is_lost:
            worker.unanswered = report
            return
        worker.unanswered = None
        worker.told = self.now
        worker.free += granted
        if is_need and granted:
            self.use(worker, granted, granted - granted // 3)

    def total(self) -> int:
        account = self.ledger.accounts(["a"]).get("a")
        return self.kept.full if account is None else account.balance + account.leased

    def check_conservation(self, left: int, answer: Answer) -> None:
        """What was there is there, less what was spent, less what could not be saved up."""
        account = self.ledger.accounts(["a"]).get("a")
        if account is None or self.kept.is_capacity:
            return
        idle = sum(holder.idle for holder in account.holders.values())
        is_full = account.balance + answer.lines[0].units + idle >= self.kept.full
        assert self.total() <= left
        assert self.total() == left or is_full

    @rule(who=st.integers(0, FLEET - 1), part=st.integers(1, 3), surplus=st.integers(0, 5))
    def start(self, who: int, part: int, surplus: int) -> None:
        """Start a task with what is at hand."""
        worker = self.workers[who]
        estimate = -(-worker.free // part)
        if estimate and self.now < worker.told + LEASE_US:
            self.use(worker, estimate, max(0, estimate - surplus))

    def use(self, worker: ObedientWorker, estimate: int, actual: int) -> None:
        to_come = sum(
            max(0, other.free - other.idle)
            + sum(task.estimate - task.actual for task in other.running)
            for other in self.workers
        )
        worker.free -= estimate
        worker.running.append(Task(estimate, actual))
        if not self.kept.is_capacity:
            self.uses.append((self.now, actual, to_come))

    @rule(who=st.integers(0, FLEET - 1))
    def finish(self, who: int) -> None:
        worker = self.workers[who]
        if worker.running:
            task = worker.running.pop(0)
            if self.kept.is_capacity:
                worker.free += task.estimate
            else:
                worker.free += task.estimate - task.actual
                worker.spent += task.actual

    @rule(who=st.integers(0, FLEET - 1))
    def crash(self, who: int) -> None:
        """Another worker takes its place at once."""
        self.crashed += 1
        self.workers[who] = ObedientWorker(f"w{who} after {self.crashed}", self.now)

    @rule(passing=st.sampled_from([1_000, TICK_US, TICK_US, SECOND, 4 * SECOND]))
    def let_time_pass(self, passing: int) -> None:
        for who, worker in enumerate(self.workers):
            if worker.held and self.now + passing >= worker.told + LEASE_US:
                self.exchange(who, 0, 1, False, 0, False)
        self.now += passing

    @invariant()
    def no_more_is_held_than_there_is(self) -> None:
        if self.kept.is_capacity:
            assert sum(worker.held for worker in self.workers) <= self.kept.limit

    @invariant()
    def no_more_is_used_than_allowed(self) -> None:
        """In every span that ends now; those that ended before have been looked at before."""
        kept, used = self.kept, 0
        for at, units, to_come in reversed(self.uses):
            if kept.turns and at // kept.window < self.now // kept.window:
                break
            used += units
            # Of a unit a part may have come before the span.
            came = kept.limit if kept.turns else kept.limit * (self.now - at) // kept.window + 1
            assert used <= came + kept.burst + to_come


Fleet.TestCase.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, derandomize=True, database=None
)
TestFleet = Fleet.TestCase


@repeatable(60)
@given(
    full=st.integers(2, 50),
    rate=st.integers(1, 50),
    larges=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    smalls=st.integers(1, 4),
    turns=st.booleans(),
)
def test_the_oldest_gets_its_least_in_time(
    full: int, rate: int, larges: list[int], smalls: int, turns: bool
) -> None:
    """However many take every little thing at once that comes."""
    kept = AccountRule(full, SECOND, 0, turns=True) if turns else AccountRule(rate, SECOND, full)
    now = BEGIN
    ledger = MemoryLedger(lambda: now, LEASE_US)
    numbers: dict[str, int] = {}

    def tell(name: str, *wants: Want, spent: int = 0) -> int:
        numbers[name] = numbers.get(name, 0) + 1
        line = Line("a", kept, spent, wants=wants)
        (granted,) = ledger.exchange(Report(name, numbers[name], "", 2 * TICK_US, (line,))).lines
        return granted.units

    tell("other", spent=full)
    waiting = {f"large {place}": (least, BEGIN + place) for place, least in enumerate(larges)}
    got = {f"small {place}": 0 for place in range(smalls)}
    # All that comes goes to those who wait, in their order, and whole windows may be left over.
    worst = sum(min(least, full) for least in larges)
    give_up = BEGIN + (2 + 2 * len(larges) if turns else 2 + worst / rate) * SECOND
    while waiting and now < give_up:
        now += TICK_US
        for name, units in got.items():
            got[name] = tell(name, Want(1, 1, 1, now), spent=units)
        for name, (least, since) in list(waiting.items()):
            units = tell(name, Want(1, least, least, since))
            if units:
                tell(name, spent=units)
                del waiting[name]

    assert not waiting
