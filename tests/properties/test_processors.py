"""Processors that urgent jobs need, in the world: lesser jobs stand still, and all of them end."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from celery_budget.core.processors import LITTLE
from celery_budget.policy.load import load
from celery_budget.simulate.job import Job, Run
from celery_budget.simulate.world import World

POLICY = {
    "default_band": "optional",
    "bands": {
        "critical": {"preempts": True},
        "important": {"preempt": ["freeze"], "min_share": 0.1},
        "optional": {"preempt": ["freeze", "evict"]},
    },
    "tasks": {
        "pay": {"band": "critical"},
        "ask": {"band": "critical"},
        "mail": {"band": "important"},
    },
    "preemption": {"spare": 2},
    "pressure": {"cpu": "100%"},
}

#: Processors that a task of each type keeps busy.
BUSY = {"pay": 1.0, "ask": 0.05, "mail": 0.4, "sort": 1.0, "wait": 0.01}
WORKERS, JOBS = 2, 150


def scene(seed: int) -> tuple[World, list[Job]]:
    """Let jobs that compute, and some that wait, come to workers with fewer processors than slots.

    Args:
        seed: Of all chance.
    """
    chance = Random(seed)
    world = World(load(POLICY), seed=seed)
    for number in range(WORKERS):
        world.add_worker(f"w{number}", chance.randint(2, 8), processors=chance.choice([1, 2, 4]))
    made = []
    at = world.clock.now
    for _ in range(JOBS):
        at += chance.expovariate(6.0)
        task = chance.choice(list(BUSY))
        length_s = chance.uniform(0.02, 0.4) if task == "pay" else chance.uniform(0.05, 3.0)
        job = world.job(task, length_s, at=at)
        job.usage = {"cpu": round(BUSY[task] * length_s * 1e6)}
        made.append(job)
    world.arrive(iter(made))
    return world, made


@given(st.integers(0, 2**32))
@settings(deadline=None)
def test_every_job_ends_once(seed: int) -> None:
    """Whatever stood still meanwhile, and nothing stands still for ever."""
    world, jobs = scene(seed)
    world.clock.run(600)

    ended = Counter(run.job.id for run in world.runs if not run.has_left)
    assert ended == Counter(job.id for job in jobs)
    for worker in world.workers.values():
        assert 0 == sum(worker.dispatcher.frozen(band) for band in POLICY["bands"])  # type: ignore[attr-defined]


@given(st.integers(0, 2**32))
@settings(deadline=None)
def test_nothing_stands_still_for_longer_than_it_may(seed: int) -> None:
    """Twice its own time is enough, and the least time for which anything is left alone."""
    world, _ = scene(seed)
    world.clock.run(600)

    for run in world.runs:
        assert run.frozen_s <= 2 * (run.ended - run.started - run.frozen_s) + 10.0


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_urgent_jobs_have_the_processors_that_they_need(seed: int) -> None:
    """No lesser job computes beside them that could stand still, and has not done so before."""
    world, _ = scene(seed)
    for _ in range(3_000):
        world.clock.run(0.02)
        for name, worker in world.workers.items():
            going = [run for run in running(world, name) if not is_frozen(run)]
            busy = {run: BUSY[run.job.task] for run in going if is_known(world, run)}
            urgent = sum(part for run, part in busy.items() if run.job.band == "critical")
            assert worker.processors is not None
            if urgent > 2 * LITTLE and sum(busy.values()) > worker.processors + 2 * LITTLE:
                assert not [run for run in busy if run.job.task == "sort" and not run.frozen_s]


def running(world: World, name: str) -> list[Run]:
    """List what runs on a worker now."""
    return [run for run in world.runs[-400:] if run.worker == name and run.ended > world.clock.now]


def is_frozen(run: Run) -> bool:
    """Tell whether a running job stands still: since when has been subtracted from its record."""
    return run.frozen_s < 0


def is_known(world: World, run: Run) -> bool:
    """Tell whether its worker has seen what its type keeps busy."""
    return any(
        other.worker == run.worker and other.job.task == run.job.task and other.ended < run.started
        for other in world.runs
    )
