"""What a worker and the fleet tell each other of task types, every few seconds: values only."""

from __future__ import annotations

from dataclasses import dataclass

from celery_budget.core.sketch import LAST_BUCKET, MOST_WEIGHT, Profile, Sketch
from celery_budget.units import LARGEST

#: Task types and sketches that one lesson tells of, and task types that it names in all: bounds the
#: time for which it keeps the store busy. On Redis 32 take 0.4 ms (two shared cores, 2026-11).
MOST_TASKS = 32


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a worker has seen since its last lesson, and what it wants to know.

    Raises:
        ValueError: A task is there twice, there are none or too many, or a number is not what it
            may be.

    Attributes:
        worker: A name that no other process has, nor had.
        number: 1 for its first lesson; the same again when it is repeated, unchanged.
        told: Tasks with what was seen of each resource; nobody changes them any more.
        asked: Other tasks, of which only the fleet's profile is wanted.
    """

    worker: str
    number: int
    told: tuple[tuple[str, Profile], ...] = ()
    asked: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < len(self.tasks) <= MOST_TASKS:
            raise ValueError(f"a lesson names 1 to {MOST_TASKS} tasks, not {len(self.tasks)}")
        sketches = sum(len(profile) for _, profile in self.told)
        if sketches > MOST_TASKS:
            raise ValueError(f"a lesson tells at most {MOST_TASKS} sketches, not {sketches}")
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError("a lesson names each task once")
        if not 0 < self.number <= LARGEST:
            raise ValueError(f"impossible number {self.number}")
        for task, profile in self.told:
            for resource, sketch in profile.items():
                if not _is_possible(sketch):
                    raise ValueError(f"{task}: impossible sketch of {resource}: {sketch}")

    @property
    def tasks(self) -> tuple[str, ...]:
        """All that it names, in the order of the answer."""
        return (*(task for task, _ in self.told), *self.asked)


def _is_possible(sketch: Sketch) -> bool:
    buckets, total = sketch.buckets, sketch.total
    return (
        0 < sketch.count <= LARGEST
        and 0 < total == sum(buckets.values()) <= MOST_WEIGHT
        and 0 <= sketch.exceeded <= total
        and 0 <= sketch.aside <= LAST_BUCKET * total
        and all(0 <= bucket <= LAST_BUCKET and weight > 0 for bucket, weight in buckets.items())
    )
