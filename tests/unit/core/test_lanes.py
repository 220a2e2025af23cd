"""Which lane a task goes to."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from celery_budget.core.lanes import MORE, OWN, PART, TIMES, choose, order_of

COUNT = 8


def test_the_order_of_a_tenant_is_the_same_everywhere() -> None:
    """Senders of other releases and machines must agree; Python's own hash differs by process."""
    assert (2, 0, 7, 4, 6, 3, 1, 5) == order_of("elephant", COUNT)
    assert (5, 6, 2, 7, 1, 3, 0, 4) == order_of("t59", COUNT)


def test_tenants_are_spread_evenly_over_all_pairs() -> None:
    """A lane that is everybody's would be nobody's."""
    pairs = Counter(frozenset(order_of(f"t{n}", COUNT)[:OWN]) for n in range(28_000))

    assert 28 == len(pairs)
    assert max(pairs.values()) < 1_150
    assert min(pairs.values()) > 850


@pytest.mark.parametrize(("old", "new"), [(4, 8), (8, 7), (8, 9)])
def test_another_number_of_lanes_changes_few_orders(old: int, new: int) -> None:
    """The messages of a tenant should not lie in four lanes while the number changes."""
    fewest = min(old, new)
    for number in range(500):
        before = [lane for lane in order_of(f"t{number}", old) if lane < fewest]
        after = [lane for lane in order_of(f"t{number}", new) if lane < fewest]

        assert before == after


def test_the_shorter_of_its_own_two_is_taken() -> None:
    """The next message waits behind fewer."""
    order = order_of("t", COUNT)
    depths = [0] * COUNT
    depths[order[0]] = 5

    assert order[1] == choose(order, depths, 0)


def test_a_tenant_goes_on_where_others_have_filled_its_own() -> None:
    """One pair of names in 28 has the same two lanes."""
    order = order_of("t", COUNT)
    depths = [0] * COUNT
    depths[order[0]] = depths[order[1]] = 50_000

    assert order[2] == choose(order, depths, 0)
    assert order[2] == choose(order, depths, 100_000 // PART - 1)


def test_a_tenant_that_has_filled_its_own_keeps_to_them() -> None:
    """Else the whole band would be one tenant's."""
    order = order_of("t", COUNT)
    depths = [0] * COUNT
    depths[order[0]], depths[order[1]] = 50_001, 50_000

    assert order[1] == choose(order, depths, 100_000 // PART + 1)


def test_small_differences_move_nobody() -> None:
    """Lanes of an ordinary load are never equally long."""
    order = order_of("t", COUNT)
    depths = [0] * COUNT
    depths[order[0]] = depths[order[1]] = MORE

    assert order[0] == choose(order, depths, 0)


def test_lanes_that_a_second_backlog_fills_are_passed_over() -> None:
    """Two enormous backlogs fill four lanes, and the others are still free."""
    order = order_of("t", COUNT)
    depths = [0] * COUNT
    for number in order[:4]:
        depths[number] = 50_000

    assert order[4] == choose(order, depths, 0)


def test_a_backlog_whose_senders_do_not_know_of_each_other_leaves_lanes_free() -> None:
    """Each web process sends one task and knows nothing of what the others sent."""
    order = order_of("t", COUNT)
    depths = [0] * COUNT
    for _ in range(100_000):
        depths[choose(order, depths, 0)] += 1
    found = [depths[number] for number in order]

    assert found[0] + found[1] > 90_000
    for before, after in itertools.pairwise(found[1:]):
        assert after <= before / TIMES + 1
    assert [0, 0] == found[6:]


@pytest.mark.parametrize("count", [2, 3, 64])
def test_any_number_of_lanes_will_do(count: int) -> None:
    """Two is the least that makes lanes."""
    order = order_of("t", count)

    assert list(range(count)) == sorted(order)
    assert choose(order, [0] * count, 0) == order[0]
