"""What a worker knows of task types, and what it and the fleet tell each other of them."""

from __future__ import annotations

from random import Random

import pytest

from celery_budget.core import estimate
from celery_budget.core.estimate import Profiles
from celery_budget.core.lesson import MOST_TASKS, Lesson
from celery_budget.core.sketch import Sketch, bucket_of
from celery_budget.core.summary import COVERED
from celery_budget.stores.memory_profiles import MemoryProfiles


def seen(units: int, times: int = 1, aside: int = 0) -> Sketch:
    """Make a sketch of executions that all used the same."""
    sketch = Sketch()
    for _ in range(times):
        sketch.observe(bucket_of(units), bucket_of(aside))
    return sketch


def teach(profiles: Profiles, store: MemoryProfiles, worker: str = "worker") -> Lesson:
    """Give a lesson and take in what the fleet knows."""
    lesson = profiles.lesson(worker)
    assert lesson is not None
    profiles.heard(store.learn(lesson))
    return lesson


@pytest.fixture
def store() -> MemoryProfiles:
    """Offer a fleet that knows nothing."""
    return MemoryProfiles(lambda: 0)


def test_an_estimate_covers_most_executions() -> None:
    """Set aside is what 95 of a hundred stay within."""
    rng = Random(4)
    profiles = Profiles()
    for _ in range(2_000):
        profiles.observe("task", "usd", rng.randrange(1, 1_000_000), 0)
    estimated = profiles.estimate("task", "usd")

    assert estimated == pytest.approx(COVERED * 1_000_000, rel=0.10)
    assert profiles.estimate("task", "cpu") is None
    assert 2_000 == profiles.listed(9)["task"]["usd"].count


def test_ever_new_task_names_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names may be made at run time, and nobody may hear of them."""
    monkeypatch.setattr(estimate, "MOST_SKETCHES", 50)
    profiles = Profiles()
    for number in range(500):
        profiles.estimate(f"task-{number}", "cpu")
        profiles.observe(f"task-{number}", "usd", 1, 1)

    assert 50 == len(profiles.listed(500)) == len(profiles._untold)
    assert len(profiles._asked) <= 50
    assert profiles.estimate("task-499", "usd") is not None
    assert profiles.estimate("task-1", "usd") is None


def test_a_worker_that_is_new_learns_what_others_have_seen(store: MemoryProfiles) -> None:
    """It would guess for each task type otherwise, after every deploy."""
    old, new = Profiles(), Profiles()
    for _ in range(50):
        old.observe("task", "usd", 7_000, 0)
    teach(old, store, "old")
    guess = new.estimate("task", "usd")
    lesson = teach(new, store, "new")

    assert guess is None
    assert (("task",), ()) == (lesson.asked, lesson.told)
    assert old.estimate("task", "usd") == new.estimate("task", "usd")


def test_a_task_type_is_asked_for_once(store: MemoryProfiles) -> None:
    """Most that nobody knows are known to nobody."""
    profiles = Profiles()
    for _ in range(3):
        profiles.estimate("task", "usd")
        profiles.estimate("task", "cpu")
    before = profiles.is_asking
    lesson = teach(profiles, store)
    profiles.estimate("task", "usd")

    assert before
    assert ("task",) == lesson.asked
    assert not profiles.is_asking
    assert profiles.lesson("worker") is None


def test_what_was_seen_since_a_lesson_counts_before_it_is_told(store: MemoryProfiles) -> None:
    """An answer must not take it away, nor count it twice."""
    profiles = Profiles()
    profiles.observe("task", "usd", 100, 0)
    lesson = profiles.lesson("worker")
    assert lesson is not None
    profiles.observe("task", "usd", 9_000, 0)
    profiles.heard(store.learn(lesson))
    after = profiles.listed(9)["task"]["usd"].copy()
    teach(profiles, store)

    assert 2 == after.count
    assert after == profiles.listed(9)["task"]["usd"] == store.profiles()["task"]["usd"]


def test_a_lesson_is_the_same_until_it_was_heard(store: MemoryProfiles) -> None:
    """What is not the same under one number counts twice or not at all."""
    profiles = Profiles()
    profiles.observe("task", "usd", 100, 0)
    first = profiles.lesson("worker")
    profiles.observe("task", "usd", 100, 0)
    profiles.estimate("other", "usd")
    again = profiles.lesson("worker")
    assert first is not None
    profiles.heard(store.learn(first))
    second = profiles.lesson("worker")

    assert first is again
    assert second is not None
    assert (1, 2) == (first.number, second.number)
    assert ("other",) == second.asked
    assert 1 == second.told[0][1]["usd"].count


@pytest.mark.parametrize("resources", [1, 3])
def test_a_lesson_is_bounded_and_every_task_has_its_turn(
    store: MemoryProfiles, resources: int
) -> None:
    """One with everything would keep the store busy for long."""
    profiles = Profiles()
    told: list[str] = []
    for _ in range(12):
        for number in range(3 * MOST_TASKS):
            for resource in range(resources):
                profiles.observe(f"task-{number}", f"r{resource}", 1, 1)
        told += [task for task, _ in teach(profiles, store).told]

    # Nobody twice before all others.
    assert 3 * MOST_TASKS == len(set(told[: 3 * MOST_TASKS]))


def test_what_comes_dearer_than_all_that_is_known_moves_the_estimate(
    store: MemoryProfiles,
) -> None:
    """The fleet's knowledge is no reason not to see what happens here."""
    store.learn(Lesson("other", 1, (("task", {"usd": seen(100, 1_000)}),)))
    profiles = Profiles()
    profiles.estimate("task", "usd")
    teach(profiles, store)
    before = profiles.estimate("task", "usd")
    for _ in range(100):
        profiles.observe("task", "usd", 5_000, 0)

    assert 100 == pytest.approx(before, rel=0.05)
    assert 5_000 == pytest.approx(profiles.estimate("task", "usd"), rel=0.05)


def test_a_fleet_that_lost_everything_is_told_again_what_a_worker_knows(
    store: MemoryProfiles,
) -> None:
    """A flush must not make everybody guess; what one has told, others need not."""
    workers = {name: Profiles() for name in ("one", "two")}

    def go_on(name: str, times: int = 1) -> None:
        for _ in range(times):
            workers[name].observe("task", "usd", 7_000, 7_000)
        teach(workers[name], store, name)

    for name in ("one", "two", "one", "two"):
        go_on(name, 100)
    store.clear()
    for profiles in workers.values():
        profiles.doubt()
    for name in ("one", "one", "two", "two", "one"):
        go_on(name)

    # What the last of them has seen since the other's last lesson is all that is missing.
    assert 300 + 5 == store.profiles()["task"]["usd"].count


def test_a_loss_that_comes_between_a_lesson_and_its_answer_is_made_good(
    store: MemoryProfiles,
) -> None:
    """The answer tells of what is lost by the time it is heard."""
    profiles = Profiles()
    for _ in range(40):
        profiles.observe("task", "usd", 7_000, 7_000)
    lesson = profiles.lesson("one")
    assert lesson is not None
    answer = store.learn(lesson)
    store.clear()
    profiles.doubt()
    profiles.heard(answer)
    for _ in range(2):
        profiles.observe("task", "usd", 7_000, 7_000)
        teach(profiles, store, "one")

    assert 42 == store.profiles()["task"]["usd"].count


def test_what_an_operator_deletes_stays_deleted(store: MemoryProfiles) -> None:
    """Who wants a fresh start for a task must get it."""
    profiles = Profiles()
    for _ in range(200):
        profiles.observe("task", "usd", 7_000, 7_000)
    teach(profiles, store)
    store.clear()
    profiles.observe("task", "usd", 10, 10)
    teach(profiles, store)

    assert 1 == store.profiles()["task"]["usd"].count
    assert 10 == pytest.approx(profiles.estimate("task", "usd"), rel=0.05)
