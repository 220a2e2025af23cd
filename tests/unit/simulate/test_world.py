"""The world of a simulation: repeatable, and true to what the parts of production promise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from random import Random
from typing import Any

import pytest

from celery_budget.core.reporting import LEASE_S
from celery_budget.policy.load import load
from celery_budget.simulate.job import Job, Run
from celery_budget.simulate.world import World

POLICY: dict[str, Any] = {
    "default_band": "optional",
    "bands": {"critical": {"preempts": True}, "optional": {}},
    "tasks": {"pay": {"band": "critical"}},
}


def world(policy: Mapping[str, Any], slots: int = 1, workers: int = 1, seed: int = 1) -> World:
    """Make a world with some workers."""
    made = World(load(policy), seed=seed)
    for number in range(workers):
        made.add_worker(f"w{number}", slots)
    return made


def giving_way(*methods: str) -> dict[str, Any]:
    """Make a policy whose optional tasks give way in these ways."""
    bands = {**POLICY["bands"], "optional": {"preempt": list(methods)}}
    return {**POLICY, "bands": bands}


def publish(of: World, task: str, length_s: float, **more: Any) -> Job:
    """Publish a job now."""
    made = of.job(task, length_s)
    for name, value in more.items():
        setattr(made, name, value)
    of.broker.publish(made)
    return made


def runs(of: World, job: Job) -> list[Run]:
    """List the executions of a job, by its id."""
    return [run for run in of.runs if run.job.id == job.id]


def mixed(of: World, jobs: int, seed: int) -> Iterator[Job]:
    """Make jobs of both bands at random moments."""
    chance = Random(seed)
    at = of.clock.now
    for _ in range(jobs):
        at += chance.expovariate(20)
        task = chance.choice(("pay", "other"))
        yield of.job(task, chance.expovariate(10), at=at, tenant=chance.choice("abc"))


def test_the_same_seed_gives_the_same_runs() -> None:
    """Else no finding could be looked at again."""
    found = []
    for _ in range(2):
        made = world({**POLICY, "budgets": {"tenant:*": {"slots": 2}}}, slots=2, workers=2)
        made.arrive(mixed(made, 300, seed=3))
        made.clock.run(60)
        found.append([(run.job.task, run.worker, run.started, run.ended) for run in made.runs])

    assert found[0] == found[1]
    assert 300 == len(found[0])


def test_every_job_runs_once_and_for_its_length() -> None:
    """On whichever worker."""
    made = world(POLICY, slots=2, workers=3)
    offered = list(mixed(made, 500, seed=5))
    made.arrive(offered)
    made.clock.run(60)

    assert {job.id for job in offered} == {run.job.id for run in made.runs}
    assert 500 == len(made.runs)
    took_s = {run.job.id: run.ended - run.started for run in made.runs}
    assert took_s == pytest.approx({job.id: job.length_s for job in offered}, abs=1e-6)
    assert {"w0", "w1", "w2"} == {run.worker for run in made.runs}


def test_urgent_jobs_go_first() -> None:
    """The policy decides, as it does in a worker."""
    made = world(POLICY)
    publish(made, "other", 1.0)
    made.clock.run(0.1)
    for task in ("other", "pay"):
        publish(made, task, 1.0)
    made.clock.run(5)

    assert ["other", "pay", "other"] == [run.job.task for run in made.runs]


def test_a_budget_holds_between_workers() -> None:
    """Through the ledger, as in production."""
    made = world({**POLICY, "budgets": {"fleet": {"slots": 2}}}, slots=2, workers=2)
    for _ in range(10):
        publish(made, "other", 1.0)
    made.clock.run(30)

    changes = sorted([(r.started, 1) for r in made.runs] + [(r.ended, -1) for r in made.runs])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    assert (10, 2) == (len(made.runs), most)


def test_what_is_refused_or_expires_is_told() -> None:
    """It never runs."""
    rule = {"limit": "1/1h", "on_exhausted": "shed"}
    policy = {**POLICY, "budgets": {"task:x": {"usd": rule}}}
    made = world({**policy, "tasks": {**POLICY["tasks"], "x": {"cost": {"usd": 1}}}})
    offered = [publish(made, "x", 0.01) for _ in range(3)]
    made.clock.run(5)
    publish(made, "other", 10.0)
    made.clock.run(1)
    late = publish(made, "other", 1.0, expires=made.clock.now + 1)
    made.workers["w0"].hold(made.broker.queues["optional"].popleft())
    made.clock.run(5)

    assert {job.id for job in offered} == {run.job.id for run in made.runs[:1]} | {
        job.id for job in made.refused
    }
    assert 2 == len(made.refused)
    assert [late] == made.expired


def test_a_frozen_job_goes_on_where_it_was() -> None:
    """The time in which it stood still is no part of its length."""
    made = world(giving_way("freeze"))
    job = publish(made, "other", 2.0)
    made.clock.run(1)
    publish(made, "pay", 0.5)
    made.clock.run(5)

    (run,) = runs(made, job)
    assert run.frozen_s == pytest.approx(0.5)
    assert run.ended - run.started == pytest.approx(2.5)


def test_a_job_that_yields_keeps_its_progress() -> None:
    """Up to the checkpoint at which it left."""
    made = world(giving_way("checkpoint"))
    job = publish(made, "other", 2.0, step_s=0.3)
    made.clock.run(1)
    publish(made, "pay", 0.5)
    made.clock.run(5)

    first, second = runs(made, job)
    assert first.has_left
    assert first.ended - first.started == pytest.approx(1.2)
    assert second.ended - second.started == pytest.approx(0.8)


def test_an_evicted_job_begins_anew() -> None:
    """After it has cleaned up."""
    made = world(giving_way("evict"))
    job = publish(made, "other", 3.0, clean_up_s=0.2)
    made.clock.run(2)
    publish(made, "pay", 0.5)
    made.clock.run(9)

    first, second = runs(made, job)
    assert first.ended - first.started == pytest.approx(2.2, abs=0.01)
    assert second.ended - second.started == pytest.approx(3.0)


def test_an_evicted_job_with_checkpoints_goes_on_from_the_last() -> None:
    """It loses only what came after."""
    made = world(giving_way("evict"))
    job = publish(made, "other", 3.0, step_s=0.7)
    made.clock.run(2)
    publish(made, "pay", 0.5)
    made.clock.run(9)

    first, second = runs(made, job)
    assert first.ended - first.started == pytest.approx(2.0, abs=0.01)
    assert second.ended - second.started == pytest.approx(3.0 - 1.4)


def test_idle_workers_take_turns() -> None:
    """As brokers have it."""
    made = world(POLICY, workers=2)
    for _ in range(10):
        publish(made, "other", 0.1)
        made.clock.run(1)

    assert 5 == sum(run.worker == "w0" for run in made.runs)


def test_a_killed_worker_ends_everything_and_holds_on_for_a_lease() -> None:
    """What it had of a capacity is free for others after that."""
    made = world({**POLICY, "budgets": {"fleet": {"slots": 1}}}, workers=2)
    first = publish(made, "other", 60.0)
    made.clock.run(1)
    (run,) = runs(made, first)
    made.workers[run.worker].kill()
    second = publish(made, "other", 1.0)
    made.clock.run(LEASE_S - 1)
    assert run.ended < inf
    assert not runs(made, second)
    made.clock.run(2.5)

    assert 1 == len(runs(made, second))


def test_what_a_killed_worker_had_not_started_is_with_the_broker_again() -> None:
    """As where the connection of its process breaks."""
    made = world(POLICY, workers=2)
    for _ in range(8):
        publish(made, "other", 0.01)
    held = [made.job("other", 1.0) for _ in range(3)]
    for job in held:
        made.workers["w0"].hold(job)
    made.workers["w0"].kill()
    made.clock.run(5)

    assert 11 == len({run.job.id for run in made.runs})
    assert {"w1"} == {run.worker for run in made.runs}
