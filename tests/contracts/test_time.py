"""What every ledger promises of time: windows turn once, whatever clocks and policies say."""

from __future__ import annotations

import pytest

from celery_budget.core.account import AccountRule
from tests.contracts.fleet import (
    CAPACITY,
    DAY,
    HOURLY,
    NOON,
    SECOND,
    STEADY,
    TODAY,
    Fleet,
    daily,
    want,
)


def test_a_window_that_turns_is_filled_when_it_begins(fleet: Fleet) -> None:
    """Not an hour after somebody used it first."""
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, spent=100)
    begins = (NOON // (3_600 * SECOND) + 1) * 3_600 * SECOND
    fleet.clock.now = begins - 1
    granted = worker.tell("a", HOURLY, want(100))
    fleet.clock.now = begins

    assert (0, begins) == (granted.units, granted.free_at)
    assert 100 == worker.tell("a", HOURLY, want(100)).units


def test_a_calendar_window_is_filled_by_whoever_tells_of_it_first(fleet: Fleet) -> None:
    """And by nobody else: some clocks are behind."""
    worker, behind = fleet.worker("w"), fleet.worker("behind")
    worker.tell("a", daily(100), spent=100)
    fleet.clock.now = TODAY + DAY
    tomorrow = daily(100, begins=TODAY + DAY)
    granted = [behind.tell("a", daily(100), want(10)).units]
    granted += [worker.tell("a", tomorrow, want(70)).units]
    for _ in range(3):
        behind.tell("a", daily(100))
        behind.tell("a", daily(100))
        granted.append(worker.tell("a", tomorrow, want(100), spent=sum(granted)).units)

    assert [0, 70, 30, 0, 0] == granted


def test_a_caller_whose_clock_is_ahead_is_not_believed(fleet: Fleet) -> None:
    """Nor does it keep others from telling when the next window does begin."""
    worker, ahead = fleet.worker("w"), fleet.worker("ahead")
    ahead.tell("a", daily(100, begins=TODAY + DAY), spent=100)
    ahead.tell("a", daily(100, begins=TODAY + 300 * DAY))
    today = worker.tell("a", daily(100), want(100)).units
    fleet.clock.now = TODAY + DAY

    assert 0 == today
    assert 100 == worker.tell("a", daily(100, begins=TODAY + DAY), want(100)).units


def test_a_caller_far_ahead_that_comes_first_stops_no_window(fleet: Fleet) -> None:
    """Its window would begin in a year."""
    worker, ahead = fleet.worker("w"), fleet.worker("ahead")
    ahead.tell("a", daily(100, begins=TODAY + 300 * DAY), spent=100)
    today = worker.tell("a", daily(100), want(100)).units
    fleet.clock.now = TODAY + DAY

    assert 0 == today
    assert 100 == worker.tell("a", daily(100, begins=TODAY + DAY), want(100)).units


def test_a_new_policy_told_by_a_clock_that_is_behind_fills_nothing_twice(fleet: Fleet) -> None:
    """It still tells of the last window."""
    worker, behind = fleet.worker("w"), fleet.worker("behind")
    fleet.clock.now = TODAY + DAY
    worker.tell("a", daily(100, begins=TODAY + DAY), spent=100)
    behind.tell("a", daily(100, version=1))

    assert 0 == worker.tell("a", daily(100, version=1, begins=TODAY + DAY), want(1)).units


def test_a_new_policy_told_after_midnight_fills_the_new_window(fleet: Fleet) -> None:
    """Else a deployment at night costs a day."""
    worker = fleet.worker("w")
    worker.tell("a", daily(100), spent=100)
    fleet.clock.now = TODAY + DAY

    assert 50 == worker.tell("a", daily(50, version=1, begins=TODAY + DAY), want(99)).units


@pytest.mark.parametrize("limit", [100, 3_000])
def test_days_instead_of_months_forgive_no_debt(fleet: Fleet, limit: int) -> None:
    """Numbers of days and of months have nothing to do with each other."""
    worker = fleet.worker("w")
    month = AccountRule(3_000, 0, 0, True, 646, TODAY - 13 * DAY)
    worker.tell("a", month, spent=9_000)

    days = worker.tell("a", daily(limit, version=1)).balance
    months = worker.tell("a", month._replace(version=2)).balance

    assert [-6_000, -6_000] == [days, months]


def test_an_envelope_is_not_filled_and_is_forgotten_at_its_end(fleet: Fleet) -> None:
    """Its one window is its life: the next one, at its end, finds nobody who needs it."""
    worker = fleet.worker("w")
    rule = AccountRule(100, turns=True, number=1, begins=NOON + 5 * DAY)
    left = [worker.tell("a", rule, spent=30).balance]
    for _ in range(4):
        fleet.clock.pass_s(86_400)
        left.append(worker.tell("a", rule, spent=10).balance)
    free_at = worker.tell("a", rule, want(31)).free_at
    worker.tell("a", rule)
    known = list(fleet.ledger.accounts())
    fleet.clock.pass_s(86_400)

    assert [70, 60, 50, 40, 30] == left
    assert NOON + 5 * DAY == free_at
    assert ["a"] == known
    assert {} == fleet.ledger.accounts()


def test_nothing_of_an_envelope_is_saved_up(fleet: Fleet) -> None:
    """Nothing will come: what is too little for one may be enough for another."""
    rule = AccountRule(100, turns=True, number=1, begins=NOON + 5 * DAY)
    first, second = fleet.worker("first"), fleet.worker("second")
    first.tell("a", rule, want(150, least=100), spent=50)

    assert 20 == second.tell("a", rule, want(20, least=20)).units


def test_an_answer_tells_what_others_hold(fleet: Fleet) -> None:
    """Whoever is told that there is too little must know whether more may come back."""
    one, other = fleet.worker("one"), fleet.worker("other")
    alone = one.tell("a", HOURLY, want(30)).others
    both = other.tell("a", HOURLY, want(50)).others
    fleet.clock.pass_s(6)

    assert [0, 30] == [alone, both]
    assert 0 == other.tell("a", HOURLY, held=50).others  # its lease has ended


def test_a_clock_set_back_across_a_turn_does_not_fill_twice(fleet: Fleet) -> None:
    """A failover to a server whose clock is behind is no second budget."""
    worker = fleet.worker("w")
    begins = (NOON // (3_600 * SECOND) + 1) * 3_600 * SECOND
    for account, rule in (("hourly", HOURLY), ("daily", daily(100))):
        fleet.clock.now = begins
        worker.tell(account, rule, spent=100)
        for _ in range(3):
            fleet.clock.now = begins - 1
            worker.tell(account, rule)
            fleet.clock.now = begins
            worker.tell(account, rule)

        assert 0 == fleet.balance(account)


def test_a_clock_set_back_by_hours_does_not_stop_the_filling(fleet: Fleet) -> None:
    """It goes on from there."""
    worker = fleet.worker("w")
    worker.tell("steady", STEADY, spent=100)
    worker.tell("hourly", HOURLY, spent=100)
    fleet.clock.pass_s(-6 * 3_600)
    worker.tell("steady", STEADY)
    worker.tell("hourly", HOURLY)
    fleet.clock.pass_s(3_600)

    assert 100 == worker.tell("steady", STEADY, want(100)).units
    assert 100 == worker.tell("hourly", HOURLY, want(100)).units


def test_a_clock_set_forward_fills_at_most_what_can_be_saved_up(fleet: Fleet) -> None:
    """It cannot be told from a long rest."""
    worker = fleet.worker("w")
    for account, rule in (("steady", STEADY), ("hourly", HOURLY)):
        worker.tell(account, rule, spent=100)
        fleet.clock.pass_s(400 * 86_400)

        assert rule.full == worker.tell(account, rule, want(9_999)).units


def test_parts_of_a_unit_are_not_lost_however_often_one_asks(fleet: Fleet) -> None:
    """At three units a second and a report each 50 ms none would ever come."""
    rule = AccountRule(3, SECOND, 10)
    worker = fleet.worker("w")
    worker.tell("a", rule, spent=10)
    units = 0
    for _ in range(20 * 60):
        fleet.clock.pass_s(0.05)
        granted = worker.tell("a", rule, want(10)).units
        worker.tell("a", rule, spent=granted)
        units += granted

    # Rounding up loses a microsecond for each.
    assert 3 * 60 - 1 <= units <= 3 * 60


def test_a_higher_limit_adds_what_it_is_higher(fleet: Fleet) -> None:
    """What has been spent in this window counts against the new limit."""
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, spent=130)

    assert 20 == worker.tell("a", HOURLY._replace(limit=150), want(150)).units


def test_a_lower_limit_makes_no_debt(fleet: Fleet) -> None:
    """It was not known when the units were spent."""
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, spent=80)
    lower = HOURLY._replace(limit=50)

    assert 0 == worker.tell("a", lower, want(50)).balance
    fleet.clock.pass_s(3_600)
    assert 50 == worker.tell("a", lower, want(50)).units


def test_a_debt_stays_what_it_is_when_the_limit_is_lowered(fleet: Fleet) -> None:
    """Neither forgiven nor multiplied."""
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, spent=130)

    assert -30 == worker.tell("a", HOURLY._replace(limit=50)).balance


def test_two_rules_by_turns_gain_nothing(fleet: Fleet) -> None:
    """So it is while half of a fleet has been deployed."""
    lower = HOURLY._replace(limit=50)
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, spent=80)
    for _ in range(10):
        worker.tell("a", lower)
        worker.tell("a", HOURLY)

    assert 20 == fleet.balance("a")


def test_what_a_lower_limit_took_is_forgotten_with_the_window(fleet: Fleet) -> None:
    """Else a higher one tomorrow would add too little."""
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, spent=130)
    worker.tell("a", HOURLY._replace(limit=50))
    fleet.clock.pass_s(3_600)

    assert 20 == worker.tell("a", HOURLY._replace(limit=50)).balance
    assert 70 == worker.tell("a", HOURLY).balance


def test_what_comes_back_under_a_lower_limit_is_not_spent_again(fleet: Fleet) -> None:
    """60 are out and 50 allowed: the first 10 that come back are none too many."""
    lower = HOURLY._replace(limit=50)
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, want(60))
    worker.tell("a", lower, held=60)

    assert 10 == worker.tell("a", lower, spent=40).balance


def test_a_lower_rate_keeps_what_still_fits(fleet: Fleet) -> None:
    """Savings are bounded by the new burst."""
    worker = fleet.worker("w")
    worker.tell("a", STEADY, spent=30)

    assert 20 == worker.tell("a", STEADY._replace(burst=20)).balance


def test_a_lower_capacity_waits_until_enough_is_back(fleet: Fleet) -> None:
    """What runs is not stopped."""
    worker = fleet.worker("w")
    worker.tell("a", CAPACITY, want(8))
    lower = AccountRule(5)

    assert -3 == worker.tell("a", lower, want(1), held=8).balance
    assert 1 == worker.tell("a", lower, want(1), held=4).units


def test_an_older_policy_does_not_win(fleet: Fleet) -> None:
    """While a fleet is deployed both are told by turns."""
    worker = fleet.worker("w")
    worker.tell("a", AccountRule(20, version=2), want(1))

    assert 19 == worker.tell("a", AccountRule(10, version=1), want(99), held=1).units
