"""The fleet's profiles in memory: the reference that the others are compared with, and for tests.

One process only. Nothing here decides; `core/sketch.py` does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from threading import Lock

from celery_budget.core.lesson import Lesson
from celery_budget.core.sketch import Profile

#: A task type of which nothing is learned for so long is forgotten, microseconds: 30 days, so that
#: what runs once a month is remembered until it runs again.
IDLE_US = 30 * 86_400_000_000

#: So long after a worker's last lesson it may still be repeated.
REPEATED_US = 3_600_000_000


@dataclass(slots=True)
class _Kept:
    profile: Profile
    at: int


class MemoryProfiles:
    """Profiles in a dict, each lesson under a lock.

    Args:
        clock: Gives microseconds.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._lock = Lock()
        self.clear()

    def clear(self) -> None:
        """Lose everything, as a server does that keeps nothing on disk."""
        #: Both in the order of their times.
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._numbers: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def learn(self, lesson: Lesson) -> dict[str, Profile]:
        """Take a lesson in; see `ProfileStore.learn`."""
        with self._lock:
            now = self._clock()
            self._forget(now)
            last, _ = self._numbers.get(lesson.worker, (0, 0))
            if lesson.number > last:
                self._numbers[lesson.worker] = lesson.number, now
                self._numbers.move_to_end(lesson.worker)
                for task, seen in lesson.told:
                    self._learn(task, seen, now)
            return self._copied(lesson.tasks)

    def _learn(self, task: str, seen: Profile, now: int) -> None:
        kept = self._kept.setdefault(task, _Kept({}, now))
        kept.at = now
        self._kept.move_to_end(task)
        for resource, sketch in seen.items():
            if resource in kept.profile:
                kept.profile[resource].add(sketch)
            else:
                kept.profile[resource] = sketch.copy()

    def _forget(self, now: int) -> None:
        while self._kept and next(iter(self._kept.values())).at <= now - IDLE_US:
            self._kept.popitem(last=False)
        while self._numbers and next(iter(self._numbers.values()))[1] <= now - REPEATED_US:
            self._numbers.popitem(last=False)

    def profiles(self, names: Sequence[str] | None = None, most: int = 1_000) -> dict[str, Profile]:
        """Look profiles up; see `ProfileStore.profiles`."""
        with self._lock:
            self._forget(self._clock())
            if names is None:
                names = list(islice(reversed(self._kept), most))
            return self._copied(names[:most])

    def _copied(self, tasks: Sequence[str]) -> dict[str, Profile]:
        return {
            task: {resource: sketch.copy() for resource, sketch in kept.profile.items()}
            for task in tasks
            if (kept := self._kept.get(task)) is not None
        }
