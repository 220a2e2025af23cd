"""What tells a shortage beside the waits of those that started: the broker and the ledger."""

from __future__ import annotations

from typing import Any

import pytest

from celery_budget.core.accounts import Accounts
from celery_budget.core.allowance import Allowance
from celery_budget.core.calendar import calendar_window
from celery_budget.core.decisions import Start
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.shortage import (
    FRESH_S,
    MOST_LACKS,
    Cause,
    Queued,
    Shortage,
    worst,
)
from celery_budget.core.throttle import ENOUGH
from celery_budget.core.ticket import Ticket
from celery_budget.policy.budget import Scope
from celery_budget.policy.live import Pause
from celery_budget.policy.load import load
from celery_budget.policy.model import Band, Policy
from tests.unit.core.worker import NOW, run, ticket

CRITICAL = Band("critical", 0, preempts=True, latency_target=0.1)
OPTIONAL = Band("optional", 1)
SLOTS = 8


class Worker:
    """A worker full of critical tickets, which tells nothing by itself, and its broker."""

    def __init__(self, *, workers: int = 1, service_s: float | None = 0.1) -> None:
        self.dispatcher = Dispatcher([CRITICAL, OPTIONAL], SLOTS)
        self.now = NOW
        self.workers = workers
        if service_s is not None:
            self._learn(service_s)
        run(self.dispatcher, *(ticket("critical", published=self.now) for _ in range(SLOTS)))
        self.now += 0.99
        self.period(0)  # its first one ends, in which they started in time

    def _learn(self, service_s: float) -> None:
        (start,) = run(self.dispatcher, ticket("critical", published=self.now), now=self.now)
        assert isinstance(start, Start)
        self.dispatcher.ended(start.ticket, self.now + service_s)

    def period(self, messages: int, age_s: float = 0.0) -> None:
        """Let one pass, with a look at the broker."""
        self.now += 1.01
        look = Queued(messages, age_s, self.now - 0.5, self.workers)
        self.dispatcher.see({"critical": look})
        self.dispatcher.decide(self.now)

    @property
    def share(self) -> float:
        """Of the optional band."""
        return self.dispatcher.throttled_to("optional")


def test_a_deep_queue_counts_as_the_time_that_it_takes_to_drain() -> None:
    """Eight a tenth of a second; at the goal, half of that, nothing is held back for it."""
    worker = Worker()
    for _ in range(4):
        worker.period(4)
    assert 1.0 == worker.share

    for _ in range(2):
        worker.period(8)
    assert worker.share == pytest.approx(0.5)
    assert Cause.QUEUE is worker.dispatcher.throttled_by("optional")
    assert worker.dispatcher.throttled_by("critical") is None


def test_a_queue_that_many_workers_share_drains_faster() -> None:
    """Of 32 messages each of four has eight."""
    worker = Worker(workers=4)
    for _ in range(2):
        worker.period(16)
    assert 1.0 == worker.share

    worker.period(32)
    worker.period(32)
    assert worker.share == pytest.approx(0.5)


@pytest.mark.parametrize(("workers", "service_s"), [(0, 0.1), (1, None)])
def test_depth_says_nothing_without_knowing_who_drains_it(
    workers: int, service_s: float | None
) -> None:
    """By a guess, lesser work would be held back for what takes no time."""
    worker = Worker(workers=workers, service_s=service_s)
    for _ in range(4):
        worker.period(10_000)

    assert 1.0 == worker.share


@pytest.mark.parametrize("workers", [0, 1])
def test_the_age_of_the_oldest_message_counts_beside_the_target(workers: int) -> None:
    """Whoever drains it: it has waited for that long."""
    worker = Worker(workers=workers)
    for _ in range(2):
        worker.period(ENOUGH, age_s=0.045)
    assert 1.0 == worker.share

    for _ in range(2):
        worker.period(ENOUGH, age_s=0.1)
    assert worker.share == pytest.approx(0.5)


def test_a_single_message_moves_the_share_by_a_sixth_at_most() -> None:
    """As a single late start does."""
    worker = Worker()
    for _ in range(2):
        worker.period(1, age_s=100.0)

    assert 5 / 6 < worker.share < 1.0


def test_what_is_gone_by_the_next_look_tells_nothing() -> None:
    """It has started, and its wait counts then."""
    worker = Worker()
    for _ in range(4):
        worker.period(100, age_s=1.0)
        worker.period(0)

    assert 1.0 == worker.share


def test_the_same_look_told_again_is_no_second_one() -> None:
    """The broker is asked in a thread, which may be slower than periods pass."""
    worker = Worker()
    look = Queued(100, 10.0, worker.now, 1)
    for _ in range(3):
        worker.now += 1.01
        worker.dispatcher.see({"critical": look})
        worker.dispatcher.decide(worker.now)

    assert 1.0 == worker.share


def test_old_looks_tell_nothing() -> None:
    """A broker that does not answer is no reason to hold anybody back, nor are clocks set back."""
    worker = Worker()
    looks = [Queued(100, 10.0, worker.now + each, 1) for each in (0.0, 1.0)]
    for late_s in (FRESH_S + 0.1, FRESH_S + 2, -20.0):
        for look in looks:
            worker.dispatcher.see({"critical": look})
        worker.dispatcher.decide(worker.now + late_s)

    assert 1.0 == worker.share


def test_a_broker_that_nobody_sees_any_more_tells_nothing() -> None:
    """Two looks before and after do not make one shortage."""
    worker = Worker()
    worker.period(100)
    worker.dispatcher.see({})
    worker.period(100)

    assert 1.0 == worker.share


def test_the_share_comes_back_when_the_queue_is_empty() -> None:
    """By itself, as slots come free."""
    worker = Worker()
    for _ in range(6):
        worker.period(100)
    assert worker.share < 0.2
    assert Cause.QUEUE is worker.dispatcher.throttled_by("optional")

    (held, *_) = worker.dispatcher._running
    worker.dispatcher.ended(held, worker.now)
    for _ in range(10):
        worker.period(0)
    assert 1.0 == worker.share
    assert worker.dispatcher.throttled_by("optional") is None


def test_a_paused_band_needs_no_room() -> None:
    """Nobody asks for its messages; what has waited through the pause was not late for a slot."""
    worker = Worker()
    policy = Policy(bands=(CRITICAL, OPTIONAL), default_band="optional")
    worker.dispatcher.amend(policy, ["critical"], worker.now)
    for _ in range(3):
        worker.period(100, age_s=50.0)
    assert 1.0 == worker.share

    worker.dispatcher.amend(policy, [], worker.now)
    for _ in range(3):
        worker.period(1, age_s=50.0)
    assert 1.0 == worker.share


def test_what_most_likely_waits_for_a_budget_needs_no_room() -> None:
    """More slots would not help it; where only some of the band lacks one, its queue counts."""
    policy = load(
        {
            "bands": {"critical": {"preempts": True, "latency_target": "100ms"}, "optional": {}},
            "default_band": "optional",
            "budgets": {"tenant:poor": {"slots": 2}},
        }
    )
    accounts = Accounts(policy, {}, calendar_window, lease_s=5.0)
    dispatcher = Dispatcher(policy.bands, SLOTS, accounts=accounts)
    poor = [ticket("critical", tenant="poor", published=NOW) for _ in range(3)]
    run(dispatcher, *poor)
    now = NOW
    for _ in range(4):
        now += 1.01
        dispatcher.see({"critical": Queued(100, 10.0, now, 1)})
        dispatcher.decide(now)
    assert 1.0 == dispatcher.throttled_to("optional")

    run(dispatcher, *(ticket("critical", published=now) for _ in range(4)), now=now)
    now += 1.01
    dispatcher.see({"critical": Queued(100, 10.0, now, 1)})
    dispatcher.decide(now)
    assert dispatcher.throttled_to("optional") < 1.0


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([Shortage(0.2, 9, Cause.WAIT), Shortage(0.4, 1, Cause.NODE)], 0.4),
        ([Shortage(0.0, 0, Cause.WAIT), Shortage(0.2, 9, Cause.NODE)], 0.2),
        # A lone one that is very late does not hide many that are late.
        ([Shortage(1.0, 9, Cause.WAIT), Shortage(8.0, 1, Cause.QUEUE)], 1.0),
        ([Shortage(0.55, 9, Cause.WAIT), Shortage(8.0, 3, Cause.QUEUE)], 8.0),
        ([Shortage(0.1, 9, Cause.WAIT), Shortage(0.6, 1, Cause.QUEUE)], 0.6),
    ],
)
def test_the_worst_is_what_takes_most(others: list[Shortage], expected: float) -> None:
    """By its size, as far as there is evidence for it."""
    assert expected == worst(others).size
    assert expected == worst(reversed(others)).size


# --- the ledger ---


POLICY: dict[str, Any] = {
    "bands": {
        "critical": {"preempts": True, "latency_target": "100ms"},
        "important": {},
        "optional": {},
    },
    "default_band": "optional",
    "budgets": {"tenant:*": {"slots": 4}},
}


class Ledger:
    """A worker whose tenants share slots of the fleet: one each, unless it is told otherwise.

    Attributes:
        now: Unix seconds.
    """

    def __init__(self, table: dict[str, Any] = POLICY) -> None:
        policy = load(table)
        self.accounts = Accounts(policy, {}, calendar_window, lease_s=5.0)
        self.dispatcher = Dispatcher(policy.bands, SLOTS, accounts=self.accounts)
        self.now = NOW
        self.dispatcher.decide(self.now)

    def offer(self, band: str, tenant: str, *, free: int = 0, made: Ticket | None = None) -> Ticket:
        """Offer a ticket, for which its tenant has so many slots of the fleet."""
        made = made or ticket(band, tenant=tenant, published=self.now)
        made.group = self.accounts.groups.of(made, self.now)
        self.allowance(tenant).free += free * self.allowance(tenant).step
        run(self.dispatcher, made, now=self.now)
        return made

    def allowance(self, tenant: str) -> Allowance:
        """Find what a tenant has."""
        found = self.accounts.allowances[f"tenant:{tenant} slots"]
        found.step = 1_000_000
        return found

    def grant(self, tenant: str, units: int) -> None:
        """Let the ledger grant so many to whoever waits."""
        allowance = self.allowance(tenant)
        allowance.free += units * allowance.step
        self.dispatcher.wake(self.accounts.woken(allowance), self.now)
        run(self.dispatcher, now=self.now)

    def exhaust(self, tenant: str) -> None:
        """Let the ledger have said that there is no more."""
        self.allowance(tenant).is_exhausted = True

    def periods(self, count: int = 1) -> None:
        """Let some pass."""
        for _ in range(count):
            self.now += 1.01
            self.dispatcher.decide(self.now)

    def shares(self) -> tuple[float, float]:
        """Tell those of the lesser bands."""
        dispatcher = self.dispatcher
        return dispatcher.throttled_to("important"), dispatcher.throttled_to("optional")


def test_who_uses_what_an_urgent_ticket_waits_for_makes_room() -> None:
    """In the share of all slots that it may use, down and back."""
    worker = Ledger()
    taken = worker.offer("optional", "acme", free=1)
    for _ in range(ENOUGH):
        worker.offer("critical", "acme")
    worker.exhaust("acme")
    worker.periods(2)

    assert (1.0, 0.25) == worker.shares()
    assert Cause.LEDGER is worker.dispatcher.throttled_by("optional")

    worker.dispatcher.ended(taken, worker.now)
    worker.periods(8)
    assert (1.0, 1.0) == worker.shares()


def test_who_has_waited_for_a_budget_counts_when_it_starts() -> None:
    """Though nobody waits at the moment when shares are set: 95 % are to start in time."""
    worker = Ledger()
    worker.offer("optional", "acme", free=1)
    waiting = [worker.offer("critical", "acme") for _ in range(ENOUGH)]
    worker.now += 0.5
    worker.grant("acme", ENOUGH)
    assert all(each in worker.dispatcher._running for each in waiting)
    worker.now += 0.51
    worker.dispatcher.decide(worker.now)

    assert (1.0, 0.5) == worker.shares()
    assert Cause.LEDGER is worker.dispatcher.throttled_by("optional")


def test_who_waits_for_a_slot_after_that_waits_for_a_slot() -> None:
    """What it waited for the budget is told by its start, once."""
    worker = Ledger()
    worker.offer("optional", "acme", free=1)
    first = worker.offer("critical", "acme")
    for number in range(SLOTS - 1):
        worker.offer("critical", f"tenant-{number}", free=1)
    worker.now += 0.5
    worker.grant("acme", 1)
    assert first not in worker.dispatcher._running
    worker.periods(4)

    assert (1.0, 1.0) == worker.shares()


def test_who_may_still_be_in_time_does_not_count_before_it_starts() -> None:
    """Four fifths of the wanted wait are no shortage yet."""
    worker = Ledger()
    worker.offer("optional", "acme", free=1)
    worker.now += 0.93
    for _ in range(ENOUGH):
        worker.offer("critical", "acme")
    worker.exhaust("acme")
    worker.now += 0.08
    worker.dispatcher.decide(worker.now)

    assert (1.0, 1.0) == worker.shares()


def test_what_was_paused_before_it_waited_for_a_budget_does_not_count() -> None:
    """Nobody knows which of the two made it late."""
    worker = Ledger()
    worker.offer("optional", "acme", free=1)
    policy = load(POLICY)
    worker.accounts.amend(policy, 1, [Pause(Scope.BAND, "critical")])
    worker.dispatcher.amend(policy, ["critical"], worker.now)
    for _ in range(ENOUGH):
        worker.offer("critical", "acme")
    worker.now += 0.5
    worker.accounts.amend(policy, 2, [])
    worker.dispatcher.amend(policy, [], worker.now)
    run(worker.dispatcher, now=worker.now)
    worker.now += 0.01
    worker.grant("acme", ENOUGH)
    assert ENOUGH == worker.dispatcher.running("critical")
    worker.now += 0.5
    worker.dispatcher.decide(worker.now)

    assert (1.0, 1.0) == worker.shares()


def test_tasks_that_can_do_less_are_asked_to_for_a_budget_too() -> None:
    """Before slots are taken from them: they use less of it."""
    worker = Ledger()
    can = ticket("optional", tenant="acme", published=worker.now)
    can.can_degrade = True
    worker.offer("optional", "acme", free=1, made=can)
    for _ in range(ENOUGH):
        worker.offer("critical", "acme")
    worker.exhaust("acme")
    worker.periods()
    assert worker.dispatcher.is_degraded("optional")
    assert (1.0, 1.0) == worker.shares()

    worker.periods(2)
    assert (1.0, 0.5) == worker.shares()


def test_those_that_found_the_budget_free_count_as_well() -> None:
    """One in thirty may be late."""
    worker = Ledger()
    worker.offer("optional", "acme", free=1)
    worker.offer("critical", "acme")
    worker.now += 0.5
    worker.grant("acme", 31)
    for _ in range(30):
        worker.dispatcher.ended(worker.offer("critical", "other", free=1), worker.now)
    worker.now += 0.51
    worker.dispatcher.decide(worker.now)

    assert (1.0, 1.0) == worker.shares()


def test_the_waits_of_a_period_are_those_for_so_many_accounts() -> None:
    """However many tenants have run out."""
    worker = Ledger()
    for number in range(2 * MOST_LACKS):
        made = worker.offer("critical", f"tenant-{number}")
        worker.now += 0.001
        worker.grant(f"tenant-{number}", 1)
        worker.dispatcher.ended(made, worker.now)

    (state, *_) = worker.dispatcher._order.bands
    assert MOST_LACKS == len(state.lacks)
    worker.periods()
    assert {} == state.lacks


def test_only_bands_that_draw_on_the_account_are_held_back() -> None:
    """Not those beside them; those below follow, as ever."""
    worker = Ledger()
    worker.offer("important", "acme", free=1)
    worker.offer("optional", "other", free=1)
    for _ in range(ENOUGH):
        worker.offer("critical", "acme")
    worker.exhaust("acme")
    worker.exhaust("other")
    worker.periods()

    assert (0.5, 0.5) == worker.shares()


def test_where_nobody_lesser_draws_on_it_nobody_is_held_back() -> None:
    """Urgent tickets have used it up themselves, or what runs draws on another account."""
    worker = Ledger()
    worker.offer("critical", "acme", free=1)
    worker.offer("optional", "other", free=1)
    for _ in range(ENOUGH):
        worker.offer("critical", "acme")
    worker.exhaust("acme")
    # Lesser tickets that wait for the same have nothing to give.
    worker.offer("optional", "acme")
    worker.periods(4)

    assert (1.0, 1.0) == worker.shares()


def test_waiting_for_the_ledgers_first_answer_is_no_shortage() -> None:
    """It may have enough."""
    worker = Ledger()
    worker.offer("optional", "acme", free=1)
    for _ in range(ENOUGH):
        worker.offer("critical", "acme")
    worker.periods(4)

    assert (1.0, 1.0) == worker.shares()


def test_lesser_tickets_that_wait_for_a_budget_hold_nobody_back() -> None:
    """There is no target that they miss."""
    worker = Ledger()
    worker.offer("optional", "acme", free=1)
    for _ in range(ENOUGH):
        worker.offer("important", "acme")
    worker.exhaust("acme")
    worker.periods(4)

    assert (1.0, 1.0) == worker.shares()


def test_who_was_paused_meanwhile_waits_for_a_budget_since_then() -> None:
    """The operator wanted it to wait."""
    worker = Ledger()
    worker.offer("optional", "acme", free=1)
    for _ in range(ENOUGH):
        worker.offer("critical", "acme")
    policy = load(POLICY)
    pause = Pause(Scope.BAND, "critical")
    worker.accounts.amend(policy, 1, [pause])
    worker.dispatcher.amend(policy, ["critical"], worker.now)
    worker.periods(4)
    worker.exhaust("acme")
    worker.periods()
    assert (1.0, 1.0) == worker.shares()

    worker.now += 0.97
    worker.accounts.amend(policy, 2, [])
    worker.dispatcher.amend(policy, [], worker.now)
    run(worker.dispatcher, now=worker.now)
    worker.exhaust("acme")
    # Its period ends: they wait for four hundredths of a second.
    worker.now += 0.04
    worker.dispatcher.decide(worker.now)
    assert (1.0, 1.0) == worker.shares()
    worker.periods()
    assert (1.0, 0.5) == worker.shares()


def test_a_band_does_not_make_room_for_itself() -> None:
    """Its own tickets wait for what others of it have; nobody goes before them."""
    bands = {**POLICY["bands"], "important": {"latency_target": "100ms"}}
    worker = Ledger({**POLICY, "bands": bands})
    worker.offer("important", "acme", free=1)
    for _ in range(ENOUGH):
        worker.offer("important", "acme")
    worker.exhaust("acme")
    worker.periods(4)
    assert (1.0, 1.0) == worker.shares()
