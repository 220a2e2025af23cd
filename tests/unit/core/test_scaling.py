"""How many slots work takes, and how a pool follows it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_budget.core.scaling import (
    CLEAR_S,
    IN_USE,
    MOST_GROWTH,
    MOST_REST_S,
    REST_S,
    SLACK,
    STEP_S,
    Load,
    Scaler,
    needed,
)


@pytest.mark.parametrize(
    ("busy", "waiting_s", "slots"),
    [(0, 0, 0), (1, 0, 2), (4, 0, 5), (8, 0, 10), (0, CLEAR_S, 1), (8, 10 * CLEAR_S, 20)],
)
def test_what_runs_leaves_a_fifth_and_what_waits_is_done_in_time(
    busy: int, waiting_s: float, slots: int
) -> None:
    """Both at once."""
    assert slots == needed(busy, waiting_s)


class Pool:
    """A pool that follows, with work that comes evenly.

    Attributes:
        slots: That it has.
        sizes: In each second.
    """

    def __init__(self, least: int = 1, most: int = 16) -> None:
        self.scaler = Scaler(least, most)
        self.slots = least
        self.sizes: list[int] = []
        self._second = 0

    def run(self, seconds: int, load: Callable[[int], Load]) -> None:
        """Let time pass."""
        for _ in range(seconds):
            self.slots = self.scaler.step(load(self.slots), self._second)
            self.sizes.append(self.slots)
            self._second += 1

    @property
    def turns(self) -> int:
        """How often it grew after it had shrunk, or the other way round."""
        steps = [after - before for before, after in pairwise(self.sizes) if before != after]
        return sum((before > 0) != (after > 0) for before, after in pairwise(steps))


def steady(work: float) -> Callable[[int], Load]:
    """Make the load of so much work at once: what finds no slot waits."""
    return lambda slots: Load(slots, min(slots, round(work)), max(0.0, work - slots) * 10)


def test_it_grows_at_once_by_doubling() -> None:
    """With a look at what each step brought."""
    pool = Pool()
    pool.run(30, steady(8))

    grown = [after / before for before, after in pairwise(pool.sizes)]
    assert max(grown) <= MOST_GROWTH
    assert pool.sizes[int(4 * STEP_S)] >= 8
    assert pool.slots == 10


def test_it_shrinks_after_a_calm_minute_to_what_that_needed() -> None:
    """Not at once, and never below the least."""
    pool = Pool(least=2)
    pool.run(40, steady(8))
    before = pool.slots
    pool.run(int(REST_S) - 5, steady(2))
    assert before == pool.slots
    pool.run(20, steady(2))
    assert 3 <= pool.slots <= SLACK * before
    pool.run(int(REST_S), steady(2))
    assert 3 == pool.slots
    pool.run(2 * int(MOST_REST_S), steady(0))
    assert 2 == pool.slots


def test_bursts_that_come_again_do_not_make_it_thrash() -> None:
    """Each time it shrank too early it waits longer."""
    pool = Pool()
    for _ in range(40):
        pool.run(30, steady(8))
        pool.run(90, steady(1))

    late = Pool()
    late.sizes = pool.sizes[len(pool.sizes) // 2 :]
    assert late.turns <= 2
    assert min(late.sizes) >= 8


@pytest.mark.parametrize(
    "trouble", [{"failed": 0.6}, {"need": 0.85}], ids=["errors", "a node near its limit"]
)
def test_it_does_not_grow_into_trouble(trouble: dict[str, float]) -> None:
    """What waits would only fail, or bring the node down."""
    pool = Pool(least=2)
    pool.run(60, lambda slots: Load(slots, slots, 1_000.0, **trouble))

    assert {2} == set(pool.sizes)
    assert pool.scaler.needed > 30


def test_under_pressure_it_gives_slots_up() -> None:
    """Step by step, whatever waits."""
    pool = Pool(least=2)
    pool.run(60, steady(16))
    assert 16 == pool.slots
    pool.run(int(2.5 * STEP_S), lambda slots: Load(slots, slots, 1_000.0, need=1.2))
    assert 2 <= pool.slots <= 9


def test_what_waits_for_long_counts_though_it_seems_little() -> None:
    """Its tasks may take longer than anybody knows yet."""
    pool = Pool()
    pool.run(30, lambda slots: Load(slots, 0, 0.1, age_s=CLEAR_S + 1))

    assert pool.slots > 1


def test_it_follows_limits_that_change() -> None:
    """`celery control autoscale`."""
    pool = Pool(most=4)
    pool.run(60, steady(16))
    assert 4 == pool.slots
    pool.scaler.most = 3
    pool.run(1, steady(16))
    assert 3 == pool.slots
    pool.scaler.least = pool.scaler.most = 5
    pool.run(10, steady(0))
    assert 5 == pool.slots


@given(st.integers(0, 2**32))
def test_it_stays_within_its_limits_and_holds_what_it_needs(seed: int) -> None:
    """Whatever comes."""
    chance = Random(seed)
    least = chance.randint(0, 4)
    pool = Pool(least, least + chance.randint(1, 12))
    for _ in range(20):
        work = chance.choice([0.0, 1.0, chance.uniform(0, 20)])
        pool.run(chance.randint(1, 200), steady(work))
        assert pool.scaler.least <= pool.slots <= pool.scaler.most
    pool.run(60, steady(work))
    assert pool.slots >= min(pool.scaler.most, int(work / IN_USE))
