"""The exchange of one worker, with a ledger in memory and a clock that the test moves."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from threading import Event

import pytest

from celery_budget.core.accounts import Accounts
from celery_budget.core.admission import Group
from celery_budget.core.calendar import CalendarWindow
from celery_budget.core.decisions import Reason, Return, Start
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.exchange import Answer, Report
from celery_budget.core.ticket import Ticket
from celery_budget.errors import LedgerUnavailable
from celery_budget.policy.live import Live
from celery_budget.policy.load import load
from celery_budget.policy.model import Band
from celery_budget.stores.memory import MemoryLedger
from celery_budget.stores.memory_arrivals import MemoryArrivals
from celery_budget.stores.memory_profiles import MemoryProfiles
from celery_budget.stores.protocols import ProfileStore, Stores
from celery_budget.worker import leases as module
from celery_budget.worker.changes import Change, Changes
from celery_budget.worker.leases import (
    HEARD_S,
    IDLE_S,
    LEASE_S,
    LEAST_S,
    MARGIN_S,
    TICK_S,
    Leases,
)
from tests.unit.core.worker import NOW, run, ticket

ONE = 1_000_000


class Away(MemoryLedger):
    """A ledger that can be out of reach, before or after it has done what it was asked."""

    is_away = False
    is_silent = False
    _arrived: Event | None = None
    _go_on: Event | None = None

    def hold(self, arrived: Event, go_on: Event) -> None:
        """Keep the next report waiting; tell that it has arrived."""
        self._arrived, self._go_on = arrived, go_on

    def exchange(self, report: Report) -> Answer:
        """Settle a report unless it does not arrive; its answer may be lost."""
        if self._arrived is not None and self._go_on is not None:
            self._arrived.set()
            self._go_on.wait(10)
            self._arrived = None
        if self.is_away:
            raise LedgerUnavailable("exchange", "nobody there")
        answer = super().exchange(report)
        if self.is_silent:
            raise LedgerUnavailable("exchange", "no answer")
        return answer


class Desk:
    """One worker's books and leases, without a loop."""

    def __init__(self, on_loss: str = "local", profiles: ProfileStore | None = None) -> None:
        self.now = 1_000.0
        bands = {"default": {"on_ledger_loss": on_loss}}
        budgets = {"fleet": {"usd": "10/1d"}}
        policy = load({"bands": bands, "default_band": "default", "budgets": budgets})
        self.ledger = Away(lambda: int((NOW + self.now) * ONE), int(LEASE_S * ONE))
        self.accounts = Accounts(
            policy, {}, lambda _window, _now: CalendarWindow(0, 0, 0), lease_s=LEASE_S
        )
        self.dispatcher = Dispatcher(policy.bands, 2, accounts=self.accounts)
        arrivals = MemoryArrivals(lambda: 0)
        stores = Stores(self.ledger, profiles or MemoryProfiles(lambda: 0), arrivals)
        self.changes: list[Change] = []
        self.leases = Leases(
            stores,
            self.accounts,
            "worker",
            lambda: self.dispatcher,
            self._resumed,
            Changes(policy, 0),
            self.changes.append,
        )
        self._answered = Event()

    def _resumed(self, groups: list[Group]) -> None:
        self.dispatcher.wake(groups, NOW)

    def open(self) -> None:
        """Begin, and let the first look for changes pass."""
        self.leases.open(self._answered.set)
        assert self._answered.wait(10)

    def hold(self) -> Ticket:
        """Take a ticket that costs a dollar."""
        held = ticket("default")
        held.cost = (("usd", ONE),)
        self.dispatcher.offer(held, NOW)
        return held

    def exchange(self, after_s: float = IDLE_S) -> float:
        """Let time pass, send what is due and take the answer in; tell when to ask again."""
        self.now += after_s
        self._answered.clear()
        self.leases.poll()
        assert self._answered.wait(10)
        return self.leases.poll()

    def spent(self) -> int:
        """Tell what the ledger knows to be spent."""
        accounts = self.ledger.accounts()
        return accounts["fleet usd"].spent if accounts else 0


@pytest.fixture
def desk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Open a desk whose clock stands still."""
    made = Desk(getattr(request, "param", "local"))
    monkeypatch.setattr(module, "monotonic", lambda: made.now)
    monkeypatch.setattr(module, "time", lambda: NOW + made.now)
    made.open()
    yield made
    made.leases.close()


def test_what_was_granted_lets_a_waiting_ticket_start(desk: Desk) -> None:
    """This is the whole way of an amount: asked, granted, used, told."""
    held = desk.hold()
    assert desk.dispatcher.decide(NOW) is None
    desk.exchange()
    decision = desk.dispatcher.decide(NOW)
    assert isinstance(decision, Start)
    desk.dispatcher.ended(held, NOW + 1, usage={"usd": 3 * ONE})
    desk.exchange()

    assert held is decision.ticket
    assert 3 * ONE == desk.spent()


def test_a_worker_that_starts_is_not_without_a_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has asked for changes, and open bands are not to run uncounted meanwhile."""
    made = Desk("open")
    monkeypatch.setattr(module, "monotonic", lambda: made.now)
    go_on = Event()
    monkeypatch.setattr(made.ledger, "live", lambda: Live() if go_on.wait(10) else None)
    made.leases.open(lambda: None)
    made.leases.poll()
    at_first = made.accounts.is_heard
    made.now += HEARD_S
    made.leases.poll()
    later = made.accounts.is_heard
    go_on.set()
    made.leases.close()

    assert at_first
    assert not later


def test_one_report_is_under_way_at_a_time(desk: Desk) -> None:
    """A second one would overtake the first, or tell the same twice."""
    desk.exchange()
    desk.now += IDLE_S
    desk.leases.poll()
    number = desk.leases._number
    for _ in range(5):
        desk.now += IDLE_S
        if not desk.leases.has_answers:
            assert TICK_S == desk.leases.poll()

    assert number <= desk.leases._number <= number + 1


@pytest.mark.parametrize("way", ["is_away", "is_silent"])
def test_what_a_lost_report_tells_counts_once(desk: Desk, way: str) -> None:
    """Whether the report was lost or only its answer."""
    desk.hold()
    desk.dispatcher.decide(NOW)
    desk.exchange()
    decision = desk.dispatcher.decide(NOW)
    assert isinstance(decision, Start)
    desk.dispatcher.ended(decision.ticket, NOW + 1, usage={"usd": 2 * ONE})
    setattr(desk.ledger, way, True)
    for _ in range(3):
        desk.exchange()
    setattr(desk.ledger, way, False)
    desk.exchange(2.0)

    assert 2 * ONE == desk.spent()


def test_a_worker_stops_before_its_lease_ends(desk: Desk) -> None:
    """Then the ledger may give to others what this one holds."""
    desk.exchange()
    answered = desk.now
    desk.ledger.is_away = True
    desk.exchange(LEASE_S - MARGIN_S - 0.01)
    trusted = desk.accounts.is_trusted
    desk.now = answered + LEASE_S - MARGIN_S
    desk.leases.poll()

    assert trusted
    assert not desk.accounts.is_trusted


@pytest.mark.parametrize(("desk", "starts"), [("open", True), ("local", False)], indirect=["desk"])
def test_an_open_band_does_not_wait_for_a_silent_ledger(desk: Desk, *, starts: bool) -> None:
    """The lease may hold for seconds more, in which critical work would wait for an answer."""
    desk.exchange()
    arrived, go_on = Event(), Event()
    desk.ledger.hold(arrived, go_on)
    desk.hold()
    assert desk.dispatcher.decide(NOW) is None
    desk.now += LEAST_S
    desk.leases.poll()
    assert arrived.wait(10)
    desk.now += HEARD_S - 0.001
    desk.leases.poll()
    early = desk.dispatcher.decide(NOW)
    desk.now += 0.001
    desk.leases.poll()
    late = desk.dispatcher.decide(NOW)
    go_on.set()

    assert early is None
    assert starts == isinstance(late, Start)
    assert desk.accounts.is_trusted


def test_the_loss_and_the_return_are_told_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage of an hour is not a million lines."""
    caplog.set_level(logging.INFO, module.__name__)
    desk.ledger.is_away = True
    for _ in range(20):
        desk.exchange(2.0)
    assert not desk.accounts.is_trusted
    desk.ledger.is_away = False
    for _ in range(3):
        desk.exchange(2.0)

    assert desk.accounts.is_trusted
    told = [record.getMessage()[:27] for record in caplog.records]
    assert ["the ledger is unavailable (", "The ledger answers again: w"] == told


def test_retries_spread_and_slow_down(desk: Desk) -> None:
    """A fleet must not come back in one moment to a server that has just started."""
    desk.ledger.is_away = True
    waits = [desk.exchange(2.0) for _ in range(8)]

    assert all(0.05 <= wait <= 1.0 for wait in waits)
    assert waits[0] < 0.3
    assert max(waits) > 0.5
    assert len(set(waits)) > 4


def test_an_idle_worker_reports_once_a_second(desk: Desk) -> None:
    """It renews its lease, and costs the ledger next to nothing."""
    assert IDLE_S == pytest.approx(desk.exchange())


def test_what_is_left_is_told_at_the_end(desk: Desk) -> None:
    """A worker that is deployed ten times a day must not lose its last second each time."""
    desk.hold()
    desk.dispatcher.decide(NOW)
    desk.exchange()
    decision = desk.dispatcher.decide(NOW)
    assert isinstance(decision, Start)
    desk.dispatcher.ended(decision.ticket, NOW + 1, usage={"usd": ONE})
    desk.leases.close()

    assert ONE == desk.spent()


def test_urgent_work_that_is_stuck_is_told_at_once(desk: Desk) -> None:
    """And not after the last report, when it is with the broker again."""
    desk.ledger.exchange(Report("other", 1, "", 0))
    bands = [Band("critical", 0, preempts=True), Band("optional", 1)]
    desk.dispatcher = Dispatcher(bands, 1)
    run(desk.dispatcher, ticket("optional"))
    desk.exchange()
    assert not desk.leases.is_waiting
    run(desk.dispatcher, ticket("critical"))
    assert desk.leases.is_waiting
    desk.exchange(LEAST_S)
    assert 1 == desk.ledger.exchange(Report("other", 2, "", 0, (), 1, 0, 1)).waiting
    desk.now += TICK_S
    desk.leases.close()

    assert 0 == desk.ledger.exchange(Report("other", 3, "", 0, (), 1, 0, 1)).waiting


def test_what_has_a_slot_elsewhere_is_handed_on_at_once(desk: Desk) -> None:
    """The answer to the report of it says so."""
    desk.ledger.exchange(Report("other", 1, "", 0, (), 1, -1))
    bands = [Band("critical", 0, preempts=True), Band("optional", 1)]
    desk.dispatcher = Dispatcher(bands, 1)
    desk.exchange()
    urgent = ticket("critical", published=NOW + desk.now)
    run(desk.dispatcher, ticket("optional"), now=NOW + desk.now)
    run(desk.dispatcher, urgent, now=NOW + desk.now)
    desk.exchange(LEAST_S)

    assert Return(urgent, Reason.NO_SLOT) == desk.dispatcher.decide(NOW + desk.now)
