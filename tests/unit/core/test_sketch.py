"""What a sketch tells of executions that ended."""

from __future__ import annotations

from random import Random

import pytest

from celery_budget.core.sketch import (
    HALF_LIFE,
    LAST_BUCKET,
    MOST_WEIGHT,
    WEIGHT,
    Sketch,
    bucket_of,
    middle_of,
)
from celery_budget.units import LARGEST


def see(sketch: Sketch, units: int, aside: int = 0) -> None:
    """Let it learn from one execution."""
    sketch.observe(bucket_of(units), bucket_of(aside))


@pytest.mark.parametrize("part", [0.5, 0.95])
@pytest.mark.parametrize("kind", ["even", "long tail", "two kinds"])
def test_a_quantile_is_told_within_five_percent(part: float, kind: str) -> None:
    """Whatever the distribution is."""
    rng = Random(1)
    draw = {
        "even": lambda: rng.uniform(1e3, 1e6),
        "long tail": lambda: rng.lognormvariate(10, 1),
        "two kinds": lambda: rng.gauss(1e4, 100) if rng.random() < 0.8 else rng.gauss(1e6, 1e4),
    }[kind]
    # As many as weigh more than a fifth: what is older hardly counts.
    seen = [round(draw()) for _ in range(1_000)]
    sketch = Sketch()
    for units in seen * 5:
        see(sketch, units)

    truth = sorted(seen)[int(part * len(seen)) - 1]
    # 5 % of the bucket, and 5 % because the newest weigh more.
    assert truth == pytest.approx(sketch.quantile(part), rel=0.10)


def test_executions_that_used_nothing_are_zero() -> None:
    """Most calls may be served from a cache."""
    sketch = Sketch()
    for _ in range(100):
        see(sketch, 0)
    for _ in range(3):
        see(sketch, 1_000_000)

    assert 0 == sketch.quantile(0.95)
    assert 1_000_000 == pytest.approx(sketch.quantile(1.0), rel=0.05)


def test_what_was_not_seen_is_zero() -> None:
    """There is nothing to tell."""
    assert 0 == Sketch().quantile(0.95)


def test_a_change_of_code_is_followed() -> None:
    """After twice the half life three quarters of the weight is new."""
    sketch = Sketch()
    for _ in range(10_000):
        see(sketch, 1_000)
    for _ in range(2 * HALF_LIFE):
        see(sketch, 50_000)

    assert 50_000 == pytest.approx(sketch.quantile(0.5), rel=0.05)
    assert 1_000 == pytest.approx(sketch.quantile(0.2), rel=0.05)


def test_the_share_that_exceeded_its_reservation_is_told() -> None:
    """It shows whether estimates are of any use."""
    rng = Random(2)
    sketch = Sketch()
    for _ in range(5_000):
        see(sketch, rng.randrange(1_000), 950)

    assert 0.05 == pytest.approx(sketch.exceeded / sketch.total, abs=0.03)


def test_a_sketch_stays_small_whatever_it_sees() -> None:
    """There is one for each task type and resource."""
    rng = Random(3)
    sketch = Sketch()
    for _ in range(30_000):
        see(sketch, round(10 ** rng.uniform(0, 15)))

    assert len(sketch.buckets) < 400


@pytest.mark.parametrize("units", [0, 1, 2, 3, 17, 10**6, 10**12, LARGEST, 10 * LARGEST])
def test_the_middle_of_a_bucket_is_near_all_that_is_in_it(units: int) -> None:
    """Five percent, or the whole number next to it; nothing is beyond the largest amount."""
    bucket = bucket_of(units)

    assert min(units, LARGEST) == pytest.approx(middle_of(bucket), rel=0.05)
    assert 0 <= bucket <= LAST_BUCKET < 400


def test_what_is_set_aside_again_for_what_it_was_learned_from_is_not_exceeded() -> None:
    """A call that always costs two cents would otherwise exceed always, or never, by chance."""
    for units in range(1, 20_000, 7):
        sketch = Sketch()
        see(sketch, units, sketch.quantile(0.95))
        for _ in range(3):
            see(sketch, units, sketch.quantile(0.95))

        assert WEIGHT == sketch.exceeded


def test_two_sketches_add_up_to_what_both_have_seen() -> None:
    """Workers see different executions."""
    rng = Random(5)
    both, one, other = Sketch(), Sketch(), Sketch()
    for number in range(400):
        units, aside = rng.randrange(10**6), rng.randrange(10**6)
        see(both, units, aside)
        see(one if number % 2 else other, units, aside)
    one.add(other)

    assert both == one


def test_fading_halves_all_and_keeps_proportions() -> None:
    """Else a share would be told of more than there is."""
    sketch = Sketch()
    for number in range(2 * HALF_LIFE + 1):
        see(sketch, 1_000 if number % 4 else 5_000, 2_000)

    assert MOST_WEIGHT // 2 <= sketch.total <= MOST_WEIGHT // 2 + WEIGHT
    assert 2 * HALF_LIFE + 1 == sketch.count
    assert 0.25 == pytest.approx(sketch.exceeded / sketch.total, abs=0.001)
    assert bucket_of(2_000) == pytest.approx(sketch.aside / sketch.total, abs=0.001)


def test_a_sketch_reads_what_it_wrote() -> None:
    """Zero and the largest among it."""
    sketch = Sketch()
    for units in (0, 7, LARGEST):
        see(sketch, units, 7)

    assert sketch == Sketch.of(sketch.flat())
