"""What a run of the demo measured, and the numbers drawn from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil


@dataclass(slots=True)
class Tally:
    """One band in one run.

    Attributes:
        published: Publish time of each task, seconds since the beginning of the run.
        waits: By task number, seconds from publish to start, as the task measured it.
        ended: Tasks that ended.
        depth: Tasks in the broker's queue, when last asked.
    """

    published: list[float] = field(default_factory=list)
    waits: dict[int, float] = field(default_factory=dict)
    ended: int = 0
    depth: int = 0

    @property
    def running(self) -> int:
        """Tasks that have a slot."""
        return len(self.waits) - self.ended

    @property
    def held(self) -> int:
        """Tasks that a worker took from the broker and did not start yet."""
        return max(0, len(self.published) - len(self.waits) - self.depth)

    @property
    def waiting(self) -> int:
        """Tasks that did not start yet, wherever they are."""
        return len(self.published) - len(self.waits)

    def wait_so_far(self, number: int, now: float) -> float:
        """Tell how long a task waited or, if it waits still, has waited until `now`.

        Leaving out what never started would make the worst run look best.
        """
        return self.waits.get(number, now - self.published[number])

    def percentiles(self, now: float) -> tuple[float, float, float] | None:
        """Tell p50, p95 and p99 of all waits, in seconds; None before the first task.

        Args:
            now: Seconds since the beginning of the run.
        """
        waits = sorted(self.wait_so_far(number, now) for number in range(len(self.published)))
        if not waits:
            return None
        p50, p95, p99 = (waits[ceil(share * len(waits)) - 1] for share in (0.50, 0.95, 0.99))
        return p50, p95, p99


@dataclass(frozen=True, slots=True)
class Result:
    """One run.

    Attributes:
        seconds: How long tasks were published and watched.
        tallies: By band name, most urgent first.
    """

    seconds: float
    tallies: dict[str, Tally]

    def document(self) -> dict[str, object]:
        """Write the result as JSON types."""
        return {
            "seconds": self.seconds,
            "bands": {band: self._band(tally) for band, tally in self.tallies.items()},
        }

    def _band(self, tally: Tally) -> dict[str, object]:
        p50, p95, p99 = tally.percentiles(self.seconds) or (None, None, None)
        return {
            "published": len(tally.published),
            "done": tally.ended,
            "still_waiting": tally.waiting,
            "wait_s": {"p50": p50, "p95": p95, "p99": p99},
            "tasks": [
                {
                    "published_s": round(at, 4),
                    "wait_s": round(tally.wait_so_far(number, self.seconds), 5),
                    "started": number in tally.waits,
                }
                for number, at in enumerate(tally.published)
            ],
        }
