"""What people are told of a sketch."""

from __future__ import annotations

from random import Random

import pytest

from celery_budget.core.sketch import Sketch, bucket_of
from celery_budget.core.summary import FEW, Calibration, summarize


def sketch(*executions: tuple[int, int]) -> Sketch:
    """Make one of what executions used and what was set aside for them."""
    made = Sketch()
    for used, aside in executions:
        made.observe(bucket_of(used), bucket_of(aside))
    return made


def test_the_numbers_are_those_of_the_executions() -> None:
    """Within what a bucket tells."""
    told = summarize(sketch(*[(1_000, 2_000)] * 90, *[(8_000, 2_000)] * 10))

    assert 100 == told.count
    assert (1_000, 8_000, 2_000) == pytest.approx((told.p50, told.p95, told.aside), rel=0.05)
    assert 0.10 == pytest.approx(told.exceeded)


@pytest.mark.parametrize(
    ("executions", "calibration"),
    [
        ([], Calibration.UNSEEN),
        ([(1, 1)] * (FEW - 1), Calibration.FEW),
        ([(1_000, 1_000)] * FEW, Calibration.GOOD),
        ([(0, 0)] * FEW, Calibration.GOOD),
        ([(1_000, 1_000)] * 95 + [(9_000, 1_000)] * 5, Calibration.GOOD),
        ([(1_000, 1_000)] * 85 + [(9_000, 1_000)] * 15, Calibration.LOW),
        ([(1_000, 2_000)] * FEW, Calibration.HIGH),
        ([(1_000, 1_500)] * FEW, Calibration.GOOD),
        ([(0, 2_000)] * FEW, Calibration.HIGH),
        ([(0, 1_000_000)] + [(0, 0)] * FEW, Calibration.GOOD),
    ],
)
def test_the_judgement_is_plain(
    executions: list[tuple[int, int]], calibration: Calibration
) -> None:
    """A constant cost that is met exactly is no mistake, and neither is one that is never used."""
    assert calibration is summarize(sketch(*executions)).calibration


def test_estimates_that_are_learned_are_well_calibrated() -> None:
    """That is what they are for, whatever the distribution."""
    rng = Random(1)
    draws = {
        "even": lambda: rng.uniform(1e3, 1e6),
        "long tail": lambda: rng.lognormvariate(10, 1),
        "two kinds": lambda: rng.gauss(1e4, 100) if rng.random() < 0.8 else rng.gauss(1e6, 1e4),
        "constant": lambda: 20_000.0,
    }
    for draw in draws.values():
        made = Sketch()
        for _ in range(2_000):
            made.observe(bucket_of(round(draw())), bucket_of(made.quantile(0.95)))

        assert Calibration.GOOD is summarize(made).calibration
