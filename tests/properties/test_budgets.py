"""Workers that share budgets through a ledger, on a virtual clock: bounds, liveness, memory."""

from __future__ import annotations

from collections import Counter
from itertools import count
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_budget.core.reporting import LEASE_S
from celery_budget.simulate.clock import BEGIN
from celery_budget.simulate.job import Job
from tests.properties.fleet import ONE, Fleet, Member, Watch, rules, units_of
from tests.properties.virtual import repeatable


@given(
    policy=rules(),
    workers=st.integers(1, 3),
    slots=st.integers(1, 3),
    jobs=st.integers(1, 60),
    seed=st.integers(0, 2**32),
)
@repeatable(60)
def test_no_limit_is_passed_and_nobody_is_stuck(
    policy: dict[str, Any], workers: int, slots: int, jobs: int, seed: int
) -> None:
    """Whichever budgets meet on a ticket, and on however many workers."""
    rng = Random(seed)
    fleet = Fleet(policy, workers, slots, rng)
    offered = []
    for _ in range(jobs):
        worker = rng.choice(fleet.members)

        def publish(worker: Member = worker) -> None:
            # All that there can ever be takes longer: see the test of that.
            tokens = rng.randrange(ONE, 8 * ONE)
            job = fleet.make(
                rng.choice("ab"),
                rng.choice("xy"),
                rng.choice((0.001, 0.02, 0.3)),
                rng.choice(("", "one", "two")),
                usage={"tokens": tokens},
                memory=rng.randrange(1, 100),
                tokens=tokens,
            )
            offered.append(job)
            worker.hold(job)

        # Not at the same microsecond, which two machines never share.
        begun = rng.choice((0.0, 1.0, rng.uniform(0, 3)))
        fleet.clock.at(BEGIN + begun + rng.uniform(0, 0.001), publish)
    watch = Watch(fleet)
    while len(fleet.runs) < jobs and fleet.clock.now < BEGIN + 60:
        fleet.run(1.0, watch.look)
    fleet.run(1.0)

    budgets = policy["budgets"]
    assert Counter(run.job for run in fleet.runs) == Counter(offered)
    everywhere = budgets.get("fleet", {})
    if "slots" in everywhere:
        assert fleet.most_at_once(lambda _: 1) <= everywhere["slots"]
    if "memory" in everywhere:
        assert fleet.most_at_once(lambda ticket: units_of("memory", ticket)) <= 100
    if "tenant:*" in budgets:
        for tenant in ("one", "two"):
            most = fleet.most_at_once(lambda ticket, tenant=tenant: ticket.tenant == tenant)  # type: ignore[misc]
            assert most <= budgets["tenant:*"]["slots"]
    if "task:x" in budgets:
        limit = int(budgets["task:x"]["starts"].partition("/")[0])
        burst = max(1, limit // 10)
        # What was granted in one tick may start in the next.
        late = -(-limit // 20)
        assert fleet.most_started(lambda ticket: ticket.task == "x", 1.0) <= limit + burst + late


def test_a_ticket_that_needs_all_there_can_be_gets_it() -> None:
    """Nobody may keep a little at hand for ever that is missing elsewhere."""
    fleet = Fleet({"budgets": {"fleet": {"tokens": "100/1s"}}}, 2, 2, Random(3))
    first, second = fleet.members

    def small() -> None:
        first.hold(fleet.make("default", "small", 0.01, usage={"tokens": 1}, tokens=ONE // 10))
        fleet.clock.after(0.02, small)

    small()
    fleet.run(1.0)
    large = fleet.make("default", "large", 0.01, tokens=10 * ONE)
    second.hold(large)
    fleet.run(4.0)

    assert large in [run.job for run in fleet.runs]


def test_two_workers_that_need_the_same_accounts_do_not_wait_for_each_other() -> None:
    """Each would hold what the other one lacks."""
    policy = {"budgets": {"fleet": {"slots": 2, "memory": 100}, "tenant:*": {"slots": 1}}}
    fleet = Fleet(policy, 2, 4, Random(5))
    numbers = count()

    def job() -> Job:
        kind = next(numbers) % 3
        return fleet.make("default", "x", 0.05, f"t{kind}", memory=(40, 70, 100)[kind])

    fleet.fill(40, job)
    watch = Watch(fleet)
    fleet.run(20.0, watch.look)

    assert 80 == len(fleet.runs)
    assert fleet.most_at_once(lambda ticket: units_of("memory", ticket)) <= 100


def test_a_dead_workers_capacity_comes_back_and_is_never_given_twice() -> None:
    """Until its lease ends it may be merely cut off."""
    fleet = Fleet({"budgets": {"fleet": {"slots": 3}}}, 3, 2, Random(7))
    fleet.fill(100, lambda: fleet.make("default", "x", 0.2))
    fleet.run(1.0)
    victim = next(run.worker for run in fleet.runs if run.ended == inf)
    next(worker for worker in fleet.members if worker.name == victim).kill()
    died = fleet.clock.now
    fleet.run(9.0)

    after = [run for run in fleet.runs if run.started > died + LEASE_S + 1.0]
    assert 3 == fleet.most_at_once(lambda _: 1)
    assert len(after) >= 0.9 * 3 * (fleet.clock.now - died - LEASE_S - 1.0) / 0.2


def test_what_waits_for_a_budget_and_goes_leaves_nothing_behind() -> None:
    """Tenants are without number, and a worker runs for months."""
    policy = {"budgets": {"tenant:*": {"usd": "1/1s", "slots": 1}}}
    fleet = Fleet(policy, 1, 4, Random(9))
    (worker,) = fleet.members
    for number in range(400):
        for _ in range(2):
            job = fleet.make(
                "default",
                "x",
                0.01,
                f"tenant-{number}",
                usage={"usd": ONE // 20},
                usd=ONE // 10,
            )
            worker.hold(job)
        if number % 4 == 0:
            worker.dispatcher.withdraw(job.id)
    fleet.run(40.0)

    (state,) = worker.dispatcher._order.bands
    assert 700 == len(fleet.runs)
    assert (0, 0) == (len(worker.accounts.groups), len(worker.accounts.allowances))
    assert not worker.accounts._blocked
    assert not worker.accounts._register.active
    assert state.queue.tenants < 100
    assert {} == fleet.ledger.accounts()


@pytest.mark.parametrize("limit", [5, 50, 500])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_rate_is_used_to_the_full(limit: int, workers: int) -> None:
    """A budget that is half used because of how it is shared is half a budget."""
    fleet = Fleet(
        {"budgets": {"task:x": {"starts": f"{limit}/1s"}}}, workers, 4, Random(limit + workers)
    )
    fleet.fill(15 * limit, lambda: fleet.make("default", "x", 0.002))
    fleet.run(10.0)

    # The least burst is one start: what comes while the answer to the last is under way is lost.
    assert len(fleet.runs) >= 9.0 * limit
    assert len(fleet.runs) <= 10.0 * limit + max(1, limit // 10)
