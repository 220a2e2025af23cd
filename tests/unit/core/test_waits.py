"""The waits of a period: a quantile as a multiple of the target, in little memory."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_budget.core.waits import Waits


def waits(target_s: float, *each: float) -> Waits:
    """Count some waits."""
    made = Waits(target_s)
    for wait_s in each:
        made.add(wait_s)
    return made


def test_no_wait_is_no_shortage() -> None:
    """Nothing that waited, or nothing that waited for long."""
    assert 0.0 == waits(0.25).quantile(0.95)
    assert 0.0 == waits(0.25, 0.0, 0.001, -3.0).quantile(0.95)


def test_the_target_itself_is_one() -> None:
    """Whatever it is."""
    for target_s in (0.001, 0.25, 60.0):
        assert 1.0 == waits(target_s, target_s).quantile(0.95)


def test_of_few_waits_the_longest_counts() -> None:
    """One in ten is more than one in twenty."""
    assert waits(0.1, *[0.0] * 9, 0.4).quantile(0.95) == pytest.approx(4.0)
    assert 0.0 == waits(0.1, *[0.0] * 19, 0.4).quantile(0.95)


def test_what_is_out_of_all_proportion_counts_as_eight_times() -> None:
    """An hour's backlog is answered like one of two seconds."""
    assert 8.0 == waits(0.25, 3_600.0).quantile(0.95)


def test_another_period_begins_empty() -> None:
    """What was is no part of it."""
    made = waits(0.25, 1.0)
    made.clear()

    assert 0 == made.count
    assert 0.0 == made.quantile(0.95)


@given(
    seed=st.integers(0, 2**32), count=st.integers(1, 500), part=st.sampled_from([0.5, 0.9, 0.95])
)
def test_a_quantile_is_right_within_a_tenth(seed: int, count: int, part: float) -> None:
    """As sorting them all would have it."""
    chance = Random(seed)
    each = [chance.uniform(0.14, 7.9) for _ in range(count)]
    exact = sorted(each)[count - int(count * (1 - part)) - 1]

    assert waits(1.0, *each).quantile(part) == pytest.approx(exact, rel=0.1)
