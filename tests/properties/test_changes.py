"""Fleets whose policy and pauses change while they work: nothing is lost, and limits hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from celery_budget.core.ticket import Ticket
from celery_budget.policy.budget import Scope
from celery_budget.policy.live import Pause
from celery_budget.policy.load import load
from celery_budget.policy.model import Policy
from celery_budget.simulate.clock import BEGIN
from tests.properties.fleet import (
    BANDS,
    ONE,
    Fleet,
    Member,
    Watch,
    rules,
    units_of,
)
from tests.properties.virtual import repeatable

PAUSES = (
    Pause(Scope.FLEET, "*"),
    Pause(Scope.BAND, "a"),
    Pause(Scope.TASK, "x"),
    Pause(Scope.TENANT, "o*"),
)


def follow(worker: Member, policy: Policy, version: int, pauses: Sequence[Pause] = ()) -> None:
    """Go over to another policy, as a worker does."""
    worker.accounts.amend(policy, version, pauses)
    paused = [pause.pattern for pause in pauses if pause.scope is Scope.BAND]
    worker.dispatcher.amend(policy, paused, worker.clock.now)
    worker.turn()


def is_paused(pause: Pause, ticket: Ticket) -> bool:
    """Tell whether a ticket is one of those that do not start."""
    names = {Scope.FLEET: "", Scope.BAND: ticket.band, Scope.TASK: ticket.task}
    return pause.is_match(names.get(pause.scope, ticket.tenant))


@given(
    policies=st.lists(rules(), min_size=2, max_size=4),
    workers=st.integers(1, 3),
    slots=st.integers(1, 3),
    jobs=st.integers(1, 60),
    seed=st.integers(0, 2**32),
)
@repeatable(60)
def test_changes_lose_nothing_and_limits_hold_all_the_same(
    policies: list[dict[str, Any]], workers: int, slots: int, jobs: int, seed: int
) -> None:
    """Workers follow at moments of their own, with tickets that run and that wait."""
    rng = Random(seed)
    fleet = Fleet(policies[0], workers, slots, rng)
    offered = []
    for _ in range(jobs):
        worker = rng.choice(fleet.members)

        def publish(worker: Member = worker) -> None:
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

        fleet.clock.at(BEGIN + rng.uniform(0, 3), publish)
    pauses = []
    for number, each in enumerate(policies[1:], 1):
        loaded, at = load(each), BEGIN + number
        pause = rng.choice(PAUSES)
        pauses.append((pause, at + 0.1, at + 0.9))
        for worker in fleet.members:
            fleet.clock.at(
                at + rng.uniform(0, 0.1),
                lambda worker=worker, loaded=loaded, number=number, pause=pause: follow(  # type: ignore[misc]
                    worker, loaded, 2 * number, [pause]
                ),
            )
            fleet.clock.at(
                at + 0.9 + rng.uniform(0, 0.1),
                lambda worker=worker, loaded=loaded, number=number: follow(  # type: ignore[misc]
                    worker, loaded, 2 * number + 1
                ),
            )
    changed = BEGIN + len(policies)
    fleet.run(changed - BEGIN)
    watch = Watch(fleet)
    while len(fleet.runs) < jobs and fleet.clock.now < BEGIN + 60:
        fleet.run(1.0, watch.look)
    fleet.run(1.0)

    assert Counter(run.job for run in fleet.runs) == Counter(offered)
    for pause, begin, end in pauses:
        assert not [r for r in fleet.runs if begin < r.started < end and is_paused(pause, r.job)]
    # Once what ran under an earlier policy has ended, nobody may be above the last one.
    late = [run for run in fleet.runs if run.started > changed + 0.3]
    fleet.runs = late
    last = policies[-1]["budgets"]
    everywhere = last.get("fleet", {})
    if "slots" in everywhere:
        assert fleet.most_at_once(lambda _: 1) <= everywhere["slots"]
    if "memory" in everywhere:
        assert fleet.most_at_once(lambda ticket: units_of("memory", ticket)) <= 100
    for worker in fleet.members:
        held = [each.held for each in worker.accounts.allowances.values()]
        assert all(each >= 0 for each in held)
        assert not any(each.reserved for each in worker.accounts.allowances.values())


def test_a_lowered_limit_takes_back_what_workers_have_at_hand() -> None:
    """Else it would hold only once all that was granted has been used up."""
    fleet = Fleet({"budgets": {"fleet": {"slots": 6}}}, 2, 4, Random(1))
    fleet.fill(20, lambda: fleet.make("default", "t", 0.2))
    fleet.run(0.5)
    for worker in fleet.members:
        follow(worker, load({"budgets": {"fleet": {"slots": 2}}}), 1)
    fleet.run(0.4)
    before = fleet.clock.now
    fleet.run(5.0)
    assert 40 == len(fleet.runs)
    fleet.runs = [run for run in fleet.runs if run.started > before]

    assert 0 < fleet.most_at_once(lambda _: 1) <= 2


def test_a_higher_limit_forgives_no_debt() -> None:
    """Who has overspent pays first, whatever is changed meanwhile."""
    fleet = Fleet({"budgets": {"fleet": {"tokens": "100/1h"}}}, 1, 1, Random(1))
    (worker,) = fleet.members
    worker.hold(fleet.make("default", "t", 0.1, usage={"tokens": 160 * ONE}, tokens=ONE))
    fleet.run(2.0)
    before = fleet.ledger.accounts()["fleet tokens"].balance
    follow(worker, load({"budgets": {"fleet": {"tokens": "150/1h"}}}), 1)
    worker.hold(fleet.make("default", "t", 0.1, tokens=ONE))
    fleet.run(2.0)
    after = fleet.ledger.accounts()["fleet tokens"].balance

    assert (-60 * ONE, -10 * ONE) == (before, after)
    assert 1 == len(fleet.runs)


def test_the_same_policy_again_changes_nothing() -> None:
    """An operator who applies twice must not give twice."""
    policy = {"budgets": {"fleet": {"tokens": "100/1h"}}, "bands": BANDS, "default_band": "a"}
    fleet = Fleet(policy, 1, 1, Random(1))
    (worker,) = fleet.members
    for number in range(1, 6):
        worker.hold(fleet.make("a", "t", 0.1, usage={"tokens": 30 * ONE}, tokens=30 * ONE))
        fleet.run(1.0)
        follow(worker, load(policy), number)
        fleet.run(1.0)

    assert 3 == len(fleet.runs)
    assert 10 * ONE == fleet.ledger.accounts()["fleet tokens"].balance


def test_an_account_that_is_no_longer_there_gives_back_what_it_had() -> None:
    """Nobody would ever tell the ledger of it again."""
    fleet = Fleet({"budgets": {"fleet": {"tokens": "100/1h"}}}, 1, 2, Random(1))
    (worker,) = fleet.members
    worker.hold(fleet.make("default", "t", 5.0, usage={"tokens": 10 * ONE}, tokens=30 * ONE))
    fleet.run(1.0)
    follow(worker, load({"budgets": {"fleet": {"starts": "9/1s"}}}), 1)
    fleet.run(1.0)
    during = fleet.ledger.accounts()["fleet tokens"]
    fleet.run(30.0)
    account = fleet.ledger.accounts()["fleet tokens"]

    assert 30 * ONE <= sum(holder.out for holder in during.holders.values())
    assert (90 * ONE, {}) == (account.balance, account.holders)
    assert "fleet tokens" not in worker.accounts.allowances
