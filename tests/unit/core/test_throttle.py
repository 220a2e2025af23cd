"""The rule of one throttle, against plants that answer a share with a shortage."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from celery_budget.core.throttle import ENOUGH, FLOOR, GOAL, QUIET, Throttle

Plant = Callable[[float], float]


def plant(even: float, power: float) -> Plant:
    """Make a plant whose shortage is one at a share, and grows with that power of it."""
    return lambda share: (share / even) ** power


def shares(throttle: Throttle, plant: Plant, periods: int) -> list[float]:
    """Let a throttle follow a plant."""
    found = []
    for _ in range(periods):
        throttle.step(plant(throttle.share), ENOUGH)
        found.append(throttle.share)
    return found


@pytest.mark.parametrize("power", [0.5, 1, 2, 4])
@pytest.mark.parametrize("even", [0.1, 0.2, 0.3, 0.5, 0.7])
def test_it_settles_within_three_periods_and_stays(even: float, power: float) -> None:
    """However much or little the wait depends on the share."""
    found = shares(Throttle(), plant(even, power), 60)

    last = found[-1]
    assert all(abs(share - last) <= 0.1 for share in found[2:])
    assert max(found[10:]) - min(found[10:]) <= 0.1 * last
    shortage = plant(even, power)(last)
    assert GOAL / QUIET <= shortage
    assert shortage <= GOAL * QUIET or last == FLOOR


@pytest.mark.parametrize("even", [0.85, 0.95])
@pytest.mark.parametrize("power", [2, 4, 8])
def test_a_slight_shortage_on_a_steep_slope_takes_four(even: float, power: float) -> None:
    """It overshoots, and comes back."""
    found = shares(Throttle(), plant(even, power), 60)

    assert all(abs(share - found[-1]) <= 0.1 for share in found[3:])


@pytest.mark.parametrize("even", [0.1, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("power", [0.5, 1, 2, 4])
def test_it_is_back_within_ten_periods_when_the_shortage_ends(even: float, power: float) -> None:
    """By itself, however finely it had come to rest."""
    throttle = Throttle()
    shares(throttle, plant(even, power), 60)

    found = shares(throttle, lambda _: 0.0, 10)
    assert found == sorted(found)
    assert 1.0 == found[-1]


def test_it_never_closes() -> None:
    """Nor does it stay down for longer, when it has been there for an hour."""
    throttle = Throttle()

    assert FLOOR == min(shares(throttle, lambda _: 9.0, 3_600))
    assert 1.0 == shares(throttle, lambda _: 0.0, 10)[-1]


def test_a_cliff_is_found_and_not_swung_about() -> None:
    """All or nothing: enough room or none, as on a worker of few slots."""
    found = shares(Throttle(), lambda share: 8.0 if share > 0.5 else 0.0, 200)

    late = found[10:]
    assert max(late) - min(late) <= 0.1
    assert 0.4 <= min(late) <= max(late) <= 0.6


def test_one_late_start_of_few_moves_it_little() -> None:
    """A lone outlier is no overload."""
    once = Throttle()
    once.step(8.0, 1)
    often = Throttle()
    often.step(8.0, ENOUGH)

    assert once.share > 0.8
    assert 0.5 == often.share


def test_it_does_not_go_on_down_until_what_runs_has_followed() -> None:
    """Else it would be far too low when the last of it has ended."""
    throttle = Throttle()
    throttle.step(8.0, ENOUGH)
    for _ in range(10):
        throttle.step(8.0, ENOUGH, is_kept=False)

    assert 0.5 == throttle.share
