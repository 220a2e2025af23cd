"""Which tickets keep a node's processors busy, and who stands still for urgent ones."""

from __future__ import annotations

import pytest

from celery_budget.core.decisions import Freeze, Reason, Return, Start, Thaw
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.pressure import Sample
from celery_budget.core.processors import SHORTEST_S, Processors, Use
from celery_budget.core.shelter import ASIDE_S
from celery_budget.core.ticket import Ticket
from celery_budget.policy.model import Band
from celery_budget.policy.preemption import Method, PreemptionRule
from celery_budget.policy.pressure import PressureRule
from tests.unit.core.worker import NOW, run, ticket

BANDS = [
    Band("critical", 0, preempts=True),
    Band("important", 1),
    Band("optional", 2),
]


def node(processors: float, busy: float = 0.0, others: float = 0.0) -> Processors:
    """Make what one worker knows of a node's processors."""
    made = Processors(1.0)
    made.look(Use(processors, busy, others))
    return made


def started(processors: Processors, task: str, *, is_urgent: bool = False) -> Ticket:
    """Let a ticket start."""
    made = ticket("critical" if is_urgent else "optional", task=task)
    processors.started(made, is_urgent=is_urgent)
    return made


# --- what is known ---


def test_an_unknown_urgent_task_may_need_a_processor() -> None:
    """And an unknown lesser one is in nobody's way before it was looked at."""
    one = node(2)

    assert 1.0 == one.of(started(one, "new", is_urgent=True))
    lesser = started(one, "new")
    assert 0.0 == one.of(lesser)
    one.look(Use(2, 0.6, 0.0, {lesser: 0.6}))
    assert 0.6 == one.of(lesser)


def test_what_ended_tells_what_comes_next() -> None:
    """Newer executions count for more, and very short ones for nothing."""
    one = node(2)
    one.ended(started(one, "a"), 500_000, 1.0)
    assert 0.5 == one.of(started(one, "a"))
    one.ended(started(one, "a"), 1_000_000, 1.0)
    assert pytest.approx(0.65) == one.expected("a")
    one.ended(started(one, "a"), 100_000, SHORTEST_S / 2)
    one.ended(started(one, "a"), None, 1.0)
    assert pytest.approx(0.65) == one.expected("a")


def test_where_all_are_in_use_a_part_of_one_counts_as_one() -> None:
    """Four tasks have half a processor each, and each would use a whole one; not the fifth."""
    one = node(2)
    tasks = [started(one, "spin") for _ in range(4)]
    waits = started(one, "wait")
    one.look(Use(2, 2.0, 0.0, {**dict.fromkeys(tasks, 0.5), waits: 0.02}))

    assert [1.0] * 4 + [0.02] == [one.of(each) for each in [*tasks, waits]]
    one.look(Use(2, 1.2, 0.0, {tasks[0]: 0.5, tasks[1]: 2.5}))
    assert [0.5, 2.5] == [one.of(each) for each in tasks[:2]]
    tasks += [started(one, "spin") for _ in range(15)]
    one.look(Use(2, 2.0, 0.0, {**dict.fromkeys(tasks, 0.1), waits: 0.02}))
    assert [1.0] * 19 + [0.02] == [one.of(each) for each in [*tasks, waits]]


def test_a_look_tells_nothing_of_what_stood_still_meanwhile() -> None:
    """It would have used its processor."""
    one = node(2)
    frozen = started(one, "spin")
    one.look(Use(2, 1.0, 0.0, {frozen: 1.0}))
    one.stopped(frozen)
    one.look(Use(2, 0.0, 0.0, {frozen: 0.1}))

    assert 1.0 == one.of(frozen)
    one.look(Use(2, 0.3, 0.0, {frozen: 0.3}))
    assert 0.3 == one.of(frozen)


def test_what_others_use_is_not_there() -> None:
    """Of the declared part; never less than nothing."""
    one = Processors(0.5)
    one.look(Use(8, 3.0, 1.0))
    assert 3.0 == one.room
    one.look(Use(8, 8.0, 7.0))
    assert 0.0 == one.room


# --- who stands still ---


def worker(processors: float = 2, bands: list[Band] = BANDS) -> Dispatcher:
    """Make a worker with six slots, that knows of tasks that compute (spin) and that wait."""
    made = Dispatcher(
        bands,
        6,
        preemption=PreemptionRule(max_freeze_s=30.0),
        ways=frozenset({Method.FREEZE}),
        spare=1,
        pressure=PressureRule(cpu=1.0),
    )
    look(made, processors)
    for task, cpu_us in (("spin", 1_000_000), ("wait", 10_000)):
        known = ticket("important", task=task)
        run(made, known, now=NOW - 10)
        made.ended(known, NOW - 9, usage={"cpu": cpu_us})
    return made


def look(dispatcher: Dispatcher, processors: float = 2, now: float = NOW) -> None:
    """Look at the node, of which nobody else uses anything."""
    dispatcher.look(Sample(0, 1), {}, now, Use(processors))


def stopping(band: str, task: str = "spin") -> Ticket:
    """Make a ticket that can be frozen."""
    made = ticket(band, task=task)
    made.methods = (Method.FREEZE,)
    return made


def test_as_many_stand_still_as_it_takes() -> None:
    """The least urgent first, and what does not compute goes on."""
    dispatcher = worker()
    important, optional, waits = stopping("important"), stopping("optional"), stopping("optional")
    waits.task = "wait"
    run(dispatcher, important, optional, waits)
    urgent = ticket("critical", task="spin")

    assert [Start(urgent, Reason.RANK), Freeze(optional)] == run(dispatcher, urgent, now=NOW + 1)
    second = ticket("critical", task="spin")
    assert [Start(second, Reason.RANK), Freeze(important)] == run(dispatcher, second, now=NOW + 2)
    dispatcher.ended(urgent, NOW + 3, usage={"cpu": 2_000_000})
    assert [Thaw(optional)] == run(dispatcher, now=NOW + 3)
    dispatcher.ended(second, NOW + 3, usage={"cpu": 1_000_000})
    assert [Thaw(important)] == run(dispatcher, now=NOW + 3)


def test_nobody_stands_still_where_processors_are_left() -> None:
    """Nor for an urgent task that only waits."""
    dispatcher = worker(processors=3)
    run(dispatcher, stopping("optional"), stopping("optional"))

    assert 1 == len(run(dispatcher, ticket("critical", task="spin"), now=NOW + 1))
    assert 1 == len(run(dispatcher, ticket("critical", task="wait"), now=NOW + 1))


def test_what_cannot_stand_still_goes_on() -> None:
    """It was not said that it can."""
    dispatcher = worker(processors=1)
    run(dispatcher, ticket("optional", task="spin"))

    assert 1 == len(run(dispatcher, ticket("critical", task="spin"), now=NOW + 1))


def test_who_could_not_be_stopped_is_left_alone_and_another_stands_still() -> None:
    """One of them is enough."""
    dispatcher = worker()
    first, second = stopping("optional"), stopping("optional")
    run(dispatcher, first)
    run(dispatcher, second, now=NOW + 1)
    dispatcher.offer(ticket("critical", task="spin"), NOW + 2)
    assert isinstance(dispatcher.decide(NOW + 2), Start)
    assert Freeze(second) == dispatcher.decide(NOW + 2)
    dispatcher.failed(second, NOW + 2)

    assert [Freeze(first)] == run(dispatcher, now=NOW + 2)
    assert 3 == dispatcher.free
    dispatcher.ended(first, NOW + 3)
    dispatcher.ended(second, NOW + 3)
    # Nothing is left that could give way: urgent work gets what is free.
    assert (
        5 == dispatcher.free == dispatcher.demand("critical")[0] - dispatcher.demand("critical")[1]
    )


def test_lesser_work_that_computes_does_not_start_and_goes_back() -> None:
    """Other work starts; its own is with the broker two seconds later."""
    dispatcher = worker(processors=1)
    urgent = ticket("critical", task="spin")
    run(dispatcher, urgent)
    computes, waits = stopping("important"), stopping("optional", "wait")

    assert [] == run(dispatcher, computes, now=NOW + 1)
    assert [Start(waits, Reason.SHARE)] == run(dispatcher, waits, now=NOW + 1)
    why = dispatcher.explain(computes.id, NOW + 1)
    assert why is not None
    assert Reason.CPU is why.reason
    assert (0, 0, 1) == dispatcher.demand("important")
    look(dispatcher, 1, now=NOW + 2)
    assert [] == run(dispatcher, now=NOW + 2)
    look(dispatcher, 1, now=NOW + 1 + ASIDE_S)
    assert [Return(computes, Reason.CPU)] == run(dispatcher, now=NOW + 1 + ASIDE_S)


def test_a_band_that_is_owed_its_share_goes_on() -> None:
    """Though urgent work never ends."""
    dispatcher = worker(1, [*BANDS[:2], Band("optional", 2, min_share=0.05)])
    run(dispatcher, stopping("optional"))
    run(dispatcher, ticket("critical", task="spin"), now=NOW + 1)
    coming = stopping("optional")
    run(dispatcher, coming, now=NOW + 2)
    began = {
        each.ticket
        for second in range(3, 120)
        for each in run(dispatcher, now=NOW + second)
        if isinstance(each, Start | Thaw)
    }

    assert coming in began


def test_one_that_stands_still_goes_on_when_its_band_is_owed_its_share() -> None:
    """Nothing else of the band has to wait for that."""
    dispatcher = worker(1, [*BANDS[:2], Band("optional", 2, min_share=0.05)])
    frozen = stopping("optional")
    run(dispatcher, frozen)
    assert Freeze(frozen) in run(dispatcher, ticket("critical", task="spin"), now=NOW)
    for second in range(1, 120):
        look(dispatcher, 1, now=NOW + second)
        if Thaw(frozen) in run(dispatcher, now=NOW + second):
            break

    assert 1 < second < 30


def test_who_gets_its_slot_again_stands_still_there() -> None:
    """The urgent one that needed the slot has ended, and another one still computes."""
    dispatcher = worker(processors=1)
    dispatcher.resize(3)
    frozen, waits = stopping("important"), ticket("optional", task="wait")
    run(dispatcher, frozen, waits)
    computes, short = ticket("critical", task="spin"), ticket("critical", task="wait")
    assert Freeze(frozen) in run(dispatcher, computes, now=NOW + 100)
    assert [Start(short, Reason.RANK)] == run(dispatcher, short, now=NOW + 101)
    dispatcher.ended(short, NOW + 102, usage={"cpu": 10_000})

    assert [Thaw(frozen), Freeze(frozen)] == run(dispatcher, now=NOW + 102)
    dispatcher.ended(computes, NOW + 103, usage={"cpu": 3_000_000})
    assert [Thaw(frozen)] == run(dispatcher, now=NOW + 103)


def test_nothing_stands_still_for_longer_than_the_policy_says() -> None:
    """Then it is left alone for as long."""
    dispatcher = worker(processors=1)
    frozen = stopping("important")
    run(dispatcher, frozen)
    run(dispatcher, ticket("critical", task="spin"), now=NOW + 100)

    assert [] == run(dispatcher, now=NOW + 129)
    assert [Thaw(frozen)] == run(dispatcher, now=NOW + 130)
    look(dispatcher, 1, now=NOW + 150)
    assert [] == run(dispatcher, now=NOW + 150)
    look(dispatcher, 1, now=NOW + 161)
    assert [Freeze(frozen)] == run(dispatcher, now=NOW + 161)
