"""The minimum share's credit: its rate, its bounds, what is paid and what is forgiven."""

from __future__ import annotations

import pytest

from celery_budget.core.share import RACE_S, SHARE_SPAN_S, MinShare

SPAN = SHARE_SPAN_S


def test_the_rate_is_the_share_and_one_task_each_span() -> None:
    """That is all the over-service there is while no other task is longer."""
    share = MinShare(0.05, 2)
    share.reckon(2, 1.0, 1.0)

    assert pytest.approx((0.05 * 2 * SPAN + 1.0) / (SPAN - RACE_S)) == share.rate


def test_longer_tasks_of_others_raise_the_rate() -> None:
    """While they block, nothing is served, and it must be made good within the span."""
    share = MinShare(0.05, 2)
    share.reckon(2, 1.0, 5.0)

    assert pytest.approx((0.05 * 2 * SPAN + 1.0) / (SPAN - 5.0 - RACE_S + 1.0)) == share.rate


def test_more_than_one_slot_needs_more() -> None:
    """Each of the slots may be in the middle of a task where the span begins and ends."""
    share = MinShare(0.5, 4)
    share.reckon(4, 1.0, 1.0)

    assert pytest.approx((0.5 * 4 * SPAN + 1.0) / (SPAN - 2.0 - RACE_S)) == share.rate


@pytest.mark.parametrize("length_s", [8.0, 60.0, 3600.0])
def test_very_long_tasks_add_at_most_a_quarter_of_a_slot(length_s: float) -> None:
    """Nothing can promise them a part of every span; a band of them must not get the worker."""
    share = MinShare(0.05, 2)
    share.reckon(2, length_s, length_s)

    assert share.rate <= 0.05 * 2 + 0.25 + 1e-9


def test_no_more_is_owed_than_there_are_slots() -> None:
    """The credit would grow for ever."""
    share = MinShare(0.95, 1)
    share.reckon(1, 7.0, 7.0)

    assert 1.0 == share.rate


def test_an_idle_band_is_owed_little_more_than_its_next_turn() -> None:
    """A night without work must not become an hour of everything in the morning."""
    share = MinShare(0.05, 2)
    share.reckon(2, 1.0, 1.0)
    share.is_due(1_000.0)

    assert share.is_due(50_000.0)
    assert share.credit <= share.rate * (1.0 + RACE_S) + 1e-9


def test_it_is_due_again_when_the_task_is_paid_off() -> None:
    """This is the longest that a band with a minimum share waits for a slot to be its own."""
    share = MinShare(0.05, 2)
    share.reckon(2, 1.0, 1.0)
    share.is_due(100.0)
    share.credit = 0.0

    share.settle(share.pay(), 1.0)

    assert not share.is_due(100.0 + 0.99 / share.rate)
    assert share.is_due(100.0 + 1.01 / share.rate)


def test_what_a_short_task_did_not_take_is_given_back() -> None:
    """The longest is paid for in advance."""
    share = MinShare(0.05, 2)
    share.reckon(2, 4.0, 4.0)
    share.is_due(100.0)
    share.credit = 0.0

    share.settle(share.pay(), 0.5)

    assert pytest.approx(-0.5) == share.credit


def test_what_it_got_by_other_rights_never_starves_it_later() -> None:
    """A quiet hour in which it had all slots is no debt."""
    share = MinShare(0.05, 2)
    share.reckon(2, 1.0, 1.0)
    share.is_due(100.0)
    for _ in range(1_000):
        share.settle(0.0, 1.0)

    assert share.is_due(101.0 + 1.0 / share.rate)


def test_a_length_never_seen_is_forgiven_in_part() -> None:
    """Several at once would otherwise cost more than a span's share."""
    share = MinShare(0.05, 2)
    share.reckon(2, 0.5, 0.5)
    share.is_due(100.0)
    share.credit = 0.0
    paid = [share.pay(), share.pay()]
    for each in paid:
        share.settle(each, 5.0)

    assert -5.0 <= share.credit


def test_a_clock_set_back_neither_pays_nor_stops_the_credit() -> None:
    """An hour back would otherwise be an hour without the minimum share."""
    share = MinShare(0.05, 2)
    share.reckon(2, 1.0, 1.0)
    share.is_due(10_000.0)
    share.credit = -1.0

    assert not share.is_due(6_400.0)
    assert share.is_due(6_400.0 + 1.01 / share.rate)
