"""What the demo offers to a worker: three kinds of tasks, together more than it can do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

#: Slots of the worker, in both runs.
SLOTS = 3


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of task and how often it comes.

    Attributes:
        band: The band its task declares.
        runtime_s: How long a task keeps its slot.
        every_s: Seconds between two tasks.
        burst: Tasks that come at once, before the first interval.
    """

    band: str
    runtime_s: float
    every_s: float
    burst: int = 0

    def due(self, elapsed: float) -> int:
        """Count the tasks that have come `elapsed` seconds after the beginning."""
        return self.burst + int(elapsed / self.every_s)


#: 3.9 slots' worth of work for 3 slots after a burst of 5 s: what is queued only grows, and
#: whoever waits in line with the optional tasks waits for ever longer.
LOAD = (
    Source("critical", runtime_s=0.01, every_s=0.1),
    Source("important", runtime_s=0.2, every_s=0.25),
    Source("optional", runtime_s=1.0, every_s=1 / 3, burst=15),
)

#: Celery's default queue, and one for each of the other bands.
QUEUES = ("critical", "celery", "optional")

POLICY = {
    "default_band": "important",
    "bands": {
        "critical": {"queues": ["critical"], "preempts": True, "reserve": 1},
        "important": {"queues": ["celery"], "weight": 4},
        "optional": {"queues": ["optional"], "weight": 1, "min_share": 0.05},
    },
}


class Arrivals:
    """Tell what has come since the last question."""

    def __init__(self, load: tuple[Source, ...] = LOAD) -> None:
        self._load = load
        self._told = [0] * len(load)

    def until(self, elapsed: float) -> Iterator[Source]:
        """Name the source of each task that came since, `elapsed` seconds after the beginning."""
        for index, source in enumerate(self._load):
            due = source.due(elapsed)
            for _ in range(self._told[index], due):
                yield source
            self._told[index] = due
