"""When a node is under pressure, and when it is no more."""

from __future__ import annotations

import pytest

from celery_budget.core.pressure import CLEAR, REST_S, Pressure, Sample
from celery_budget.policy.pressure import PressureRule
from tests.unit.core.worker import NOW

RULE = PressureRule(memory=0.9, stall=0.6)


def sample(part: float, stall: float = 0.0) -> Sample:
    """Make what a look at a node with 1,000 bytes tells."""
    return Sample(round(1_000 * part), 1_000, stall)


def looked(*looks: Sample, every_s: float = 0.5) -> Pressure:
    """Follow looks at regular times."""
    pressure = Pressure(RULE)
    for number, look in enumerate(looks):
        pressure.look(look, NOW + every_s * number)
    return pressure


@pytest.mark.parametrize(
    ("look", "is_high"),
    [
        (sample(0.89), False),
        (sample(0.9), True),
        (sample(0.1, stall=0.59), False),
        (sample(0.1, stall=0.6), True),
    ],
)
def test_it_begins_at_a_limit(look: Sample, is_high: bool) -> None:
    """Of memory or of stalls, at the first look that tells."""
    assert is_high is looked(look).is_high


def test_it_ends_some_seconds_after_all_is_well_below_the_limit() -> None:
    """Not at the first look, nor a moment before."""
    calm = sample(0.9 * CLEAR - 0.01)
    looks = int(REST_S / 0.5)

    assert looked(sample(0.95), *[calm] * looks).is_high
    assert not looked(sample(0.95), *[calm] * (looks + 1)).is_high


def test_it_does_not_end_just_below_the_limit() -> None:
    """However long: else work would be sent away and taken again in turn."""
    assert looked(sample(0.95), *[sample(0.9 * CLEAR + 0.01)] * 1_000).is_high


def test_one_bad_look_begins_the_rest_anew() -> None:
    """All of it has to be calm."""
    calm = [sample(0.5)] * 10
    assert looked(sample(0.95), *calm, sample(0.85), *calm).is_high


def test_a_clock_that_is_set_back_does_not_prolong_it() -> None:
    """By an hour, in the midst of the calm."""
    pressure = looked(sample(0.95), sample(0.5))
    pressure.look(sample(0.5), NOW - 3_600)
    pressure.look(sample(0.5), NOW - 3_600 + REST_S)

    assert not pressure.is_high


@pytest.mark.parametrize(
    ("look", "shortage"),
    [
        (sample(0.0), 0.0),
        (sample(0.72), 0.0),
        (sample(0.81), 0.5),
        (sample(0.9), 1.0),
        (sample(0.99), 1.5),
        (sample(0.0, stall=0.54), 0.5),
    ],
)
def test_the_shortage_grows_before_the_limit(look: Sample, shortage: float) -> None:
    """Half at nine tenths of the way, where the throttle's goal is; one at the limit."""
    assert pytest.approx(shortage) == looked(look).shortage


def test_the_excess_is_what_is_above_the_end_of_pressure() -> None:
    """Bytes; none for stalls."""
    assert 90 == looked().excess(sample(0.9))
    assert 0 == looked().excess(sample(0.8, stall=1.0))
