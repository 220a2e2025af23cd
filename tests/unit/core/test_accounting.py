"""The rule of one account at its edges; what it promises as a whole is in tests/contracts."""

from __future__ import annotations

import pytest

from celery_budget.core.account import MOST, Account, AccountRule, Holder, Known
from celery_budget.core.accounting import (
    CALENDAR_KEPT_US,
    GONE_KEPT_US,
    advance,
    amend,
    forgotten_at,
    free_at,
    opened,
    relearn,
    report,
)

NOW = 1_700_000_000_000_000
SECOND = 1_000_000
HOUR = 3_600 * SECOND
CAPACITY = AccountRule(10)
STEADY = AccountRule(10, SECOND, 100)
HOURLY = AccountRule(100, HOUR, 30, turns=True)
CALENDAR = AccountRule(100, 0, 0, turns=True, number=7, begins=NOW)


def with_balance(rule: AccountRule, balance: int) -> Account:
    """Open an account and change what it has."""
    account = opened(rule, NOW)
    account.balance = balance
    return account


@pytest.mark.parametrize(
    ("rule", "full", "is_capacity", "is_calendar"),
    [(CAPACITY, 10, True, False), (STEADY, 100, False, False), (HOURLY, 130, False, False),
     (CALENDAR, 100, False, True)],
)  # fmt: skip
def test_a_rule_says_what_can_be_there(
    rule: AccountRule, full: int, is_capacity: bool, is_calendar: bool
) -> None:
    """A new account has all of it."""
    assert (full, is_capacity, is_calendar) == (rule.full, rule.is_capacity, rule.is_calendar)
    assert full == opened(rule, NOW).balance


def test_units_come_as_soon_as_they_are_whole_and_not_before() -> None:
    """Three a second: a third of a second each, rounded up."""
    rule = AccountRule(3, SECOND, 10)
    account = with_balance(rule, 0)
    balances = []
    for at in (333_333, 333_334, 666_667, 666_668):
        advance(account, rule, NOW + at)
        balances.append(account.balance)

    assert [0, 1, 1, 2] == balances


def test_filling_is_not_rounded_up_for_large_numbers() -> None:
    """A limit near 2**53 times microseconds needs more digits than a double has."""
    rule = AccountRule(MOST // 2, SECOND, MOST // 2)
    account = with_balance(rule, 0)
    for step in range(1, 1_000):
        advance(account, rule, NOW + step * 997)

    assert account.balance <= rule.limit * 999 * 997 // SECOND
    assert account.balance >= rule.limit * 998 * 997 // SECOND


def test_a_debt_has_a_bound_that_numbers_can_hold() -> None:
    """A wrong charge must not make the account unreadable."""
    account = opened(STEADY, NOW)
    for _ in range(3):
        report(account, "w", MOST, 0, 0, NOW + SECOND)

    assert -MOST == account.balance


def test_the_count_of_spent_units_starts_again_before_it_is_inexact() -> None:
    """It is a counter to look at; whoever draws it knows that counters start again."""
    account = opened(STEADY, NOW)
    report(account, "w", MOST - 1, 0, 0, NOW + SECOND)
    spent = [account.spent]
    for units in (1, 5):
        report(account, "w", units, 0, 0, NOW + SECOND)
        spent.append(account.spent)

    assert [MOST - 1, MOST, 5] == spent


def test_more_idle_units_than_can_be_saved_up_take_from_the_balance() -> None:
    """Not more than there is: others may have called theirs idle too."""
    account = opened(STEADY, NOW)
    account.holders = {name: Holder(out=60, until=NOW + SECOND) for name in "vw"}
    balances = []
    for name in "vw":
        report(account, name, 0, 60, 60, NOW + SECOND)
        balances.append(account.balance)

    assert [40, 0] == balances


def test_a_capacity_is_what_nobody_holds() -> None:
    """Whatever was reported before."""
    account = opened(CAPACITY, NOW)
    report(account, "w", 0, 7, 0, NOW + SECOND)
    report(account, "v", 0, 6, 0, NOW + SECOND)
    over = account.balance
    report(account, "w", 0, 1, 0, NOW + SECOND)

    assert [-3, 3] == [over, account.balance]


@pytest.mark.parametrize(
    ("rule", "balance", "units", "at"),
    [
        (STEADY, 5, 5, NOW),
        (STEADY, 0, 5, NOW + SECOND // 2),
        (STEADY, -95, 5, NOW + 10 * SECOND),
        (HOURLY, 50, 51, (NOW // HOUR + 1) * HOUR),
        (HOURLY, -150, 60, (NOW // HOUR + 3) * HOUR),
        (CALENDAR, 0, 1, 0),
        (CAPACITY, 0, 1, 0),
        (AccountRule(1, HOUR, 1), -MOST, 1, 0),
    ],
)
def test_the_time_when_units_may_be_there(
    rule: AccountRule, balance: int, units: int, at: int
) -> None:
    """None where nobody knows, or beyond what a number can tell."""
    assert at == free_at(with_balance(rule, balance), units, NOW)


@pytest.mark.parametrize(
    ("rule", "balance", "until"),
    [
        (STEADY, 100, NOW),
        (STEADY, 90, NOW + SECOND),
        (HOURLY, 130, NOW),
        (HOURLY, 100, (NOW // HOUR + 1) * HOUR),
        (CALENDAR, 100, NOW),
        (CALENDAR, 99, NOW + CALENDAR_KEPT_US),
        (CAPACITY, 10, NOW),
        (AccountRule(1, HOUR, 1), -MOST, NOW + CALENDAR_KEPT_US),
    ],
)
def test_an_account_is_kept_until_a_fresh_one_is_the_same(
    rule: AccountRule, balance: int, until: int
) -> None:
    """Not longer: there may be a million tenants."""
    assert until == forgotten_at(with_balance(rule, balance), NOW)


@pytest.mark.parametrize(("rule", "kept"), [(CAPACITY, 0), (STEADY, GONE_KEPT_US)])
def test_an_account_is_kept_while_somebody_may_report(rule: AccountRule, kept: int) -> None:
    """Who was cut off may come back within ten minutes; to a capacity it comes anew."""
    account = opened(rule, NOW)
    account.holders["w"] = Holder(out=1, until=NOW + SECOND)

    assert NOW + SECOND + kept == forgotten_at(account, NOW)


def test_what_is_known_of_a_capacity_teaches_nothing() -> None:
    """What everybody holds, which they report, is all there is to know."""
    account = opened(CAPACITY, NOW)
    relearn(account, "w", Known(3, NOW, 7), NOW)

    assert opened(CAPACITY, NOW) == account


def test_the_least_that_anybody_knows_is_believed() -> None:
    """Who tells more has heard of it earlier."""
    account = opened(HOURLY, NOW)
    for worker, balance in (("a", 70), ("b", 40), ("c", 90)):
        relearn(account, worker, Known(balance, NOW, 5), NOW)

    assert 40 == account.balance
    assert 15 == account.leased


def test_another_kind_of_rule_starts_from_what_is_there() -> None:
    """Nothing that is out is there, and what was spent of another kind does not count."""
    account = with_balance(HOURLY, 20)
    report(account, "w", 0, 4, 0, NOW + SECOND)
    amend(account, CAPACITY, NOW)
    capacity = account.balance
    amend(account, STEADY, NOW)
    steady = account.balance
    amend(account, HOURLY, NOW)

    assert [6, 96, 96] == [capacity, steady, account.balance]


def test_a_rule_with_a_huge_limit_changes_exactly() -> None:
    """Sums on the way must not be larger than what a double holds."""
    huge = AccountRule(MOST - 1, HOUR, 1, turns=True)
    account = opened(huge, NOW)
    report(account, "w", 3, 0, 0, NOW)
    amend(account, huge._replace(limit=1), NOW)
    low = account.balance
    amend(account, huge, NOW)

    assert [0, MOST - 3] == [low, account.balance]


def test_a_cut_and_a_huge_debt_stay_exact_together() -> None:
    """What is left without the cut must be a number that a double holds."""
    huge = AccountRule(MOST - 1, HOUR, 1, turns=True)
    account = opened(huge, NOW)
    report(account, "w", MOST, 0, 0, NOW)
    amend(account, huge._replace(limit=1), NOW)
    report(account, "w", MOST, 0, 0, NOW)

    assert account.cut == MOST - 2
    assert -MOST == account.balance - account.cut
