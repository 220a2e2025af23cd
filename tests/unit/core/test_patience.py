"""Patience: a free slot waits a moment for messages that go first, and only for a moment."""

from __future__ import annotations

from math import inf

import pytest

from celery_budget.core.patience import (
    GATHER_PART,
    GATHER_S,
    LEAST_GATHER_S,
    MARGIN,
    MOST_GATHER_S,
    MOST_SAVED_S,
    PAID_PART,
    Patience,
)


@pytest.mark.parametrize(
    ("expected_s", "limit"),
    [(10.0, GATHER_S), (0.1, 0.1 * GATHER_PART), (LEAST_GATHER_S / GATHER_PART / 2, 0.0)],
)
def test_the_limit_is_a_small_part_of_what_waits(expected_s: float, limit: float) -> None:
    """A wait costs throughput where no message comes, and is in vain where none can."""
    assert pytest.approx(limit) == Patience().limit(expected_s)


def test_slow_messages_are_waited_for_as_long_as_they_take() -> None:
    """A broker far away, or a machine with too much to do, must not turn the order around."""
    patience = Patience()
    patience.learn(0.008)
    patience.learn(0.001)

    assert MARGIN * 0.0078 < patience.limit(10.0) < MARGIN * 0.008
    for _ in range(100):
        patience.learn(0.001)
    assert GATHER_S == patience.limit(10.0)


@pytest.mark.parametrize("delay_s", [MOST_GATHER_S, MOST_GATHER_S * 1.01, 3_600.0, -1.0])
def test_no_message_is_waited_for_without_end(delay_s: float) -> None:
    """Another worker may have had it for an hour, or a clock was set."""
    patience = Patience()
    patience.learn(delay_s)

    assert patience.limit(100.0) <= MOST_GATHER_S


def test_waits_are_paid_and_earned_back_by_running() -> None:
    """Else a stream of messages that are just in time keeps slots idle for ever."""
    patience = Patience()
    for now in range(20):
        patience.wait(1, float(now))
        patience.end(now + 0.004)

    assert 0.0 == patience.limit(10.0)
    patience.earn(0.1 / PAID_PART)
    assert GATHER_S == patience.limit(10.0)


def test_savings_are_bounded() -> None:
    """A day of long tasks is no reason for minutes of waiting."""
    patience = Patience()
    patience.earn(86_400.0)

    assert MOST_SAVED_S == patience.left_s


def test_several_free_slots_that_wait_cost_as_much_each() -> None:
    """It is slot time that is lost."""
    patience = Patience()
    patience.wait(3, 100.0)
    patience.wait(1, 100.001)
    patience.end(100.002)

    assert pytest.approx(MOST_SAVED_S - 3 * 0.002) == patience.left_s


def test_a_wait_after_which_nothing_starts_costs_no_more_than_a_wait() -> None:
    """What waited may have been withdrawn, and the next ticket come an hour later."""
    patience = Patience()
    patience.wait(1, 100.0)
    patience.end(3_700.0)

    assert pytest.approx(MOST_SAVED_S - GATHER_S) == patience.left_s
    assert inf == patience.since
