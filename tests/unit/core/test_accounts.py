"""The books of one worker against a ledger in memory: costs, reports, loss and return."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

import pytest

from celery_budget.core.accounts import Accounts
from celery_budget.core.calendar import CalendarWindow
from celery_budget.core.decisions import Decision, Refuse, Start, Wait
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.exchange import MOST_LINES, Line, Report
from celery_budget.core.needs import ONE
from celery_budget.core.ticket import Ticket
from celery_budget.policy.budget import Window
from celery_budget.policy.load import load
from celery_budget.stores.memory import MemoryLedger
from tests.unit.core.worker import NOW, ticket

LEASE_US = 5_000_000


class Books:
    """A worker's dispatcher and accounts, which the test lets report."""

    def __init__(
        self,
        budgets: Mapping[str, Any],
        ledger: MemoryLedger | None = None,
        slots: int = 4,
        **policy: Any,
    ) -> None:
        self.now = NOW
        self.policy = load({"budgets": budgets, **policy})
        self.ledger = ledger or MemoryLedger(lambda: self.now_us, LEASE_US)
        self.accounts = Accounts(self.policy, {}, self._calendar, lease_s=5)
        ways = frozenset(way for band in self.policy.bands for way in band.preempt or ())
        self.dispatcher = Dispatcher(self.policy.bands, slots, accounts=self.accounts, ways=ways)
        self._number = 0
        self._epoch = ""

    @property
    def now_us(self) -> int:
        return int(self.now * ONE)

    def _calendar(self, _window: Window, now_us: int) -> CalendarWindow:
        number = now_us // (1_000 * ONE)
        return CalendarWindow(number, number * 1_000 * ONE, (number + 1) * 1_000 * ONE)

    def hold(self, band: str = "default", tenant: str = "", **cost: int) -> Ticket:
        """Take a ticket."""
        held = ticket(band, tenant=tenant)
        held.cost = tuple(sorted(cost.items()))
        self.dispatcher.offer(held, self.now)
        return held

    def decide(self) -> Decision | None:
        """Decide once."""
        return self.dispatcher.decide(self.now)

    def end(self, held: Ticket, **usage: int) -> None:
        """Let a ticket end."""
        self.dispatcher.ended(held, self.now, usage=usage)

    def exchange(self, after_s: float = 0.05) -> tuple[Line, ...]:
        """Let time pass, and report; give what was told."""
        self.now += after_s
        lines = self.lines()
        self.hear(lines)
        return lines

    def lines(self) -> tuple[Line, ...]:
        """Write a report."""
        standings = self.dispatcher.standings(self.now)
        return self.accounts.lines(self.now, self.now_us, self.dispatcher.slots, standings)

    def hear(self, lines: tuple[Line, ...]) -> None:
        """Send a report, and take in the answer."""
        self._number += 1
        report = Report(f"worker {id(self)}", self._number, self._epoch, 150_000, lines)
        answer = self.ledger.exchange(report)
        self._epoch = answer.epoch
        self.dispatcher.wake(self.accounts.heard(lines, answer, self.now), self.now)

    def start(self, band: str = "default", **cost: int) -> Ticket:
        """Hold a ticket and let it start."""
        held = self.hold(band, **cost)
        decision = self.decide()
        if decision is None:
            self.exchange()
            decision = self.decide()
        assert isinstance(decision, Start)
        return held


def test_a_cost_is_declared_or_learned_or_a_hundredth_of_the_limit() -> None:
    """Each is better than the next."""
    books = Books({"fleet": {"usd": "100/1d", "starts": "10/1s", "slots": 3}})
    held = books.hold()
    group = held.group
    assert group is not None
    guessed = books.accounts.costs(group, held)
    books.accounts.profiles.observe("task", "usd", 7 * ONE, 0)
    learned = books.accounts.costs(group, held)
    declared = books.accounts.costs(group, books.hold(usd=3 * ONE))

    # In the order of names: slots, starts, usd.
    assert (ONE, ONE, ONE) == guessed
    assert (ONE, ONE) == learned[:2]
    assert 7 * ONE == pytest.approx(learned[2], rel=0.05)
    assert (ONE, ONE, 3 * ONE) == declared


def test_a_cost_beyond_what_there_can_be_is_all_there_can_be() -> None:
    """Else the ticket would wait for ever; the rest becomes debt."""
    books = Books({"fleet": {"usd": "10/1d"}})
    held = books.start(usd=50 * ONE)
    books.end(held, usd=50 * ONE)
    books.exchange()

    assert -40 * ONE == books.ledger.accounts()["fleet usd"].balance


def test_all_units_are_somewhere() -> None:
    """What was granted is at hand, set aside, spent or given back, at any time."""
    books = Books({"fleet": {"usd": "100/1d"}})
    running = []
    for number in range(30):
        books.hold(usd=2 * ONE)
        while isinstance(decision := books.decide(), Start):
            running.append(decision.ticket)
        if len(running) > 2:
            books.end(running.pop(0), usd=number * ONE // 10)
        books.exchange()
        account = books.ledger.accounts()["fleet usd"]

        assert 100 * ONE == account.balance + account.leased + account.spent
        assert account.leased == books.accounts.allowances["fleet usd"].held


def test_what_never_ran_costs_nothing() -> None:
    """A revoked task spends nothing."""
    books = Books({"fleet": {"usd": "10/1d"}})
    held = books.start(usd=ONE)
    books.dispatcher.ended(held, books.now, ran=False)
    books.exchange()

    assert 0 == sum(account.spent for account in books.ledger.accounts().values())


def test_what_was_not_measured_counts_as_set_aside() -> None:
    """A pool that cannot measure must not make a budget free."""
    books = Books({"fleet": {"cpu": "100s/1h"}})
    books.end(books.start(cpu=3 * ONE))
    books.exchange()

    assert 3 * ONE == books.ledger.accounts()["fleet cpu"].spent


def test_a_used_up_budget_is_named_with_the_time_when_it_fills() -> None:
    """This is what an operator is told."""
    books = Books({"fleet": {"usd": "10/1d"}})
    books.end(books.start(usd=10 * ONE), usd=10 * ONE)
    waiting = books.hold(usd=ONE)
    books.exchange()
    assert books.decide() is None
    books.exchange()
    wait = books.dispatcher.explain(waiting.id, books.now)

    assert isinstance(wait, Wait)
    assert ("budget", "fleet usd") == (wait.reason, wait.account)
    assert 0 < wait.until - books.now <= 86_400
    assert 0 == wait.until % 86_400


@pytest.mark.parametrize("action", ["degrade", "demote", "shed"])
def test_a_group_that_waits_is_judged_again_when_its_budget_is_used_up(action: str) -> None:
    """It began to wait before the ledger had told; it must not wait for the next day."""
    bands = {"high": {}, "low": {}}
    budgets = {"fleet": {"usd": {"limit": "10/1d", "on_exhausted": action}}}
    books = Books(budgets, default_band="high", bands=bands)
    books.end(books.start("high", usd=ONE), usd=10 * ONE)
    waiting = books.hold("high", usd=ONE)
    for _ in range(4):
        if (decision := books.decide()) is not None:
            break
        books.exchange()

    match action:
        case "degrade":
            assert isinstance(decision, Start)
            assert decision.is_degraded
        case "demote":
            assert isinstance(decision, Start)
            assert "low" == waiting.band
        case _:
            assert isinstance(decision, Refuse)
            assert ("fleet usd", "budgets.fleet.usd") == (decision.account, decision.budget)


def test_a_calendar_window_is_told_by_the_worker() -> None:
    """The ledger has no calendar."""
    books = Books({"fleet": {"usd": "10/month"}})
    books.end(books.start(usd=10 * ONE), usd=10 * ONE)
    books.hold(usd=ONE)
    books.exchange()
    held = books.decide()
    books.exchange(1_000.0)

    assert held is None
    assert isinstance(books.decide(), Start)


def test_what_is_kept_for_a_band_is_not_granted_to_a_lesser_one() -> None:
    """A budget's reserve is there for the urgent when the others have used up theirs."""
    budgets = {"fleet": {"usd": {"limit": "10/1d", "reserve": {"high": "40%"}}}}
    books = Books(budgets, default_band="high", bands={"high": {}, "low": {}})
    started: list[str] = []
    for band in ("low",) * 10 + ("high",) * 10:
        books.hold(band, usd=ONE)
        for _ in range(3):
            while isinstance(decision := books.decide(), Start):
                started.append(decision.ticket.band)
                books.end(decision.ticket, usd=ONE)
            books.exchange()

    assert (6, 4) == (started.count("low"), started.count("high"))


@pytest.mark.parametrize(("on_loss", "started"), [("open", 9), ("closed", 0), ("local", 5)])
def test_without_the_ledger_each_band_does_as_it_says(on_loss: str, started: int) -> None:
    """Of ten dollars a day this worker has spent five."""
    books = Books(
        {"fleet": {"usd": "10/1d"}}, default_band="a", bands={"a": {"on_ledger_loss": on_loss}}
    )
    first = books.hold("a", usd=5 * ONE)
    books.decide()
    books.exchange()
    books.decide()
    books.end(first, usd=5 * ONE)
    books.exchange()
    books.dispatcher.wake(books.accounts.lose(), books.now)
    for _ in range(9):
        books.hold("a", usd=ONE)
    count = 0
    for _ in range(20):
        while isinstance(decision := books.decide(), Start):
            count += 1
            books.end(decision.ticket, usd=ONE)
        books.dispatcher.wake(books.accounts.refill(books.now_us), books.now)
    spent = books.ledger.accounts()["fleet usd"].spent
    books.exchange()

    assert started == count
    assert 5 * ONE == spent
    assert (5 + started) * ONE == books.ledger.accounts()["fleet usd"].spent


def test_a_ledger_that_lost_everything_is_told_again() -> None:
    """Or a restart of a server without a disk would give everybody the day's money again."""
    books = Books({"fleet": {"usd": "10/1d"}})
    books.end(books.start(usd=8 * ONE), usd=8 * ONE)
    books.exchange()
    books.ledger.clear()
    for _ in range(3):
        books.exchange()

    assert books.ledger.accounts()["fleet usd"].balance <= 2 * ONE


def test_an_idle_worker_tells_nothing_and_keeps_nothing() -> None:
    """Redis's load must depend on what happens."""
    books = Books({"tenant:*": {"usd": "10/1s"}})
    for number in range(50):
        held = books.hold(tenant=f"tenant-{number}", usd=ONE)
        books.decide()
        books.exchange()
        books.decide()
        books.end(held, usd=ONE)
        books.exchange()
    for _ in range(100):
        books.exchange(1.0)

    assert () == books.exchange()
    assert {} == books.accounts.allowances
    assert inf == books.accounts.next_us()


def test_a_report_stays_within_its_bound() -> None:
    """A flood of new tenants is told in several reports."""
    books = Books({"tenant:*": {"usd": "10/1d"}})
    for number in range(600):
        books.hold(tenant=f"tenant-{number}", usd=ONE)
    while books.decide() is not None:
        pass
    told = [len(books.exchange(0.01)) for _ in range(600 // MOST_LINES + 2)]

    assert max(told) == MOST_LINES
    assert sum(told) >= 600


def test_a_first_request_does_not_wait_behind_what_many_accounts_give_back() -> None:
    """A tenant that comes after a crowd would wait a second for it to be told."""
    books = Books({"tenant:*": {"usd": {"limit": "10/1d"}}})
    for number in range(5 * MOST_LINES):
        books.hold(tenant=f"tenant-{number}", usd=ONE)
    while books.dispatcher.held_total:
        books.exchange(0.01)
        while isinstance(decision := books.decide(), Start):
            books.end(decision.ticket, usd=ONE)
    late = [books.hold(tenant=f"late-{number}", usd=ONE) for number in range(20)]
    while books.decide() is not None:
        pass
    lines = books.exchange(0.01)

    assert MOST_LINES == len(lines)
    assert {f"tenant:{held.tenant} usd" for held in late} <= {
        line.account for line in lines if line.wants
    }


def test_requests_do_not_keep_what_was_spent_from_being_told() -> None:
    """However many tenants come, an exchange has room for those that went."""
    books = Books({"tenant:*": {"usd": {"limit": "10/1d"}}})
    books.end(books.start(tenant="first", usd=ONE), usd=ONE)
    told: list[str] = []
    for turn in range(20):
        for number in range(MOST_LINES):
            books.hold(tenant=f"tenant-{turn}-{number}", usd=ONE)
        while books.decide() is not None:
            pass
        told += [line.account for line in books.exchange(0.01) if line.spent]
        while isinstance(decision := books.decide(), Start):
            books.end(decision.ticket, usd=ONE)

    assert "tenant:first usd" in told


@pytest.mark.parametrize(("starts", "kept"), [(1, False), (12, True)])
def test_what_comes_once_leaves_nothing_at_hand(starts: int, kept: bool) -> None:
    """Of many tenants most come once; what each leaves behind has to be told and given back."""
    books = Books({"fleet": {"usd": "10/1d"}})
    for _ in range(starts):
        books.end(books.start(usd=10_000), usd=10_000)
        books.exchange(0.1)

    assert kept is (books.accounts.allowances["fleet usd"].free >= 10_000)


def test_idle_accounts_go_without_being_looked_for() -> None:
    """A hundred thousand of them must not cost each report a look."""
    books = Books({"tenant:*": {"usd": "10/1d"}})
    for number in range(200):
        books.end(books.start(tenant=f"tenant-{number}", usd=ONE), usd=ONE)
    books.exchange(30.0)
    books.exchange()
    books.exchange()

    assert {} == books.accounts.allowances
