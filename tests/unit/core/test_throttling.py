"""What a dispatcher holds back for a band that waits too long, and what it never does."""

from __future__ import annotations

import pytest

from celery_budget.core.accounts import Accounts
from celery_budget.core.calendar import calendar_window
from celery_budget.core.decisions import Reason, Start, Wait
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.throttle import FLOOR
from celery_budget.core.ticket import Ticket
from celery_budget.policy.budget import Scope
from celery_budget.policy.live import Pause
from celery_budget.policy.load import load
from celery_budget.policy.model import Band, Policy
from celery_budget.policy.preemption import Method
from tests.unit.core.worker import NOW, run, ticket

CRITICAL = Band("critical", 0, preempts=True, latency_target=0.1)
OPTIONAL = Band("optional", 2)


class Hands:
    """Starts and ends tickets of a dispatcher, second by second."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.now = NOW
        self.dispatcher.decide(NOW)  # its first period begins

    def late(self, count: int, band: str = "critical", late_s: float = 1.0) -> None:
        """Let so many run that had to wait, and a period end."""
        for _ in range(count):
            late = ticket(band, published=self.now - late_s)
            self.dispatcher.offer(late, self.now)
            decision = self.dispatcher.decide(self.now)
            assert isinstance(decision, Start), decision
            assert decision.ticket is late
            self.now += 0.05
            self.dispatcher.ended(late, self.now)
        self.period()

    def period(self) -> None:
        """Let a period end."""
        self.now += 1.0
        self.dispatcher.decide(self.now)

    def fill(self, count: int, band: str = "optional") -> list[Ticket]:
        """Offer so many, and give those that start now."""
        offered = [ticket(band, published=self.now) for _ in range(count)]
        done = run(self.dispatcher, *offered, now=self.now)
        return [decision.ticket for decision in done if isinstance(decision, Start)]


def hands(*bands: Band, slots: int = 8) -> Hands:
    """Make a dispatcher of these bands, or of a critical and an optional one."""
    return Hands(Dispatcher(bands or (CRITICAL, OPTIONAL), slots))


def test_late_starts_leave_lesser_bands_half_of_the_slots() -> None:
    """And the rest stays free for what comes."""
    worker = hands()
    worker.late(10)

    assert 0.5 == worker.dispatcher.throttled_to("optional")
    assert 1.0 == worker.dispatcher.throttled_to("critical")
    assert 4 == len(worker.fill(8))
    assert 4 == len(worker.fill(8, "critical"))


def test_without_a_target_nobody_is_held_back() -> None:
    """However long it waits."""
    worker = hands(Band("critical", 0, preempts=True), OPTIONAL)
    worker.late(10, late_s=1_000.0)

    assert 1.0 == worker.dispatcher.throttled_to("optional")
    assert 8 == len(worker.fill(8))


def test_a_band_is_held_back_for_all_above_it_and_for_none_below() -> None:
    """Each by what waits above it."""
    worker = hands(CRITICAL, Band("important", 1, latency_target=5.0), OPTIONAL)
    worker.late(10, "important", late_s=30.0)

    assert 1.0 == worker.dispatcher.throttled_to("important")
    wanted, ahead, _ = worker.dispatcher.demand("important")
    assert 8 == wanted - ahead
    assert 0.5 == worker.dispatcher.throttled_to("optional")
    worker.late(10, "critical")
    assert 0.5 == worker.dispatcher.throttled_to("important")


def test_bands_below_share_what_is_left_to_the_upper_one() -> None:
    """Half of the slots for both, not for each; by their weights."""
    worker = hands(CRITICAL, Band("important", 1, weight=3.0), OPTIONAL)
    worker.late(10)
    for band in ("important", "optional"):
        for _ in range(8):
            worker.dispatcher.offer(ticket(band, published=worker.now), worker.now)
    run(worker.dispatcher, now=worker.now)

    assert (3, 1) == (worker.dispatcher.running("important"), worker.dispatcher.running("optional"))


def test_less_than_a_slot_is_a_part_of_the_time() -> None:
    """A quarter of four slots and then a half of one: as long at rest as at work."""
    worker = hands(slots=1)
    worker.late(10)
    (first,) = worker.fill(2)
    worker.now += 0.4
    worker.dispatcher.ended(first, worker.now)

    decision = worker.dispatcher.decide(worker.now)
    assert isinstance(decision, Wait)
    assert Reason.THROTTLED is decision.reason
    assert decision.until - worker.now == pytest.approx(0.4, abs=1e-3)
    assert isinstance(worker.dispatcher.decide(worker.now + 0.4), Start)


def test_a_held_back_ticket_says_why() -> None:
    """Nobody else uses the slot, so that `behind` would be a riddle."""
    worker = hands()
    worker.late(10)
    worker.fill(4)
    (waiting,) = [ticket("optional", task_id="riddle", published=worker.now)]
    run(worker.dispatcher, waiting, now=worker.now)

    wait = worker.dispatcher.explain("riddle", worker.now)
    assert wait is not None
    assert Reason.THROTTLED is wait.reason
    assert wait.until <= worker.now + 1.0


def test_its_minimum_share_starts_a_ticket_all_the_same() -> None:
    """A promise is not taken back because others are in a hurry."""
    worker = hands(CRITICAL, Band("optional", 2, min_share=0.2), slots=2)
    for _ in range(20):
        worker.late(4)
    assert FLOOR == worker.dispatcher.throttled_to("optional")
    (first,) = worker.fill(1)
    worker.dispatcher.ended(first, worker.now)
    assert 1 <= worker.dispatcher.window("optional")

    worker.dispatcher.offer(ticket("optional", published=worker.now), worker.now)
    worker.now += 10.0
    decision = worker.dispatcher.decide(worker.now)
    assert isinstance(decision, Start)
    assert Reason.MIN_SHARE is decision.reason


def test_no_more_is_asked_of_the_broker_than_may_start() -> None:
    """Another worker may have room for it."""
    worker = hands()
    worker.dispatcher.listen(["critical", "optional"], worker.now)
    assert 8 == worker.dispatcher.window("optional")
    worker.late(10)

    assert 8 <= worker.dispatcher.window("critical")
    assert 4 == worker.dispatcher.window("optional")
    worker.fill(4)
    # One is at hand for the next slot, as for any band by weight.
    assert 1 == worker.dispatcher.window("optional")


def test_it_goes_back_when_nobody_waits_any_more() -> None:
    """Also when nothing urgent comes at all."""
    worker = hands()
    worker.late(10)
    for _ in range(8):
        worker.period()

    assert 1.0 == worker.dispatcher.throttled_to("optional")
    assert 8 == len(worker.fill(8))


def test_a_full_worker_without_starts_tells_nothing() -> None:
    """What waits may be in the broker, which nobody asks while no slot is free."""
    worker = hands()
    worker.late(10)
    worker.fill(8, "critical")
    worker.period()
    share = worker.dispatcher.throttled_to("optional")
    for _ in range(5):
        worker.period()

    assert share == worker.dispatcher.throttled_to("optional") < 1.0


def test_what_waits_here_too_long_counts_before_it_starts() -> None:
    """It is the worst of all waits."""
    worker = hands()
    worker.fill(8, "critical")
    run(worker.dispatcher, ticket("critical", published=worker.now), now=worker.now)
    worker.period()

    assert worker.dispatcher.throttled_to("optional") < 1.0


def test_who_waited_for_a_budget_needs_no_slot() -> None:
    """More room would not have helped."""
    policy = load(
        {
            "bands": {"critical": {"preempts": True, "latency_target": "100ms"}, "optional": {}},
            "default_band": "optional",
            "budgets": {"band:critical": {"slots": 2}},
        }
    )
    accounts = Accounts(policy, {}, calendar_window, lease_s=5.0)
    dispatcher = Dispatcher(policy.bands, 8, accounts=accounts)
    worker = Hands(dispatcher)
    dispatcher.offer(ticket("critical", published=worker.now), worker.now)
    dispatcher.decide(worker.now)
    worker.now += 0.1
    for _ in range(7):
        dispatcher.offer(ticket("critical", published=worker.now), worker.now)
    (group,) = accounts._blocked
    worker.now += 0.8
    (allowance,) = group.allowances
    allowance.free = 8 * allowance.rule.limit // 2
    dispatcher.wake(accounts.woken(allowance), worker.now)
    run(dispatcher, now=worker.now)
    assert 8 == dispatcher.running("critical")
    worker.period()

    assert 1.0 == dispatcher.throttled_to("optional")


@pytest.mark.parametrize(
    ("pause", "paused"),
    [(Pause(Scope.BAND, "critical"), ["critical"]), (Pause(Scope.TASK, "task"), [])],
)
def test_who_was_paused_needs_no_slot(pause: Pause, paused: list[str]) -> None:
    """The operator wanted it to wait."""
    bands = (CRITICAL, OPTIONAL)
    policy = Policy(bands=bands, default_band="optional")
    accounts = Accounts(policy, {}, calendar_window, lease_s=5.0)
    dispatcher = Dispatcher(bands, 8, accounts=accounts)
    worker = Hands(dispatcher)
    accounts.amend(policy, 1, [pause])
    dispatcher.amend(policy, paused, worker.now)
    run(dispatcher, *(ticket("critical", published=worker.now) for _ in range(8)), now=worker.now)
    worker.now += 0.9
    accounts.amend(policy, 2, [])
    dispatcher.amend(policy, [], worker.now)
    run(dispatcher, now=worker.now)
    assert 8 == dispatcher.running("critical")
    worker.period()

    assert 1.0 == dispatcher.throttled_to("optional")


def test_what_came_to_the_broker_during_a_pause_needs_no_slot() -> None:
    """No worker asked for it."""
    worker = hands()
    policy = Policy(bands=(CRITICAL, OPTIONAL), default_band="optional")
    worker.dispatcher.amend(policy, ["critical"], worker.now)
    worker.now += 0.5
    late = [ticket("critical", published=worker.now) for _ in range(8)]
    worker.now += 0.4
    worker.dispatcher.amend(policy, [], worker.now)
    run(worker.dispatcher, *late, now=worker.now)
    assert 8 == worker.dispatcher.running("critical")
    worker.period()

    assert 1.0 == worker.dispatcher.throttled_to("optional")


def test_who_made_room_and_comes_back_needs_no_slot() -> None:
    """It has run since it was published."""
    important = Band("important", 1, latency_target=0.1, preempt=(Method.CHECKPOINT,))
    bands = (Band("critical", 0, preempts=True), important, OPTIONAL)
    worker = Hands(Dispatcher(bands, 8, ways=frozenset({Method.CHECKPOINT})))
    begun = worker.now
    for number in range(4):
        for has_left in (True, False):
            made = ticket("important", task_id=f"task-{number}", published=begun)
            made.methods = (Method.CHECKPOINT,)
            worker.dispatcher.offer(made, worker.now)
            decision = worker.dispatcher.decide(worker.now)
            assert isinstance(decision, Start)
            worker.now += 0.2 if has_left else 0.0
            worker.dispatcher.ended(made, worker.now, has_left=has_left)
        begun = worker.now
    worker.period()

    assert 1.0 == worker.dispatcher.throttled_to("optional")


def test_another_target_holds_from_the_next_period_on() -> None:
    """Shares stay as they are; what is above no target any more is not held back for it."""
    worker = hands()
    worker.late(10)
    patient = Band("critical", 0, preempts=True, latency_target=60.0)
    worker.dispatcher.amend(Policy(bands=(patient, OPTIONAL), default_band="optional"), [], NOW)
    assert 0.5 == worker.dispatcher.throttled_to("optional")
    worker.late(10)
    assert worker.dispatcher.throttled_to("optional") > 0.5

    calm = Band("critical", 0, preempts=True)
    worker.dispatcher.amend(Policy(bands=(calm, OPTIONAL), default_band="optional"), [], NOW)
    assert 1.0 == worker.dispatcher.throttled_to("optional")


@pytest.mark.parametrize("back_s", [0.5, 3_600.0])
def test_a_clock_that_is_set_back_stops_nothing(back_s: float) -> None:
    """Shares follow on, and what is held back starts in the end."""
    worker = hands(slots=1)
    worker.late(10)
    (first,) = worker.fill(2)
    worker.now += 0.4
    worker.dispatcher.ended(first, worker.now)
    assert isinstance(worker.dispatcher.decide(worker.now), Wait)
    worker.now -= back_s
    decision = worker.dispatcher.decide(worker.now)
    assert isinstance(decision, Wait)
    # The share has grown meanwhile, as nothing urgent came.
    assert 0.0 < decision.until - worker.now < 0.4
    assert isinstance(worker.dispatcher.decide(decision.until), Start)
