"""How long a thing has to be calm."""

from __future__ import annotations

from celery_budget.core.rest import Rest
from tests.unit.core.worker import NOW


def over_after(rest: Rest, begin: float) -> float:
    """Tell after how many calm seconds it is over."""
    rest.begin(NOW + begin)
    second = 0.0
    while not rest.is_over(NOW + begin + second, is_calm=True):
        second += 1
        assert second < 1_000
    return second


def test_it_is_over_after_so_many_calm_seconds() -> None:
    """In a row: trouble begins it anew."""
    rest = Rest(10, 40)
    rest.begin(NOW)
    for second in range(100):
        assert not rest.is_over(NOW + second, is_calm=second % 10 != 9)
    assert 10 == over_after(rest, 200)


def test_it_is_longer_where_it_was_too_short() -> None:
    """Twice as long each time, up to the most; and as at first when it was long ago."""
    rest = Rest(10, 40)
    begin, lasted = 0.0, []
    for _ in range(4):
        lasted.append(over_after(rest, begin))
        begin += lasted[-1] + 1
    assert [10, 20, 40, 40] == lasted
    assert 10 == over_after(rest, begin + 1_000)


def test_a_clock_that_is_set_back_does_not_prolong_it() -> None:
    """By an hour, in the midst of the rest."""
    rest = Rest(10, 40)
    rest.begin(NOW)
    assert not rest.is_over(NOW, is_calm=True)
    assert not rest.is_over(NOW - 3_600, is_calm=True)
    assert rest.is_over(NOW - 3_590, is_calm=True)
