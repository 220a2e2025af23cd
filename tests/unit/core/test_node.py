"""What is left of a node's memory, and for whom."""

from __future__ import annotations

import pytest

from celery_budget.core.node import LITTLE, MOST_TASKS, Node
from celery_budget.core.pressure import Sample
from celery_budget.core.ticket import Ticket
from celery_budget.policy.pressure import PressureRule
from tests.unit.core.worker import NOW, ticket

MIB = 2**20
GIB = 2**30


def hungry(units: int, task: str = "task") -> Ticket:
    """Make a ticket that says how much memory it takes."""
    made = ticket("optional", task=task)
    made.cost = (("cpu", 1), ("memory", units))
    return made


def node(used: int = 0, base: int = 0) -> Node:
    """Make a node of 1 GiB that has been looked at, of which 900 MiB may be used."""
    made = Node(PressureRule(memory=900 / 1024))
    made.look(Sample(used, GIB, base=base), {}, NOW)
    return made


@pytest.mark.parametrize(
    ("used", "wants", "lacks"), [(0, 900, 0), (0, 901, 1), (400, 500, 0), (400, 510, 10)]
)
def test_what_does_not_fit_does_not_start(used: int, wants: int, lacks: int) -> None:
    """By what is in use, and what the rule allows."""
    assert lacks * MIB == node(used * MIB).lacks(hungry(wants * MIB))


def test_what_runs_keeps_what_it_is_expected_to_take() -> None:
    """Also before it has taken it, and no longer than it runs."""
    one, running = node(), hungry(600 * MIB)
    one.started(running)

    assert 100 * MIB == one.lacks(hungry(400 * MIB))
    one.look(Sample(500 * MIB, GIB), {running: 500 * MIB}, NOW)
    assert 100 * MIB == one.lacks(hungry(400 * MIB))
    one.look(Sample(700 * MIB, GIB), {running: 700 * MIB}, NOW)
    assert 200 * MIB == one.lacks(hungry(400 * MIB))
    one.ended(running, {}, NOW, is_bound=False)
    one.look(Sample(0, GIB), {}, NOW)
    assert 0 == one.lacks(hungry(400 * MIB))


def test_what_every_child_has_is_not_taken_again() -> None:
    """It is in use before anything runs."""
    one = node(used=200 * MIB, base=50 * MIB)

    assert 0 == one.lacks(hungry(750 * MIB))
    assert 1 * MIB == one.lacks(hungry(751 * MIB))


def test_whoever_takes_little_starts_in_any_case() -> None:
    """A worker whose node is full goes on with small tasks that are urgent."""
    one = node(used=GIB)

    assert 0 == one.lacks(hungry(int(LITTLE * GIB)))
    assert one.lacks(hungry(int(LITTLE * GIB) + 1)) > 0


def test_a_task_type_is_expected_to_take_what_it_took() -> None:
    """Within the tenth to which a sketch tells; what a ticket declares goes before."""
    one = node()
    for _ in range(10):
        one.ended(ticket("optional", task="big"), {"memory": 600 * MIB}, NOW, is_bound=False)

    assert pytest.approx(600 * MIB, rel=0.1) == one.expected(ticket("optional", task="big"))
    assert 7 == one.expected(hungry(7, task="big"))
    assert 0 == one.expected(ticket("optional", task="other"))


def test_one_that_left_early_tells_what_it_had() -> None:
    """Its process may have told nothing, as it was killed."""
    one, running = node(base=50 * MIB), ticket("optional", task="big")
    one.started(running)
    one.look(Sample(500 * MIB, GIB, base=50 * MIB), {running: 400 * MIB}, NOW)
    one.ended(running, {}, NOW, is_bound=True)

    assert pytest.approx(450 * MIB, rel=0.1) == one.expected(ticket("optional", task="big"))


def test_nothing_is_kept_back_before_the_first_look() -> None:
    """Nobody knows yet what there is."""
    assert 0 == Node(PressureRule()).lacks(hungry(10**15))


def test_memory_that_comes_free_is_waited_for() -> None:
    """A look just after a task has left for it may not see that."""
    one, running = node(), ticket("optional")
    one.started(running)
    one.look(Sample(GIB, GIB), {running: GIB}, NOW)
    assert one.excess > 0
    one.ended(running, {}, NOW, is_bound=True)
    one.look(Sample(GIB, GIB), {}, NOW + 0.1)
    assert 0 == one.excess
    one.look(Sample(GIB, GIB), {}, NOW + 1)
    assert one.excess > 0


def test_of_endless_names_some_are_forgotten() -> None:
    """Those that were seen first."""
    one = node()
    for number in range(MOST_TASKS + 1):
        one.ended(ticket("a", task=f"t{number}"), {"memory": MIB}, NOW, is_bound=False)

    assert 0 == one.expected(ticket("a", task="t0"))
    assert one.expected(ticket("a", task="t1")) > 0
