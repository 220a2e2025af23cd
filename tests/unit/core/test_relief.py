"""Whose memory has to come free: as few as it takes."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from celery_budget.core.relief import fewest
from tests.unit.core.worker import ticket


@given(st.lists(st.integers(0, 20), max_size=7), st.integers(1, 60))
def test_nobody_leaves_whom_the_others_make_unnecessary(takes: list[int], excess: int) -> None:
    """It is enough wherever it can be, and without any one of them it is not."""
    able = [(ticket("a"), each) for each in takes]
    chosen = fewest(able, excess)
    sizes = [each for who, each in able if who in chosen]

    assert all(sizes)
    if sum(takes) < excess:
        assert sum(sizes) == sum(takes)
        return
    assert sum(sizes) >= excess
    assert all(sum(left) < excess for left in combinations(sizes, len(sizes) - 1))


def test_who_is_first_leaves_first() -> None:
    """Where any of them would do."""
    able = [(ticket("a"), 5), (ticket("a"), 5), (ticket("a"), 50)]

    assert {able[0][0]} == fewest(able, 5)
    assert {able[0][0], able[1][0]} == fewest(able, 6)


def test_small_ones_are_spared_where_a_large_one_has_to_leave() -> None:
    """They come first, and would not be enough."""
    able = [(ticket("a"), 5), (ticket("a"), 5), (ticket("a"), 50)]

    assert {able[2][0]} == fewest(able, 40)
