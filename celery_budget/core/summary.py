"""A sketch in the few numbers that people read, and whether what is set aside fits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from celery_budget.core.sketch import Sketch, bucket_of, middle_of

#: Part of executions that an estimate is to cover: more would set aside for all what few use,
#: less would make debt the rule.
COVERED = 0.95

#: With fewer executions nothing is said of calibration: of 100 that exceed in 5 of 100 cases,
#: between 1 and 10 do so 19 times out of 20 (binomial).
FEW = 100

#: Twice what `COVERED` lets exceed; by chance 100 executions get there about once in 100 times.
MOST_EXCEEDED = 0.10

#: By how many buckets the mean of what was set aside may lie above the estimate: 1.6 times as much.
#: Both may be 5 % off, and what was set aside a while ago counts as well. In buckets, because the
#: first guess for what then turns out to cost nothing is no reason.
MOST_ABOVE = 5


class Calibration(StrEnum):
    """How well what is set aside fits what is used."""

    UNSEEN = "not seen"
    FEW = "few seen"
    LOW = "too low"  # more executions exceed than should
    HIGH = "too high"  # far more is set aside than nearly all executions use
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class Summary:
    """One resource of one task type; amounts are units of the resource.

    Attributes:
        count: Executions seen.
        p50: What half of them stay within.
        p95: What 95 of 100 stay within: the estimate.
        aside: What was set aside for them, the geometric mean.
        exceeded: Share of them that used more than that, 0 to 1.
        calibration: What to make of it.
    """

    count: int
    p50: int
    p95: int
    aside: int
    exceeded: float
    calibration: Calibration


def summarize(sketch: Sketch) -> Summary:
    """Tell a sketch in a few numbers."""
    total = sketch.total or 1
    p50, p95 = sketch.quantile(0.5), sketch.quantile(COVERED)
    aside, exceeded = sketch.aside / total, sketch.exceeded / total
    if not sketch.count:
        calibration = Calibration.UNSEEN
    elif sketch.count < FEW:
        calibration = Calibration.FEW
    elif exceeded > MOST_EXCEEDED:
        calibration = Calibration.LOW
    elif aside > bucket_of(p95) + MOST_ABOVE:
        calibration = Calibration.HIGH
    else:
        calibration = Calibration.GOOD
    return Summary(sketch.count, p50, p95, middle_of(aside), exceeded, calibration)
