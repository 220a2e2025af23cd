"""What executions of a task type use: learned from those that ended, as decaying quantiles.

A histogram whose buckets grow by a fixed factor tells any quantile within a known relative error,
whatever the distribution, and two of them add up (the idea of DDSketch, Masson, Rim and Lee,
2019). That library brings no decay, and numpy with it, so this is our own. Pure: no clock; the
caller says when to fade.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, log

#: Each bucket ends at this many times the end of the one before: a quantile is told within 5 %
#: (half the factor on either side), less than tasks of one type differ from run to run.
GROWTH = 1.1

#: Newer executions count for more: after this many, an old one weighs half. Enough for a p95 to
#: mean something (25 samples above it), and few enough to follow a change of code in an hour.
HALF_LIFE = 500

#: Part of an observation's weight that goes into the sketch's floor on each step.
_FADE = 0.5 ** (1 / HALF_LIFE)

#: Buckets with less than this many executions are dropped, so that a sketch stays small.
_LEAST = 0.01

_LOG = log(GROWTH)


class Sketch:
    """How much of one resource executions of one type use.

    Attributes:
        count: Executions seen, without decay.
        exceeded: Decayed share of executions that used more than was set aside for them.
    """

    __slots__ = ("_buckets", "_scale", "_total", "count", "exceeded")

    def __init__(self) -> None:
        self._buckets: dict[int, float] = {}
        self._total = 0.0
        self._scale = 1.0
        self.count = 0
        self.exceeded = 0.0

    def observe(self, units: int, reserved: int) -> None:
        """Learn from one execution.

        Args:
            units: What it used; >= 0.
            reserved: What was set aside for it.
        """
        self.count += 1
        newest = max(1 / self.count, 1 - _FADE)
        self.exceeded += newest * ((units > reserved) - self.exceeded)
        # Instead of fading all that is known, the newest weighs more.
        self._scale /= _FADE
        bucket = ceil(log(units) / _LOG) if units > 0 else -1
        self._buckets[bucket] = self._buckets.get(bucket, 0.0) + self._scale
        self._total += self._scale
        if self._scale > 1e6:  # noqa: PLR2004 - before precision is lost
            self._normalise()

    def _normalise(self) -> None:
        faded = {bucket: weight / self._scale for bucket, weight in self._buckets.items()}
        self._buckets = {bucket: weight for bucket, weight in faded.items() if weight > _LEAST}
        self._total = sum(self._buckets.values())
        self._scale = 1.0

    def quantile(self, part: float) -> int:
        """Tell what no more than this part of executions stayed below; 0 when none was seen.

        Args:
            part: 0 < part <= 1.
        """
        wanted = part * self._total
        for bucket in sorted(self._buckets):
            wanted -= self._buckets[bucket]
            if wanted <= 1e-9 * self._total:
                # The middle of the bucket, by ratio.
                return round(exp((bucket - 0.5) * _LOG)) if bucket >= 0 else 0
        return 0


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of one resource of one task type.

    Attributes:
        count: Executions seen.
        p50: Units that half of the executions stay within.
        p95: Units that 95 % of them stay within; what is set aside.
        exceeded: Share of executions that used more than was set aside; 0.05 is well calibrated.
    """

    count: int
    p50: int
    p95: int
    exceeded: float


#: Part of executions that an estimate is to cover: more would set aside for all what few use,
#: less would make debt the rule.
COVERED = 0.95

#: Executions of a type that are all looked at, and of how many later ones one is. What is known of
#: a type that runs often moves little, and looking takes 5 us.
ALL_SEEN = 100
ONE_IN = 8

#: Pairs of task type and resource that are remembered. Task names come from code, and a policy
#: has at most some twenty resources.
MOST_SKETCHES = 20_000


class Profiles:
    """The sketches of one worker, by task type and resource.

    Attributes:
        version: Counts the changes of estimates.
    """

    __slots__ = ("_estimates", "_runs", "_sketches", "version")

    def __init__(self) -> None:
        self._sketches: dict[tuple[str, str], Sketch] = {}
        self._estimates: dict[tuple[str, str], int] = {}
        self._runs: dict[str, int] = {}
        self.version = 0

    def estimate(self, task: str, resource: str) -> int | None:
        """Tell what to set aside for an execution; None when none was seen."""
        return self._estimates.get((task, resource))

    def is_due(self, task: str) -> bool:
        """Count an execution, and tell whether it should be observed."""
        runs = self._runs[task] = self._runs.get(task, 0) + 1
        return runs <= ALL_SEEN or not runs % ONE_IN

    def observe(self, task: str, resource: str, units: int, reserved: int) -> None:
        """Learn from one execution; see `Sketch.observe`."""
        key = (task, resource)
        sketch = self._sketches.get(key)
        if sketch is None:
            if len(self._sketches) >= MOST_SKETCHES:
                oldest = next(iter(self._sketches))
                del self._sketches[oldest]
                del self._estimates[oldest]
                self._runs.pop(oldest[0], None)
            sketch = self._sketches[key] = Sketch()
        sketch.observe(units, reserved)
        estimate = sketch.quantile(COVERED)
        if estimate != self._estimates.get(key):
            self._estimates[key] = estimate
            self.version += 1

    def listed(self) -> dict[tuple[str, str], Profile]:
        """Describe all that is known, for people."""
        return {
            key: Profile(
                sketch.count, sketch.quantile(0.5), sketch.quantile(COVERED), sketch.exceeded
            )
            for key, sketch in self._sketches.items()
        }
