"""Capacities that lesser tickets hold, in the world: urgent ones need not wait for their ends."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from celery_budget.core.departures import PATIENCE_S
from celery_budget.core.reporting import IDLE_S, TICK_S
from celery_budget.policy.load import load
from celery_budget.simulate.job import Job
from celery_budget.simulate.world import LEDGER_DELAY_S, World
from tests.properties.fleet import most_at_once, units_of
from tests.properties.virtual import repeatable

ONE = 1_000_000

#: A worker to which nothing happens hears within a second that something is called back, and so do
#: its reports and the answers to them take time; another tick, and whoever waits asks again.
TWO_EXCHANGES_S = IDLE_S + TICK_S + 6 * LEDGER_DELAY_S[1]

#: A message comes from the broker, and a slot may be kept for others that may come.
STARTS_S = 0.05


def policy(ways: list[str], **budgets: Any) -> dict[str, Any]:
    """Write a policy with two bands that preempt and two whose tasks may leave."""
    return {
        "default_band": "optional",
        "bands": {
            "critical": {"preempts": True, "preempt": ["checkpoint", "evict"]},
            "urgent": {"preempts": True, "preempt": ["checkpoint"]},
            "important": {"weight": 4, "preempt": ways},
            "optional": {"preempt": ways},
        },
        "tasks": {
            "pay": {"band": "critical"},
            "ship": {"band": "urgent"},
            "mail": {"band": "important"},
        },
        "budgets": {"fleet": budgets},
    }


def world(seed: int, workers: int, slots: int, rules: dict[str, Any]) -> World:
    """Make a world of some workers."""
    made = World(load(rules), seed=seed)
    for number in range(workers):
        made.add_worker(f"w{number}", slots)
    return made


def leaver(made: World, task: str, length_s: float, at: float, step_s: float) -> Job:
    """Make a job that may leave within a step."""
    job = made.job(task, length_s, at=at)
    job.step_s = job.clean_up_s = step_s
    return job


@given(
    seed=st.integers(0, 2**32),
    workers=st.integers(1, 4),
    limit=st.integers(1, 5),
    ways=st.sampled_from([["checkpoint"], ["evict"], ["checkpoint", "evict"]]),
)
@repeatable(25)
def test_an_urgent_ticket_waits_no_longer_than_lesser_ones_take_to_leave(
    seed: int, workers: int, limit: int, ways: list[str]
) -> None:
    """Wherever in the fleet these run; and no more of them leave than units are needed."""
    chance = Random(seed)
    step_s = chance.uniform(0.01, PATIENCE_S - 0.01)
    made = world(seed, workers, 6, policy(ways, slots=limit))
    begin = made.clock.now
    lesser = [leaver(made, "sort", 30.0, begin, step_s) for _ in range(limit + 2)]
    made.arrive(iter(lesser))
    made.clock.run(3.0)
    at = made.clock.now
    urgent = []
    for _ in range(limit):  # nobody is asked twice, which may take longer
        at += chance.choice([0.0, 0.01, chance.uniform(0, 3)])
        urgent.append(made.job("pay", chance.uniform(4.0, 5.0), at=at))
    made.arrive(iter(urgent))
    made.clock.run(40)

    waited = [run.waited_s for run in made.runs if run.job.task == "pay"]
    assert len(urgent) == len(waited)
    assert max(waited) <= step_s + TWO_EXCHANGES_S + STARTS_S
    assert sum(run.has_left for run in made.runs) <= limit
    assert limit == most_at_once(made.runs, lambda _: 1)


@given(
    seed=st.integers(0, 2**32),
    workers=st.integers(1, 4),
    slots=st.integers(1, 4),
    ways=st.sampled_from([["checkpoint"], ["evict"], ["freeze", "checkpoint"]]),
    resource=st.sampled_from(["slots", "memory", "both"]),
)
@repeatable(25)
def test_whatever_is_called_back_all_is_done_once_and_no_limit_is_passed(
    seed: int, workers: int, slots: int, ways: list[str], resource: str
) -> None:
    """With tickets of all bands and sizes, some of which cannot leave or take long to."""
    chance = Random(seed)
    budgets: dict[str, Any] = {"slots": chance.randint(1, 4), "memory": 100}
    if resource != "both":
        budgets = {resource: budgets[resource]}
    made = world(seed, workers, slots, policy(ways, **budgets))
    at = made.clock.now
    jobs = []
    for _ in range(60):
        at += chance.expovariate(4.0)
        job = leaver(
            made,
            chance.choice(["pay", "ship", "mail", "sort", "sort"]),
            chance.uniform(0.02, 3.0),
            at,
            chance.choice([0.01, 0.1, 1.0]),
        )
        if chance.random() < 0.3:
            job.methods = ()
        job.cost = (("memory", chance.randint(1, 60)),)
        jobs.append(job)
    made.arrive(iter(jobs))
    made.clock.run(300)

    ended = Counter(run.job.id for run in made.runs if not run.has_left)
    assert Counter(job.id for job in jobs) == ended
    assert all(run.job.band != "critical" for run in made.runs if run.has_left)
    if "slots" in budgets:
        assert most_at_once(made.runs, lambda _: 1) <= budgets["slots"]
    if "memory" in budgets:
        assert most_at_once(made.runs, lambda ticket: units_of("memory", ticket)) <= 100


@given(
    seed=st.integers(0, 2**32),
    workers=st.integers(1, 3),
    slots=st.integers(1, 3),
    ways=st.sampled_from([["checkpoint"], ["evict"]]),
)
@repeatable(25)
def test_two_leave_for_an_urgent_ticket_at_most(
    seed: int, workers: int, slots: int, ways: list[str]
) -> None:
    """One for its unit, and one for its slot where that is on another worker."""
    chance = Random(seed)
    step_s = chance.uniform(0.01, PATIENCE_S - 0.05)
    made = world(seed, workers, slots, policy(ways, slots=chance.randint(1, workers * slots)))
    at = made.clock.now
    jobs = [leaver(made, "sort", chance.uniform(0.1, 5.0), at, step_s) for _ in range(20)]
    for _ in range(12):
        at += chance.expovariate(1.0)
        jobs.append(leaver(made, chance.choice(["pay", "ship"]), chance.uniform(0, 2), at, step_s))
    made.arrive(iter(jobs))
    made.clock.run(200)

    ended = Counter(run.job.id for run in made.runs if not run.has_left)
    urgent = sum(run.job.task in {"pay", "ship"} for run in made.runs)
    assert Counter(job.id for job in jobs) == ended
    assert sum(run.has_left for run in made.runs) <= 2 * urgent
