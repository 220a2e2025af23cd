"""Reserved slots are used by others while they are idle, as far as they can be had back."""

from __future__ import annotations

import pytest

from celery_budget.core.decisions import Decision, Freeze, Start, Thaw, Yield
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.ticket import Ticket
from celery_budget.policy.model import Band
from celery_budget.policy.preemption import Method
from tests.unit.core.worker import NOW, run, ticket

FREEZE, CHECKPOINT = (Method.FREEZE,), (Method.CHECKPOINT,)


def worker(*bands: Band, slots: int = 3, spare: int = 1) -> Dispatcher:
    """Make a worker in which tasks give way in every way."""
    return Dispatcher(bands, slots, ways=frozenset(Method), spare=spare)


def reserving(reserve: int = 1, lend: int = 0) -> Dispatcher:
    """Make one that keeps a slot or more for critical tickets."""
    return worker(
        Band("critical", 0, preempts=True, reserve=reserve, lend=lend),
        Band("optional", 1, preempt=FREEZE),
    )


def optional(methods: tuple[Method, ...] = ()) -> Ticket:
    """Make a lesser ticket."""
    made = ticket("optional")
    made.methods = methods
    return made


def started(decisions: list[Decision]) -> list[Ticket]:
    """List what started."""
    return [decision.ticket for decision in decisions if isinstance(decision, Start)]


@pytest.mark.parametrize("methods", [FREEZE, CHECKPOINT, (Method.EVICT,)])
def test_the_reserve_is_lent_to_what_gives_way(methods: tuple[Method, ...]) -> None:
    """Also when nothing else that runs would."""
    dispatcher = reserving()
    run(dispatcher, optional(), optional())
    last = optional(methods)

    assert [last] == started(run(dispatcher, last))


def test_it_is_lent_to_others_while_something_else_gives_way() -> None:
    """Whichever slot that uses."""
    dispatcher = reserving()
    run(dispatcher, optional(FREEZE))

    assert 2 == len(started(run(dispatcher, optional(), optional())))


def test_it_is_not_lent_beyond_what_can_be_had_back() -> None:
    """One child beside the slots makes room for one."""
    dispatcher = reserving(reserve=2)
    freezable = [optional(FREEZE) for _ in range(3)]

    assert 2 == len(started(run(dispatcher, *freezable)))
    assert 0 == len(started(run(dispatcher, optional())))


def test_without_preemption_the_policy_says_how_far_it_is_lent() -> None:
    """Who borrowed it ends when it ends."""
    dispatcher = reserving(reserve=2, lend=1)

    assert 2 == len(started(run(dispatcher, *(optional() for _ in range(3)))))


def test_it_is_had_back_at_once() -> None:
    """As if it had not been lent."""
    dispatcher = reserving()
    run(dispatcher, *(optional(FREEZE) for _ in range(3)))
    urgent = ticket("critical")
    freeze, start = run(dispatcher, urgent, now=NOW + 1)

    assert isinstance(freeze, Freeze)
    assert [urgent] == started([start])


def test_what_is_lent_by_one_band_another_does_not_use_up() -> None:
    """Each has what it reserved."""
    dispatcher = worker(
        Band("critical", 0, preempts=True, reserve=1),
        Band("urgent", 1, preempts=True),
        Band("optional", 2),
        slots=2,
    )
    run(dispatcher, optional(), optional(CHECKPOINT))
    decisions = run(dispatcher, ticket("urgent"), now=NOW + 1)
    assert not [decision for decision in decisions if isinstance(decision, Yield)]
    decisions = run(dispatcher, ticket("critical"), now=NOW + 2)

    assert [decision for decision in decisions if isinstance(decision, Yield)]


def test_it_is_not_lent_to_a_band_that_does_not_give_way_to_it() -> None:
    """A band gives way to those above it alone."""
    dispatcher = worker(
        Band("critical", 0, preempts=True),
        Band("important", 1),
        Band("optional", 2, preempts=True, reserve=1),
        slots=2,
    )
    important = [ticket("important"), ticket("important")]
    for each in important:
        each.methods = FREEZE

    assert 1 == len(started(run(dispatcher, *important)))


def test_a_reserve_of_a_band_that_does_not_preempt_is_not_lent() -> None:
    """It could not have it back; nor does what was frozen come back into it."""
    dispatcher = worker(
        Band("critical", 0, preempts=True),
        Band("important", 1, reserve=1),
        Band("optional", 2),
        slots=2,
    )
    frozen, important, urgent = optional(FREEZE), ticket("important"), ticket("critical")
    run(dispatcher, frozen, important)
    run(dispatcher, urgent, now=NOW + 1)
    dispatcher.ended(important, NOW + 1.1)
    assert [] == run(dispatcher, now=NOW + 1.1)
    dispatcher.ended(urgent, NOW + 1.2)
    (thaw,) = run(dispatcher, now=NOW + 1.2)

    assert isinstance(thaw, Thaw)


def test_messages_are_fetched_for_what_would_be_lent() -> None:
    """By the rule of their band: what they are is not known before."""
    lent, kept = (
        reserving(),
        worker(Band("critical", 0, preempts=True, reserve=1), Band("optional", 1)),
    )

    assert (3, 2) == (lent.window("optional"), kept.window("optional"))
    run(lent, *(optional(FREEZE) for _ in range(3)))
    assert (0, 1) == (lent.window("optional"), lent.window("critical"))
