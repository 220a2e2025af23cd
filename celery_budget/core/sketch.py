"""A sketch: how much of one resource the executions of one task type use, newer ones first.

A histogram whose buckets grow by a fixed factor tells any quantile within a known relative error,
whatever the distribution, and two of them add up (the idea of DDSketch, Masson, Rim and Lee,
2019). That library brings no decay, and numpy with it, so this is our own. Integers only, since
`stores/redis/lua/learn.lua` reckons the same. Pure: no clock; it fades by executions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, exp, log

from celery_budget.units import LARGEST

#: Each bucket ends at this many times the end of the one before: a quantile is told within 5 %
#: (half the factor on either side), less than tasks of one type differ from run to run.
GROWTH = 1.1

#: Newer executions count for more: after about so many, an old one weighs half. Enough for a p95
#: to mean something (25 samples above it), and few enough to follow a change of code in an hour.
HALF_LIFE = 500

#: Of an execution that was just seen. It can be halved six times, so that the few executions which
#: make a tail are not lost when what is known fades for the first time.
WEIGHT = 64

#: What is known fades to half whenever it weighs more: then from half of this to all of it, half a
#: life on average, is what came since.
MOST_WEIGHT = 2 * HALF_LIFE * WEIGHT

_LOG = log(GROWTH)


def bucket_of(units: int) -> int:
    """Tell which bucket an amount is in: 0 for nothing, 1 for a single unit, 387 at most."""
    if units <= 0:
        return 0
    return 1 + ceil(log(min(units, LARGEST)) / _LOG)


def middle_of(bucket: float) -> int:
    """Tell the amount in the middle of a bucket, by ratio; of several when it is their mean."""
    return min(LARGEST, round(exp((bucket - 1.5) * _LOG))) if bucket > 0 else 0


#: No amount is in a later one.
LAST_BUCKET = bucket_of(LARGEST)

#: By bucket; reckoned once, as each observation tells a quantile.
_MIDDLES = tuple(middle_of(bucket) for bucket in range(LAST_BUCKET + 1))


@dataclass(slots=True)
class Sketch:
    """What is known of one resource of one task type; all are integers of at most 2**53 - 1.

    Attributes:
        count: Executions seen, without fading.
        total: Sum of all weights.
        exceeded: Weight of the executions that used more than was set aside, by a bucket at least:
            less than that is not told apart.
        aside: Sum over executions of their weight times the bucket of what was set aside.
        buckets: Weight by bucket.
    """

    count: int = 0
    total: int = 0
    exceeded: int = 0
    aside: int = 0
    buckets: dict[int, int] = field(default_factory=dict)

    def observe(self, used: int, aside: int) -> None:
        """Learn from one execution.

        Args:
            used: Bucket of what it used.
            aside: Bucket of what was set aside for it.
        """
        buckets = self.buckets
        buckets[used] = buckets.get(used, 0) + WEIGHT
        self.count += 1
        self.total += WEIGHT
        self.aside += WEIGHT * aside
        if used > aside:
            self.exceeded += WEIGHT
        if self.total > MOST_WEIGHT:
            self._fade()

    def add(self, other: Sketch) -> None:
        """Learn all that another sketch tells, which weighs `MOST_WEIGHT` at most."""
        for bucket, weight in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + weight
        self.count = min(LARGEST, self.count + other.count)
        self.total += other.total
        self.exceeded += other.exceeded
        self.aside += other.aside
        if self.total > MOST_WEIGHT:
            self._fade()

    def _fade(self) -> None:
        """Let all that is known weigh half."""
        faded = {bucket: weight // 2 for bucket, weight in self.buckets.items()}
        self.buckets = {bucket: weight for bucket, weight in faded.items() if weight}
        before, self.total = self.total, sum(self.buckets.values())
        # In the same proportion, though halves of odd weights were dropped.
        self.exceeded = self.exceeded * self.total // before
        self.aside = self.aside * self.total // before

    def copy(self) -> Sketch:
        """Make another one that knows the same."""
        return Sketch(self.count, self.total, self.exceeded, self.aside, self.buckets.copy())

    def quantile(self, part: float) -> int:
        """Tell what this part of executions stayed within; 0 when none was seen.

        Args:
            part: 0 < part <= 1.
        """
        buckets = self.buckets
        wanted = (part - 1e-9) * self.total
        below = self.total
        # From above: few buckets are beyond a p95.
        for bucket in sorted(buckets, reverse=True):
            below -= buckets[bucket]
            if below < wanted:
                return _MIDDLES[bucket]
        return 0

    def flat(self) -> list[int]:
        """Write it as numbers in a row: the sums, then each bucket and its weight, in order."""
        numbers = [self.count, self.total, self.exceeded, self.aside]
        for pair in sorted(self.buckets.items()):
            numbers += pair
        return numbers

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Sketch:
        """Read what `flat` wrote."""
        count, total, exceeded, aside, *pairs = numbers
        buckets = dict(zip(pairs[::2], pairs[1::2], strict=True))
        return cls(count, total, exceeded, aside, buckets)


#: What is known of a task type: a sketch by resource.
Profile = dict[str, Sketch]
