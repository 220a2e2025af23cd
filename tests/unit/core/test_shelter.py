"""What starts, waits aside and leaves while a node has too little left."""

from __future__ import annotations

from math import inf

import pytest

from celery_budget.core.decisions import Evict, Reason, Return, Start, Stay, Wait, Yield
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.pressure import REST_S, Sample
from celery_budget.core.shelter import ASIDE_S
from celery_budget.core.ticket import Ticket
from celery_budget.policy.model import Band
from celery_budget.policy.preemption import Method
from celery_budget.policy.pressure import PressureRule
from tests.unit.core.worker import NOW, run, start, ticket

MIB = 2**20
BANDS = [
    Band("critical", 0, preempts=True),
    Band("important", 1, weight=4.0, min_share=0.2),
    Band("optional", 2),
]


def worker(slots: int = 4, *, evict: bool = True) -> Dispatcher:
    """Make a worker on a node of 1,000 MiB, of which 900 may be used."""
    made = Dispatcher(
        BANDS,
        slots,
        ways=frozenset({Method.CHECKPOINT, Method.EVICT}),
        pressure=PressureRule(evict=evict),
    )
    look(made, 0)
    return made


def look(
    dispatcher: Dispatcher,
    used: int,
    using: dict[Ticket, int] | None = None,
    now: float = NOW,
    stall: float = 0.0,
) -> None:
    """Look at the node: MiB in use, of all and of each that runs."""
    sample = Sample(used * MIB, 1_000 * MIB, stall)
    dispatcher.look(sample, {who: each * MIB for who, each in (using or {}).items()}, now)


def leaver(band: str, *methods: Method, memory: int = 0) -> Ticket:
    """Make a ticket that may leave its slot."""
    made = ticket(band)
    made.methods = methods or (Method.EVICT,)
    if memory:
        made.cost = (("memory", memory * MIB),)
    return made


def test_lesser_work_is_left_to_others_under_pressure() -> None:
    """What is held goes back, the last first, so that the first is first again."""
    dispatcher = worker(slots=1)
    running = ticket("important")
    held = [ticket("optional"), ticket("important"), ticket("optional")]
    urgent = ticket("critical")
    run(dispatcher, running)
    run(dispatcher, *held)
    look(dispatcher, 950)
    dispatcher.offer(urgent, NOW)

    assert [Return(each, Reason.PRESSURE) for each in reversed(held)] == run(dispatcher)
    assert (0, 0, 0) == dispatcher.demand("optional") == dispatcher.demand("important")
    dispatcher.ended(running, NOW + 1)
    assert urgent is start(dispatcher, NOW + 1)
    assert dispatcher.demand("critical")[2] == 0 < dispatcher.slots


def test_what_still_comes_is_held_for_a_moment_and_goes_back() -> None:
    """It was on its way; its minimum share does not count here either."""
    dispatcher = worker()
    look(dispatcher, 950)
    late = ticket("important")

    assert not any(isinstance(each, Start) for each in run(dispatcher, late, now=NOW + 100))
    wait = dispatcher.explain(late.id, NOW)
    assert wait is not None
    assert Reason.PRESSURE is wait.reason
    look(dispatcher, 950, now=NOW + 101)
    assert [Return(late, Reason.PRESSURE)] == run(dispatcher, now=NOW + 101)


def test_the_first_band_goes_on_though_none_preempts() -> None:
    """A worker that does nothing at all would be of no use."""
    dispatcher = Dispatcher([Band("a", 0), Band("b", 1)], 2, pressure=PressureRule())
    first = ticket("a")
    look(dispatcher, 990)
    dispatcher.offer(first, NOW)
    dispatcher.offer(ticket("b"), NOW)

    assert first is start(dispatcher)
    assert not isinstance(dispatcher.decide(NOW), Start)


def test_all_is_as_before_when_pressure_is_over() -> None:
    """Windows open again, and what comes starts."""
    dispatcher = worker()
    look(dispatcher, 950)
    assert dispatcher.is_pressed
    for number in range(3):
        look(dispatcher, 100, now=NOW + number * REST_S)

    assert not dispatcher.is_pressed
    assert dispatcher.demand("optional")[0] > 0
    coming = ticket("optional")
    dispatcher.offer(coming, NOW + 60)
    assert coming is start(dispatcher, NOW + 60)


def test_who_takes_the_memory_leaves() -> None:
    """And nobody whom that makes unnecessary."""
    dispatcher = worker()
    small, large, other = leaver("optional"), leaver("optional"), leaver("optional")
    run(dispatcher, small, large, other)
    look(dispatcher, 950, {small: 50, large: 600, other: 60}, NOW + 1)

    assert [Evict(large)] == run(dispatcher, now=NOW + 1)
    look(dispatcher, 940, {small: 50, large: 600, other: 60}, NOW + 1.5)
    assert [] == run(dispatcher, now=NOW + 1.5)


def test_one_after_the_other_leaves_where_nobody_knows_what_they_take() -> None:
    """The next only when the one before has left."""
    dispatcher = worker()
    first, second = leaver("optional", Method.CHECKPOINT), leaver("optional", Method.CHECKPOINT)
    run(dispatcher, first)
    run(dispatcher, second, now=NOW + 1)
    look(dispatcher, 950, now=NOW + 2)

    (asked,) = run(dispatcher, now=NOW + 2)
    assert isinstance(asked, Yield)
    look(dispatcher, 950, now=NOW + 2.5)
    assert [] == run(dispatcher, now=NOW + 2.5)
    dispatcher.ended(asked.ticket, NOW + 3, has_left=True)
    look(dispatcher, 950, now=NOW + 4)
    (next_,) = run(dispatcher, now=NOW + 4)
    assert isinstance(next_, Yield)
    assert {first, second} == {asked.ticket, next_.ticket}


def test_who_leaves_for_memory_is_not_excused() -> None:
    """That nobody waits for its slot is no reason to stay."""
    dispatcher = worker()
    leaving = leaver("optional", Method.CHECKPOINT)
    run(dispatcher, leaving)
    look(dispatcher, 950, {leaving: 500}, NOW + 1)

    decisions = [*run(dispatcher, now=NOW + 1), *run(dispatcher, now=NOW + 1.1)]
    assert [Yield(leaving)] == [each for each in decisions if isinstance(each, Yield | Stay)]


def test_who_may_only_be_frozen_or_stopped_at_a_checkpoint_is_not_evicted() -> None:
    """Whichever of its ways comes first: it would lose what it did, and never agreed to that."""
    dispatcher = worker()
    running = leaver("optional", Method.FREEZE, Method.CHECKPOINT)
    run(dispatcher, running)
    look(dispatcher, 950, {running: 800}, NOW + 1)

    assert [Yield(running)] == run(dispatcher, now=NOW + 1)


def test_nobody_leaves_where_the_policy_says_so() -> None:
    """`evict = false`."""
    dispatcher = worker(evict=False)
    running = leaver("optional")
    run(dispatcher, running)
    look(dispatcher, 950, {running: 800}, NOW + 1)

    assert [] == run(dispatcher, now=NOW + 1)
    assert dispatcher.is_pressed


def test_stalls_make_nobody_leave() -> None:
    """Nobody knows whose they are."""
    dispatcher = worker()
    running = leaver("optional")
    run(dispatcher, running)
    look(dispatcher, 100, {running: 90}, NOW + 1, stall=0.9)

    assert [] == run(dispatcher, now=NOW + 1)
    assert dispatcher.is_pressed


def test_what_does_not_fit_waits_aside_and_others_go_on() -> None:
    """Until there is enough."""
    dispatcher = worker()
    large, small = leaver("optional", memory=500), ticket("optional")
    look(dispatcher, 600)
    dispatcher.offer(large, NOW)
    dispatcher.offer(small, NOW)

    assert small is start(dispatcher)
    assert dispatcher.decide(NOW) is None
    assert Wait(Reason.MEMORY, inf, 0) == dispatcher.explain(large.id, NOW)
    assert 1 == dispatcher.held("optional")
    look(dispatcher, 300, now=NOW + 1)
    assert large is start(dispatcher, NOW + 1)


def test_what_waits_aside_for_long_goes_back_to_the_broker() -> None:
    """Another node may have room for it; this one can have it again."""
    dispatcher = worker()
    large = leaver("optional", memory=500)
    look(dispatcher, 600)
    run(dispatcher, large)
    look(dispatcher, 600, now=NOW + ASIDE_S / 2)
    assert [] == run(dispatcher, now=NOW + ASIDE_S / 2)
    look(dispatcher, 600, now=NOW + ASIDE_S)

    assert [Return(large, Reason.MEMORY)] == run(dispatcher, now=NOW + ASIDE_S)
    assert 0 == dispatcher.held_total
    look(dispatcher, 0, now=NOW + 5)
    dispatcher.offer(large, NOW + 5)
    assert large is start(dispatcher, NOW + 5)


@pytest.mark.parametrize("how", ["withdraw", "move", "drain", "expire"])
def test_what_waits_aside_is_found_like_anything_that_is_held(how: str) -> None:
    """By whoever cancels or moves it, when it expires and when the worker ends."""
    dispatcher = worker()
    large = ticket("optional", expires=NOW + 1)
    large.cost = (("memory", 500 * MIB),)
    look(dispatcher, 600)
    run(dispatcher, large)
    if how == "withdraw":
        assert [large] == dispatcher.withdraw(large.id)
    elif how == "move":
        assert 1 == dispatcher.move(large.id, "important", NOW)
        assert dispatcher.decide(NOW) is None
        assert (0, 1) == (dispatcher.held("optional"), dispatcher.held("important"))
        return
    elif how == "drain":
        look(dispatcher, 600, now=NOW + ASIDE_S)
        assert [large] == dispatcher.drain()
    else:
        (expired,) = run(dispatcher, now=NOW + 2)
        assert expired.ticket is large
    look(dispatcher, 600, now=NOW + 2 * ASIDE_S)
    assert [] == run(dispatcher, now=NOW + 2 * ASIDE_S)
    assert 0 == dispatcher.held_total == dispatcher.held("optional")


def test_an_urgent_task_that_does_not_fit_gets_memory_of_lesser_ones() -> None:
    """As much as it lacks; it starts when that is free."""
    dispatcher = worker()
    small, large = leaver("optional"), leaver("important")
    run(dispatcher, small, large)
    using = {small: 100, large: 500}
    look(dispatcher, 700, using, NOW + 1)
    urgent = ticket("critical")
    urgent.cost = (("memory", 500 * MIB),)

    assert [Evict(large)] == run(dispatcher, urgent, now=NOW + 1)
    look(dispatcher, 700, using, NOW + 1.5)
    assert [] == run(dispatcher, now=NOW + 1.5)
    dispatcher.ended(large, NOW + 2, has_left=True)
    look(dispatcher, 200, {small: 100}, NOW + 3)
    assert urgent is start(dispatcher, NOW + 3)


def test_lesser_bands_are_throttled_before_the_limit() -> None:
    """In proportion, without any latency target; and get all again afterwards."""
    dispatcher = worker()
    for number in range(10):
        look(dispatcher, 880, now=NOW + number)
        run(dispatcher, now=NOW + number)
    assert dispatcher.throttled_to("important") < 0.5
    assert 1.0 == dispatcher.throttled_to("critical")
    assert not dispatcher.is_pressed
    for number in range(10, 30):
        look(dispatcher, 100, now=NOW + number)
        run(dispatcher, now=NOW + number)
    assert 1.0 == dispatcher.throttled_to("optional")


def test_a_start_is_a_start_again_after_a_return() -> None:
    """The ticket is nobody's any more, and may be offered again."""
    dispatcher = worker(slots=1)
    busy, back = ticket("critical"), ticket("optional")
    run(dispatcher, busy, back)
    look(dispatcher, 950)
    assert [Return(back, Reason.PRESSURE)] == run(dispatcher)
    for number in range(3):
        look(dispatcher, 100, now=NOW + number * REST_S)
    dispatcher.ended(busy, NOW + 20)
    (decision,) = run(dispatcher, back, now=NOW + 20)

    assert isinstance(decision, Start)


def test_who_was_asked_to_leave_is_told_though_another_look_comes_first() -> None:
    """It is noted as asked, and nobody would ask it again."""
    dispatcher = worker()
    large = leaver("optional")
    run(dispatcher, large)
    look(dispatcher, 950, {large: 600}, NOW + 1)
    look(dispatcher, 950, {large: 600}, NOW + 1.5)

    assert [Evict(large)] == run(dispatcher, now=NOW + 1.5)
