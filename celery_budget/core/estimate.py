"""What to set aside for executions: learned from those that ended, here and on other workers.

Each worker keeps what the fleet has told it of a task type, and what it has seen since. The two
together give the estimate; what it has seen is told in lessons. Pure: the worker carries them.
"""

from __future__ import annotations

from collections.abc import Mapping

from celery_budget.core.lesson import MOST_TASKS, Lesson
from celery_budget.core.sketch import Profile, Sketch, bucket_of
from celery_budget.core.summary import COVERED

#: Executions of a type that are all looked at, and of how many later ones one is. What is known of
#: a type that runs often moves little, and looking takes 5 us.
ALL_SEEN = 100
ONE_IN = 8

#: Pairs of task type and resource that are remembered. Task names come from code, and a policy
#: has at most some twenty resources.
MOST_SKETCHES = 20_000

_Key = tuple[str, str]


class Profiles:
    """What one worker knows of task types.

    Attributes:
        version: Counts the changes of estimates.
    """

    __slots__ = (
        "_asked",
        "_asks",
        "_doubted",
        "_estimates",
        "_heard",
        "_is_answer_doubted",
        "_number",
        "_runs",
        "_sketches",
        "_under_way",
        "_untold",
        "version",
    )

    def __init__(self) -> None:
        #: All that is known: what the fleet told, what is on its way there, and what is untold.
        self._sketches: dict[_Key, Sketch] = {}
        self._heard: dict[_Key, Sketch] = {}
        self._untold: dict[str, Profile] = {}
        self._under_way: Lesson | None = None
        self._asks: dict[str, None] = {}
        self._asked: set[str] = set()
        self._doubted: set[_Key] = set()
        #: Whether the lesson under way may have been answered before the loss.
        self._is_answer_doubted = False
        self._estimates: dict[_Key, int] = {}
        self._runs: dict[str, int] = {}
        self._number = 0
        self.version = 0

    def estimate(self, task: str, resource: str) -> int | None:
        """Tell what to set aside for an execution; None when none was seen.

        A task type that is met for the first time is asked for in the next lesson.
        """
        known = self._estimates.get((task, resource))
        if known is None and task not in self._asked:
            if len(self._asked) >= MOST_SKETCHES:
                self._asked.clear()
            self._asked.add(task)
            self._asks[task] = None
        return known

    def is_due(self, task: str) -> bool:
        """Count an execution, and tell whether it should be observed."""
        runs = self._runs[task] = self._runs.get(task, 0) + 1
        return runs <= ALL_SEEN or not runs % ONE_IN

    def observe(self, task: str, resource: str, units: int, reserved: int) -> None:
        """Learn from one execution.

        Args:
            task: Its type.
            resource: Which was measured.
            units: What it used; >= 0.
            reserved: What was set aside for it.
        """
        key = (task, resource)
        used, aside = bucket_of(units), bucket_of(reserved)
        sketch = self._sketches.get(key)
        if sketch is None:
            sketch = self._added(key)
        sketch.observe(used, aside)
        self._fresh(key).observe(used, aside)
        self._estimated(key, sketch)

    def _estimated(self, key: _Key, sketch: Sketch) -> None:
        estimate = sketch.quantile(COVERED)
        if estimate != self._estimates.get(key):
            self._estimates[key] = estimate
            self.version += 1

    def _fresh(self, key: _Key) -> Sketch:
        """Give the sketch of what is untold."""
        task, resource = key
        profile = self._untold.get(task)
        if profile is None:
            profile = self._untold[task] = {}
        sketch = profile.get(resource)
        if sketch is None:
            sketch = profile[resource] = Sketch()
        return sketch

    def _added(self, key: _Key) -> Sketch:
        """Begin to remember; what has been remembered for longest goes when there is too much."""
        if len(self._sketches) >= MOST_SKETCHES:
            oldest = next(iter(self._sketches))
            del self._sketches[oldest]
            self._estimates.pop(oldest, None)
            self._heard.pop(oldest, None)
            self._doubted.discard(oldest)
            self._runs.pop(oldest[0], None)
            self._untold.pop(oldest[0], None)
            self._asked.discard(oldest[0])
        sketch = self._sketches[key] = Sketch()
        return sketch

    @property
    def is_asking(self) -> bool:
        """Whether task types were met of which nothing is known, and are not asked for yet."""
        return bool(self._asks) and self._under_way is None

    def lesson(self, worker: str) -> Lesson | None:
        """Write the next lesson, or the last one again as long as `heard` was not called for it.

        Args:
            worker: A name that no other process has, nor had.

        Returns:
            None when there is nothing to tell and nothing to ask.
        """
        if self._under_way is None and (self._untold or self._asks):
            asked = []
            for task in list(self._asks)[:MOST_TASKS]:
                del self._asks[task]
                if task not in self._untold:  # else it is told, and so heard of as well
                    asked.append(task)
            told, left = [], MOST_TASKS - len(asked)
            for task, profile in self._untold.items():
                left -= len(profile)
                if left < 0:
                    break
                told.append((task, profile))
            for task, _ in told:
                del self._untold[task]
            self._number += 1
            self._under_way = Lesson(worker, self._number, tuple(told), tuple(asked))
        return self._under_way

    def heard(self, profiles: Mapping[str, Profile]) -> bool:
        """Take what the fleet knows now, its answer to the lesson that is under way.

        Returns:
            Whether that gave the first estimate for something.
        """
        self._under_way = None
        is_new = False
        for task, profile in profiles.items():
            for resource, fleets in profile.items():
                key = (task, resource)
                is_new |= key not in self._estimates
                if key not in self._sketches:
                    self._added(key)
                before = self._heard.get(key)
                if key in self._doubted:
                    self._doubted.remove(key)
                    # Not what another worker has told again that knew nearly as much.
                    if before is not None and fleets.count < before.count / 2:
                        self._fresh(key).add(before)
                self._heard[key] = fleets
                known = self._sketches[key] = fleets.copy()
                untold = self._untold.get(task, {}).get(resource)
                if untold is not None:
                    known.add(untold)
                self._estimated(key, known)
                if self._is_answer_doubted:
                    self._doubted.add(key)
        self._is_answer_doubted = False
        return is_new

    def doubt(self) -> None:
        """Take note that the fleet may have lost what it knew, and tell it again where it has."""
        self._doubted.update(self._heard)
        self._is_answer_doubted = self._under_way is not None

    def listed(self, most: int) -> dict[str, Profile]:
        """Give all that is known of task types, those met last first.

        Args:
            most: No more sketches than so many.
        """
        found: dict[str, Profile] = {}
        for task, resource in list(reversed(self._sketches))[:most]:
            found.setdefault(task, {})[resource] = self._sketches[task, resource]
        return found
