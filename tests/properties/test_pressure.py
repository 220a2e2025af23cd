"""Nodes short of memory, in the world: nothing is lost, and what fits nowhere starts nowhere."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from celery_budget.core.node import LITTLE
from celery_budget.policy.load import load
from celery_budget.simulate.job import Job
from celery_budget.simulate.world import World

MIB = 2**20
LIMIT = 1_000 * MIB
POLICY = {
    "default_band": "optional",
    "bands": {
        "critical": {"preempts": True},
        "important": {"preempt": ["checkpoint"], "min_share": 0.1},
        "optional": {"preempt": ["evict"]},
    },
    "tasks": {"pay": {"band": "critical"}, "mail": {"band": "important"}},
    "pressure": {},
}


WORKERS, JOBS = 3, 120


def scene(seed: int, *, is_told: bool) -> tuple[World, list[Job]]:
    """Let jobs that take memory come to workers on a node each.

    Args:
        seed: Of all chance.
        is_told: Whether each says before how much it takes.
    """
    chance = Random(seed)
    world = World(load(POLICY), seed=seed)
    for number in range(WORKERS):
        world.add_worker(f"w{number}", chance.randint(1, 4), memory=LIMIT)
    made = []
    at = world.clock.now
    for _ in range(JOBS):
        at += chance.expovariate(4.0)
        task = chance.choice(["pay", "mail", "sort"])
        job = world.job(task, chance.uniform(0.05, 2.0), at=at)
        job.step_s = chance.choice([0.02, 0.2])
        memory = chance.randint(1, 5 if task == "pay" else 450) * MIB
        job.usage = {"memory": memory}
        if is_told:
            job.cost = (("memory", memory),)
        made.append(job)
    world.arrive(iter(made))
    return world, made


@given(st.integers(0, 2**32), st.booleans())
@settings(deadline=None)
def test_every_job_ends_once(seed: int, is_told: bool) -> None:
    """Whatever was sent away or had to leave, on the way from node to node."""
    world, jobs = scene(seed, is_told=is_told)
    world.clock.run(300)

    ended = Counter(run.job.id for run in world.runs if not run.has_left)
    assert ended == Counter(job.id for job in jobs)


@given(st.integers(0, 2**32))
@settings(deadline=None)
def test_jobs_that_say_what_they_take_never_take_too_much(seed: int) -> None:
    """But for those that take so little that nobody asks."""
    world, _ = scene(seed, is_told=True)
    world.clock.run(300)

    for name, worker in world.workers.items():
        changes = sorted(
            change
            for run in world.runs
            if run.worker == name
            for change in (
                (run.started, 1, run.job.usage["memory"]),
                (run.ended, 0, -run.job.usage["memory"]),
            )
        )
        used = most = 0
        for _, _, change in changes:
            used += change
            most = max(most, used)
        assert most <= 0.9 * LIMIT + worker.dispatcher.slots * LITTLE * LIMIT


@given(st.integers(0, 2**32))
@settings(deadline=None)
def test_a_node_that_others_fill_starts_no_lesser_work(seed: int) -> None:
    """From the second look on, for as long as they do; urgent work goes on there."""
    world, _ = scene(seed, is_told=False)
    filled = world.workers["w0"]
    world.clock.run(5)
    filled.others = LIMIT
    since = world.clock.now
    world.clock.run(15)
    filled.others = 0
    until = world.clock.now
    world.clock.run(300)

    bands = Counter(
        run.job.band
        for run in world.runs
        if run.worker == "w0" and since + 1.0 < run.started <= until
    )
    assert set(bands) <= {"critical"}
    assert all(job.band != "important" for job in world.broker.queues["important"])
