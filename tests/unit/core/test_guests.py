"""Room for urgent tickets that wait on other workers, before they come."""

from __future__ import annotations

from math import inf

import pytest

from celery_budget.core.decisions import (
    Decision,
    Evict,
    Reason,
    Return,
    Start,
    Stay,
    Thaw,
    Wait,
    Yield,
)
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.guests import GUEST_S, HAND_ON_S, MOST_VAIN_S, VAIN_S, Guests, part
from celery_budget.core.ticket import Ticket
from celery_budget.policy.model import Band
from celery_budget.policy.preemption import Method
from tests.unit.core.worker import NOW, run, ticket

BANDS = [Band("critical", 0, preempts=True), Band("important", 1), Band("optional", 2)]


def giving(*methods: Method, band: str = "optional") -> Ticket:
    """Make a ticket that gives way in these ways, or by leaving at a checkpoint."""
    made = ticket(band)
    made.methods = methods or (Method.CHECKPOINT,)
    return made


def worker(*running: Ticket, bands: list[Band] | None = None, spare: int = 0) -> Dispatcher:
    """Make a worker of a fleet of three whose slots are full of these."""
    dispatcher = Dispatcher(
        BANDS if bands is None else bands, len(running), ways=frozenset(Method), spare=spare
    )
    run(dispatcher, *running, now=NOW - 10)
    dispatcher.expect(0, 3, NOW)
    return dispatcher


def expect(dispatcher: Dispatcher, count: int, now: float = NOW) -> list[Decision]:
    """Let the worker hear that so many wait elsewhere."""
    dispatcher.expect(count, 3, now)
    return run(dispatcher, now=now)


@pytest.mark.parametrize(
    ("left", "waiting", "places", "workers", "told"),
    [
        (4, 0, 9, 4, 2),
        (1, 0, 9, 9, 1),
        (9, 0, 2, 4, 2),
        (3, 0, 9, 1, 3),
        (0, 0, 9, 4, 0),
        (-3, 0, 9, 4, 0),
        (3, 0, 0, 4, 0),
        (3, 3, 0, 4, 0),
        (1, 3, 0, 4, -2),
        (-5, 3, 0, 4, -3),
        (-5, -5, 0, 4, 0),
    ],
)
def test_each_gets_an_even_part(
    left: int, waiting: int, places: int, workers: int, told: int
) -> None:
    """Below zero: of its own, so many have a slot elsewhere."""
    assert told == part(left, waiting, places, workers)


@pytest.mark.parametrize(("method", "kind"), [(Method.CHECKPOINT, Yield), (Method.EVICT, Evict)])
def test_as_many_leave_as_are_expected(method: Method, kind: type[Yield | Evict]) -> None:
    """And no more at the next look, though their slots are not free yet."""
    dispatcher = worker(*(giving(method) for _ in range(3)))

    *asked, wait = expect(dispatcher, 2)
    assert [kind, kind] == [type(each) for each in asked]
    assert all(isinstance(each, Yield | Evict) and each.is_for_guest for each in asked)
    assert Wait(Reason.RESERVE_KEPT, NOW + GUEST_S, 0) == wait
    assert [wait] == expect(dispatcher, 2, NOW + 0.05)
    assert (0, 0) == (dispatcher.urgency(NOW + 0.05)[2], dispatcher.held_total)


@pytest.mark.parametrize(
    "methods",
    [(), (Method.FREEZE,), (Method.FREEZE, Method.CHECKPOINT)],
    ids=["stubborn", "freezes", "freezes first"],
)
def test_nothing_is_done_that_can_be_done_later(methods: tuple[Method, ...]) -> None:
    """Freezing takes no time when the message is here."""
    running = ticket("optional")
    running.methods = methods
    dispatcher = worker(running, spare=1)

    assert not any(isinstance(each, Yield | Evict) for each in expect(dispatcher, 1))


def test_nobody_leaves_where_a_slot_is_free() -> None:
    """What is there need not be made."""
    ended = ticket("important")
    dispatcher = worker(giving(), ended)
    dispatcher.ended(ended, NOW)

    assert [Wait(Reason.RESERVE_KEPT, NOW + GUEST_S, 0)] == expect(dispatcher, 1)


def test_only_the_least_urgent_leave() -> None:
    """Nobody said how urgent the one is that waits."""
    bands = [
        Band("critical", 0, preempts=True),
        Band("urgent", 1, preempts=True),
        Band("optional", 2),
    ]
    dispatcher = worker(giving(band="urgent"), bands=bands)

    assert (0, 0, 0) != dispatcher.urgency(NOW)
    assert 0 == dispatcher.urgency(NOW)[2]
    assert [] == expect(dispatcher, 1)


def test_the_slot_is_kept_for_the_guest() -> None:
    """Nothing else starts there, and nothing else is fetched for it."""
    leaving = giving()
    dispatcher = worker(leaving)
    lesser = ticket("important")
    dispatcher.offer(lesser, NOW)
    expect(dispatcher, 1)
    dispatcher.ended(leaving, NOW + 0.01, has_left=True)

    assert [Wait(Reason.RESERVE_KEPT, NOW + GUEST_S, 0)] == run(dispatcher, now=NOW + 0.01)
    assert 0 == dispatcher.window("optional")
    assert 1 == dispatcher.window("critical")
    assert Wait(Reason.RESERVE_KEPT, inf, 0) == dispatcher.explain(lesser.id, NOW + 0.01)
    urgent = ticket("critical")
    (start,) = run(dispatcher, urgent, now=NOW + 0.1)[:1]
    assert isinstance(start, Start)
    assert urgent is start.ticket


def test_it_is_kept_for_a_short_time_only() -> None:
    """Then lesser work goes on, also that which was frozen."""
    leaving, frozen = giving(band="important"), giving(Method.FREEZE)
    dispatcher = worker(leaving, frozen, spare=1)
    urgent, lesser = ticket("critical"), ticket("important")
    run(dispatcher, urgent, lesser)
    dispatcher.expect(2, 3, NOW)
    dispatcher.decide(NOW)
    dispatcher.ended(leaving, NOW + 0.01, has_left=True)
    dispatcher.ended(urgent, NOW + 0.01)
    assert [Wait(Reason.RESERVE_KEPT, NOW + GUEST_S, 0)] == run(dispatcher, now=NOW + 0.01)

    thaw, start = run(dispatcher, now=NOW + GUEST_S)
    assert Thaw(frozen) == thaw
    assert isinstance(start, Start)
    assert lesser is start.ticket


def test_whoever_has_not_left_by_then_stays() -> None:
    """Its next step may be long."""
    leaving = giving()
    dispatcher = worker(leaving)
    expect(dispatcher, 1)

    assert [Stay(leaving)] == run(dispatcher, now=NOW + GUEST_S)


def test_for_a_guest_who_has_come_nobody_leaves_again() -> None:
    """The slot that is on its way is the guest's, and it is not told to stay."""
    leaving, other = giving(), giving()
    dispatcher = worker(leaving, other)
    (asked, _) = expect(dispatcher, 1)
    assert isinstance(asked, Yield)
    urgent = ticket("critical")
    assert not [each for each in run(dispatcher, urgent, now=NOW + 0.1) if type(each) is not Wait]
    assert not [each for each in run(dispatcher, now=NOW + GUEST_S) if type(each) is not Wait]
    dispatcher.ended(asked.ticket, NOW + 0.22, has_left=True)
    (start,) = run(dispatcher, now=NOW + 0.22)

    assert isinstance(start, Start)
    assert urgent is start.ticket


def test_others_hear_what_is_promised() -> None:
    """Until it is over, whether the guest has come or not: nobody else makes room for it."""
    dispatcher = worker(giving(), giving())
    assert (2, 0, 2) == dispatcher.urgency(NOW)
    expect(dispatcher, 1)
    assert (2, -1, 0) == dispatcher.urgency(NOW + 0.01)
    run(dispatcher, ticket("critical"), now=NOW + 0.1)
    assert (1, -1, 0) == dispatcher.urgency(NOW + 0.1)
    assert not dispatcher.has_news
    run(dispatcher, now=NOW + GUEST_S)
    assert dispatcher.has_news
    assert 0 == dispatcher.urgency(NOW + GUEST_S)[1]


def test_where_nobody_came_room_is_made_ever_more_seldom() -> None:
    """The message went elsewhere."""
    dispatcher = worker(giving())
    now, pause_s = NOW, VAIN_S
    for _ in range(8):
        assert isinstance(expect(dispatcher, 1, now)[0], Yield)
        now += GUEST_S
        assert isinstance(run(dispatcher, now=now)[0], Stay)
        assert [] == expect(dispatcher, 1, now + pause_s - 0.001)
        assert 0 == dispatcher.urgency(now + pause_s - 0.001)[2]
        assert 1 == dispatcher.urgency(now + pause_s)[2]
        now += pause_s
        pause_s = min(2 * pause_s, MOST_VAIN_S)


@pytest.mark.parametrize("after_s", [0.0, MOST_VAIN_S])
def test_the_pause_is_short_again_after_a_guest_or_a_long_time(after_s: float) -> None:
    """What was in vain then tells nothing of now."""
    guests = Guests()
    guests.others = 1
    now = NOW
    for _ in range(3):
        guests.begin(1, now)
        guests.asked()
        guests.end(now)
        now = guests._rests_until
    now += after_s
    guests.begin(1, now)
    guests.asked()
    if not after_s:
        guests.came()
    guests.end(now)

    assert guests.may_come(now) == (not after_s)
    assert guests.may_come(now + VAIN_S)


def test_the_clock_may_be_set_back() -> None:
    """Nothing is kept until it has caught up."""
    leaving = giving()
    dispatcher = worker(leaving)
    expect(dispatcher, 1)

    assert [Stay(leaving)] == run(dispatcher, now=NOW - 100.0)
    assert 1 == dispatcher.urgency(NOW - 200.0)[2]


def test_a_worker_alone_has_no_guests() -> None:
    """Nor has one without urgent bands."""
    alone = worker(giving())
    alone.expect(1, 1, NOW)
    assert alone.decide(NOW) is None
    assert 0 == alone.urgency(NOW)[2]
    assert not alone.is_watching(NOW)
    calm = worker(giving(band="b"), bands=[Band("a", 0), Band("b", 1)])
    calm.expect(1, 3, NOW)
    assert calm.decide(NOW) is None
    assert (0, 0, 0) == calm.urgency(NOW)
    assert not calm.is_watching(NOW)


def test_what_would_only_fill_a_reserve_does_not_leave() -> None:
    """The guest could not start in that slot."""
    bands = [BANDS[0], Band("important", 1, reserve=1), BANDS[2]]
    dispatcher = Dispatcher(bands, 3, ways=frozenset(Method))
    run(dispatcher, giving(), giving())
    dispatcher.resize(2)
    dispatcher.expect(0, 3, NOW)

    assert [] == expect(dispatcher, 1)


def test_it_leaves_though_a_reserved_slot_is_free() -> None:
    """That one is not for the guest."""
    bands = [BANDS[0], Band("important", 1, reserve=1), BANDS[2]]
    dispatcher = Dispatcher(bands, 2, ways=frozenset(Method))
    run(dispatcher, giving())
    dispatcher.expect(0, 3, NOW)

    assert [Yield, Wait] == [type(each) for each in expect(dispatcher, 1)]


def test_a_reserve_goes_before_a_guest() -> None:
    """It is promised; the guest is a guess."""
    bands = [BANDS[0], Band("important", 1, reserve=1), BANDS[2]]
    first = ticket("important")
    dispatcher = worker(first, giving(), bands=bands)
    expect(dispatcher, 1)
    dispatcher.ended(first, NOW + 0.01)
    own = ticket("important")
    (start, *_) = run(dispatcher, own, now=NOW + 0.01)

    assert isinstance(start, Start)
    assert own is start.ticket
    assert 1 == dispatcher._guests.expected


def test_one_that_cannot_be_asked_is_replaced_by_another() -> None:
    """No more leave than are expected."""
    dispatcher = worker(giving(), giving())
    dispatcher.expect(1, 3, NOW)
    first = dispatcher.decide(NOW)
    assert isinstance(first, Yield)
    dispatcher.failed(first.ticket, NOW)
    second = dispatcher.decide(NOW)
    assert isinstance(second, Yield)
    assert first.ticket is not second.ticket
    dispatcher.failed(second.ticket, NOW)

    assert dispatcher.decide(NOW) is None


def stuck(count: int = 1) -> tuple[Dispatcher, list[Ticket]]:
    """Let a worker hold urgent tickets for which nothing gives way."""
    dispatcher = worker(ticket("optional"))
    urgent = [ticket("critical") for _ in range(count)]
    run(dispatcher, *urgent)
    return dispatcher, urgent


def test_others_hear_at_once_of_what_is_stuck() -> None:
    """And soon when it is not stuck any more."""
    dispatcher, urgent = stuck(2)
    assert dispatcher.has_news
    assert (0, 2, 0) == dispatcher.urgency(NOW)
    run(dispatcher, now=NOW + 0.01)
    assert not dispatcher.has_news
    assert dispatcher.is_watching(NOW)
    dispatcher.withdraw(urgent[0].id)
    dispatcher.withdraw(urgent[1].id)
    assert (0, 0, 0) == dispatcher.urgency(NOW)
    assert not dispatcher.is_watching(NOW)


def test_what_has_a_slot_on_its_way_is_not_stuck() -> None:
    """Nor is the rest, which is not handed on meanwhile."""
    dispatcher = worker(giving(), ticket("important"))
    run(dispatcher, ticket("critical"), ticket("critical"), now=NOW)

    assert not dispatcher.has_news
    assert 0 == dispatcher.urgency(NOW)[1]


def test_who_was_asked_already_is_no_place_for_a_guest() -> None:
    """Its slot is for an urgent ticket that is here."""
    dispatcher = worker(giving(), giving())
    run(dispatcher, ticket("critical"))

    assert (1, 0, 1) == dispatcher.urgency(NOW)


def test_who_has_urgent_ones_stuck_has_no_guests() -> None:
    """What could leave is left alone for a moment, as it has just come back."""
    leaving = giving()
    dispatcher = worker(leaving)
    dispatcher.ended(leaving, NOW, has_left=True)
    again = giving()
    again.id = leaving.id
    run(dispatcher, again)
    run(dispatcher, ticket("critical"))

    assert (0, 1, 0) == dispatcher.urgency(NOW)


def test_free_slots_and_what_can_be_frozen_are_told() -> None:
    """Nobody has to leave for what could start there at once."""
    ended = ticket("important")
    dispatcher = worker(ended, giving(Method.FREEZE), giving(Method.FREEZE), spare=1)
    assert (1, -1, 0) == dispatcher.urgency(NOW)
    dispatcher.ended(ended, NOW)

    assert (2, -2, 0) == dispatcher.urgency(NOW)


def test_one_that_has_a_slot_elsewhere_is_handed_on_at_once() -> None:
    """The next one waits, as one here may become free."""
    dispatcher, urgent = stuck(2)
    dispatcher.urgency(NOW)
    dispatcher.room_elsewhere = 2
    dispatcher.expect(-1, 3, NOW)
    decisions = run(dispatcher, now=NOW)

    assert [Return, Wait] == [type(each) for each in decisions]
    assert decisions[0].ticket in urgent  # type: ignore[union-attr]
    assert Wait(Reason.NO_SLOT, NOW + HAND_ON_S, 0) == decisions[1]
