"""What a sketch tells of executions that ended."""

from __future__ import annotations

from random import Random

import pytest

from celery_budget.core import estimate
from celery_budget.core.estimate import COVERED, HALF_LIFE, Profiles, Sketch


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
        sketch.observe(units, 0)

    truth = sorted(seen)[int(part * len(seen)) - 1]
    # 5 % of the bucket, and 5 % because the newest weigh more.
    assert truth == pytest.approx(sketch.quantile(part), rel=0.10)


def test_executions_that_used_nothing_are_zero() -> None:
    """Most calls may be served from a cache."""
    sketch = Sketch()
    for _ in range(100):
        sketch.observe(0, 0)
    for _ in range(3):
        sketch.observe(1_000_000, 0)

    assert 0 == sketch.quantile(0.95)
    assert 1_000_000 == pytest.approx(sketch.quantile(1.0), rel=0.05)


def test_what_was_not_seen_is_zero() -> None:
    """There is nothing to tell."""
    assert 0 == Sketch().quantile(0.95)


def test_a_change_of_code_is_followed() -> None:
    """After twice the half life three quarters of the weight is new."""
    sketch = Sketch()
    for _ in range(10_000):
        sketch.observe(1_000, 0)
    for _ in range(2 * HALF_LIFE):
        sketch.observe(50_000, 0)

    assert 50_000 == pytest.approx(sketch.quantile(0.5), rel=0.05)
    assert 1_000 == pytest.approx(sketch.quantile(0.2), rel=0.05)


def test_the_share_that_exceeded_its_reservation_is_told() -> None:
    """It shows whether estimates are of any use."""
    rng = Random(2)
    sketch = Sketch()
    for _ in range(5_000):
        sketch.observe(rng.randrange(1_000), 950)

    assert 0.05 == pytest.approx(sketch.exceeded, abs=0.03)


def test_a_sketch_stays_small_whatever_it_sees() -> None:
    """There is one for each task type and resource."""
    rng = Random(3)
    sketch = Sketch()
    for _ in range(30_000):
        sketch.observe(round(10 ** rng.uniform(0, 15)), 0)

    assert len(sketch._buckets) < 400


def test_an_estimate_covers_most_executions() -> None:
    """Set aside is what 95 of a hundred stay within."""
    rng = Random(4)
    profiles = Profiles()
    for _ in range(2_000):
        profiles.observe("task", "usd", rng.randrange(1, 1_000_000), 0)
    estimated = profiles.estimate("task", "usd")

    assert estimated == pytest.approx(COVERED * 1_000_000, rel=0.10)
    assert profiles.estimate("task", "cpu") is None
    assert 2_000 == profiles.listed()["task", "usd"].count


def test_ever_new_task_names_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names may be made at run time."""
    monkeypatch.setattr(estimate, "MOST_SKETCHES", 50)
    profiles = Profiles()
    for number in range(500):
        profiles.observe(f"task-{number}", "usd", 1, 1)

    assert 50 == len(profiles.listed())
    assert profiles.estimate("task-499", "usd") is not None
    assert profiles.estimate("task-1", "usd") is None
