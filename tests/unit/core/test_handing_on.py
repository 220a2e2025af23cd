"""An urgent task is left to a worker that has room, where nothing can give way for it."""

from __future__ import annotations

import pytest

from celery_budget.core.decisions import Reason, Return, Start, Wait
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.guests import HAND_ON_S
from celery_budget.core.ticket import Ticket
from celery_budget.policy.load import load
from celery_budget.policy.model import Band
from celery_budget.policy.preemption import Method
from celery_budget.simulate.world import World
from tests.unit.core.worker import NOW, run, ticket

BANDS = [Band("critical", 0, preempts=True), Band("optional", 1)]


def full(slots: int = 1, **options: object) -> tuple[Dispatcher, Ticket]:
    """Fill the slots of a worker with what cannot give way, and let it hold an urgent ticket."""
    dispatcher = Dispatcher(BANDS, slots, **options)  # type: ignore[arg-type]
    run(dispatcher, *(ticket("optional") for _ in range(slots)))
    urgent = ticket("critical")
    dispatcher.offer(urgent, NOW)
    return dispatcher, urgent


def test_it_is_handed_on_after_a_moment() -> None:
    """A slot may become free before that."""
    dispatcher, urgent = full()
    dispatcher.room_elsewhere = 1

    assert Wait(Reason.NO_SLOT, NOW + HAND_ON_S, 0) == dispatcher.decide(NOW)
    assert Return(urgent, Reason.NO_SLOT) == dispatcher.decide(NOW + HAND_ON_S)
    assert dispatcher.decide(NOW + HAND_ON_S) is None
    assert 0 == dispatcher.held_total


def test_no_more_are_handed_on_than_others_have_room_for() -> None:
    """The rest waits here."""
    dispatcher, _ = full()
    for _ in range(3):
        dispatcher.offer(ticket("critical"), NOW)
    dispatcher.room_elsewhere = 2
    handed = run(dispatcher, now=NOW + 1)

    assert [Return, Return] == [type(decision) for decision in handed]
    assert 2 == dispatcher.held_total


def test_it_stays_where_nobody_has_room_or_something_gives_way() -> None:
    """Or where it is no urgent one."""
    dispatcher, _ = full()
    assert dispatcher.decide(NOW + 1) is None

    freezing = Dispatcher(BANDS, 1, ways=frozenset({Method.FREEZE}), spare=1)
    frozen = ticket("optional")
    frozen.methods = (Method.FREEZE,)
    run(freezing, frozen)
    freezing.room_elsewhere = 1
    assert not any(isinstance(d, Return) for d in run(freezing, ticket("critical"), now=NOW + 1))

    plain = Dispatcher(BANDS, 1)
    run(plain, ticket("optional"), ticket("optional"))
    plain.room_elsewhere = 1
    assert plain.decide(NOW + 1) is None


def test_what_follows_short_tasks_stays() -> None:
    """A look-ahead keeps the pool busy; its window would bring the message here again."""
    dispatcher = Dispatcher(BANDS, 1)
    now = NOW
    for _ in range(20):
        (decision, *_) = run(dispatcher, ticket("optional", published=now), now=now)
        assert isinstance(decision, Start)
        now += 0.001
        dispatcher.ended(decision.ticket, now)
    run(dispatcher, ticket("optional", published=now), now=now)
    dispatcher.offer(ticket("critical", published=now), now)
    dispatcher.room_elsewhere = 1
    assert dispatcher.demand("critical")[1] > 0

    assert dispatcher.decide(now + HAND_ON_S) is None


@pytest.mark.parametrize(
    ("running", "waiting", "room"), [(0, 0, 2), (1, 0, 1), (2, 0, 0), (0, 1, 1), (2, 3, 0)]
)
def test_room_is_what_others_could_still_bring(running: int, waiting: int, room: int) -> None:
    """Free slots, without those that what is held takes."""
    dispatcher = Dispatcher(BANDS, 2)
    run(dispatcher, *(ticket("optional") for _ in range(running)))
    for _ in range(waiting):
        dispatcher.offer(ticket("critical"), NOW)

    assert room == dispatcher.urgent_room()


def test_room_counts_what_can_give_way_and_what_is_reserved() -> None:
    """A worker without urgent bands has none for them."""
    freezing = Dispatcher(BANDS, 2, ways=frozenset({Method.FREEZE}), spare=1)
    for _ in range(2):
        running = ticket("optional")
        running.methods = (Method.FREEZE,)
        run(freezing, running)
    assert 1 == freezing.urgent_room()
    reserved = Dispatcher([Band("critical", 0, preempts=True, reserve=1), BANDS[1]], 2)
    run(reserved, ticket("optional"))
    assert 1 == reserved.urgent_room()
    assert 0 == Dispatcher([Band("a", 0), Band("b", 1)], 2).urgent_room()


@pytest.mark.parametrize("seed", range(20))
def test_in_a_fleet_it_starts_at_the_worker_with_room(seed: int) -> None:
    """Within what a worker needs to tell of its room, and once."""
    policy = {
        "default_band": "optional",
        "bands": {"critical": {"preempts": True}, "optional": {}},
        "tasks": {"pay": {"band": "critical"}},
        # So that workers report.
        "budgets": {"fleet": {"slots": 100}},
    }
    world = World(load(policy), seed=seed)
    stuck, *_ = [world.add_worker(f"w{number}", 2) for number in range(3)]
    world.arrive(world.job("sort", 20.0) for _ in range(4))
    world.clock.run(0.5)
    for _ in range(2 - stuck.dispatcher.running("optional")):
        stuck.hold(world.job("sort", 20.0))
    world.clock.run(1)
    urgent = world.job("pay", 0.01)
    stuck.hold(urgent)
    world.clock.run(2)

    (ran,) = [each for each in world.runs if each.job is urgent]
    assert ran.worker != stuck.name
    assert ran.waited_s <= HAND_ON_S + 1.1
