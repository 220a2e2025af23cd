"""How many slots a load needs, and who keeps them."""

from __future__ import annotations

from math import exp, factorial

import pytest

from celery_budget.core.staffing import needed, portion


@pytest.mark.parametrize(
    ("load", "slots"), [(0.0, 0), (0.01, 0), (0.05, 0), (0.1, 1), (1.0, 3), (4.0, 8), (100.0, 120)]
)
def test_the_square_root_rule(load: float, slots: int) -> None:
    """Twice as much load needs less than twice as many slots."""
    assert slots == needed(load)


@pytest.mark.parametrize("load", [0.2, 0.5, 1.0, 3.0, 10.0, 30.0])
def test_that_many_are_nearly_always_enough(load: float) -> None:
    """The number in use varies as a Poisson variable does."""
    slots = needed(load)
    more = 1 - sum(exp(-load) * load**n / factorial(n) for n in range(slots + 1))

    assert more < 0.05


@pytest.mark.parametrize("total", [0, 1, 3, 7, 20])
@pytest.mark.parametrize("crew", [{"a": 4}, {"a": 4, "b": 4, "c": 4}, {"x": 1, "b": 8, "c": 3}])
def test_portions_add_up_and_go_by_slots(total: int, crew: dict[str, int]) -> None:
    """Rounding up on each of many workers would keep several times what is needed."""
    portions = {worker: portion(total, crew, worker) for worker in crew}

    assert total == sum(portions.values())
    slots = sum(crew.values())
    for worker, kept in portions.items():
        assert abs(kept - total * crew[worker] / slots) < 1
