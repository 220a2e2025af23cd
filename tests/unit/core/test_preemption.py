"""Who gives way and who goes on, one call at a time; tests/properties has all of it at random."""

from __future__ import annotations

import pytest

from celery_budget.core.decisions import Freeze, Start, Thaw, Wait
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.ticket import Ticket
from celery_budget.policy.model import Band
from celery_budget.policy.preemption import Method, PreemptionRule
from tests.unit.core.worker import NOW, run, ticket

WAYS = frozenset(Method)
BANDS = [
    Band("critical", 0, preempts=True),
    Band("important", 1, weight=4.0),
    Band("optional", 2),
]


def worker(slots: int = 2, spare: int = 1, max_freeze_s: float = 30.0) -> Dispatcher:
    """Make a worker that may freeze."""
    return Dispatcher(
        BANDS, slots, preemption=PreemptionRule(max_freeze_s=max_freeze_s), ways=WAYS, spare=spare
    )


def freezable(band: str) -> Ticket:
    """Make a ticket that may give way."""
    made = ticket(band)
    made.methods = (Method.FREEZE,)
    return made


def victim(dispatcher: Dispatcher, now: float) -> Ticket:
    """Let a critical ticket come, and tell what gives way."""
    urgent = ticket("critical")
    freeze, start = run(dispatcher, urgent, now=now)
    assert isinstance(freeze, Freeze)
    assert isinstance(start, Start)
    assert urgent is start.ticket is freeze.cause
    return freeze.ticket


def test_the_least_urgent_band_gives_way() -> None:
    """Where none has more than its share."""
    dispatcher = worker(slots=5)
    important = [freezable("important") for _ in range(4)]
    optional = freezable("optional")
    run(dispatcher, *important, optional)

    assert optional is victim(dispatcher, NOW + 1)


def test_a_band_with_more_than_its_share_gives_way_first() -> None:
    """The optional band has its fifth and the important one more than four."""
    bands = [BANDS[0], Band("important", 1), Band("optional", 2, weight=4.0)]
    dispatcher = Dispatcher(bands, 5, ways=WAYS, spare=1)
    important = [freezable("important") for _ in range(4)]
    run(dispatcher, *important, freezable("optional"))

    assert victim(dispatcher, NOW + 1) in important


def test_the_youngest_gives_way() -> None:
    """The other one is nearer to its end, as far as anybody knows."""
    dispatcher = worker()
    old, young = freezable("optional"), freezable("optional")
    run(dispatcher, old)
    run(dispatcher, young, now=NOW + 1)

    assert young is victim(dispatcher, NOW + 2)


def test_the_one_that_was_frozen_less_gives_way() -> None:
    """Two tasks share what urgent ones cost."""
    dispatcher = worker()
    run(dispatcher, freezable("optional"), freezable("optional"))
    urgent = ticket("critical")
    freeze, _start = run(dispatcher, urgent, now=NOW + 10)
    dispatcher.ended(urgent, NOW + 11)
    run(dispatcher, now=NOW + 12)

    assert victim(dispatcher, NOW + 20) is not freeze.ticket  # type: ignore[union-attr]


def test_what_was_frozen_for_as_long_as_it_ran_goes_on_beside_the_slots() -> None:
    """The urgent one starts all the same."""
    dispatcher = worker(slots=1)
    optional = freezable("optional")
    run(dispatcher, optional)
    first = ticket("critical")
    run(dispatcher, first, now=NOW + 1)
    dispatcher.ended(first, NOW + 3)
    run(dispatcher, now=NOW + 4)
    second = ticket("critical")
    decisions = run(dispatcher, second, now=NOW + 4.5)

    assert [second] == [decision.ticket for decision in decisions if isinstance(decision, Start)]
    assert not any(isinstance(decision, Freeze) for decision in decisions)
    assert 0 == dispatcher.frozen("optional")


def test_it_goes_on_at_last_whatever_waits() -> None:
    """After max_freeze, beside the urgent one that still runs."""
    dispatcher = worker(slots=1, max_freeze_s=5.0)
    optional = freezable("optional")
    run(dispatcher, optional)
    victim(dispatcher, NOW + 100)

    assert [] == run(dispatcher, now=NOW + 104.9)
    assert [Thaw(optional)] == run(dispatcher, now=NOW + 105)
    assert 0 == dispatcher.free


def test_it_goes_on_before_others_of_its_band_start() -> None:
    """Else a long queue would keep it frozen."""
    dispatcher = worker(slots=1)
    optional, later = freezable("optional"), freezable("optional")
    run(dispatcher, optional)
    urgent = ticket("critical")
    run(dispatcher, later, urgent, now=NOW + 1)
    dispatcher.ended(urgent, NOW + 2)

    assert [Thaw(optional)] == run(dispatcher, now=NOW + 3)


def test_what_cannot_be_frozen_is_tried_again() -> None:
    """It has not begun in its child yet; nothing else could give way."""
    dispatcher = worker(slots=1)
    optional = freezable("optional")
    run(dispatcher, optional)
    urgent = ticket("critical")
    dispatcher.offer(urgent, NOW)
    freeze = dispatcher.decide(NOW)
    dispatcher.failed(optional, NOW)
    (wait,) = run(dispatcher)

    assert Freeze(optional, urgent) == freeze
    assert isinstance(wait, Wait)
    assert [optional, urgent] == [
        decision.ticket  # type: ignore[union-attr]
        for decision in run(dispatcher, now=wait.until)
    ]


def test_what_can_never_be_frozen_is_tried_ever_more_seldom() -> None:
    """Each try stops it for a moment."""
    dispatcher = worker(slots=1)
    optional = freezable("optional")
    run(dispatcher, optional)
    dispatcher.offer(ticket("critical"), NOW)
    now, pauses = NOW, []
    for _ in range(11):
        assert isinstance(dispatcher.decide(now), Freeze)
        dispatcher.failed(optional, now)
        wait = dispatcher.decide(now)
        assert isinstance(wait, Wait)
        pauses.append(wait.until - now)
        now = wait.until

    assert pauses == pytest.approx([*(0.002 * 2**n for n in range(9)), 1.0, 1.0], abs=1e-6)


@pytest.mark.parametrize(("slots", "spare", "asked"), [(4, 1, 1), (4, 2, 2), (2, 3, 2)])
def test_messages_are_asked_for_as_many_as_could_start(slots: int, spare: int, asked: int) -> None:
    """A message that waits in the broker cannot make anything give way."""
    dispatcher = worker(slots, spare)
    run(dispatcher, *(freezable("optional") for _ in range(slots)))

    assert asked == dispatcher.window("critical")
    assert dispatcher.has_room("critical")
    assert not dispatcher.has_room("important")


def test_nothing_is_asked_for_where_nothing_can_give_way() -> None:
    """Then another worker should have it."""
    dispatcher = worker()
    run(dispatcher, ticket("optional"), ticket("important"))

    assert 0 == dispatcher.window("critical")
    assert not dispatcher.has_room("critical")


def test_time_in_which_it_was_frozen_is_not_learned() -> None:
    """The estimate of a task type is of its own work."""
    dispatcher = worker(slots=1)
    optional = freezable("optional")
    run(dispatcher, optional)
    urgent = ticket("critical")
    run(dispatcher, urgent, now=NOW + 1)
    dispatcher.ended(urgent, NOW + 21)
    run(dispatcher, now=NOW + 22)
    dispatcher.ended(optional, NOW + 23)

    assert 2.0 == pytest.approx(dispatcher._by_name["optional"].expected)
    assert 1 == dispatcher.free


def test_something_else_may_let_it_go_on() -> None:
    """A signal that a frozen process could not take: it uses no slot for it."""
    dispatcher = worker(slots=1)
    optional = freezable("optional")
    run(dispatcher, optional)
    urgent = ticket("critical")
    run(dispatcher, urgent, now=NOW + 1)
    dispatcher.thawed(optional, NOW + 2)
    dispatcher.ended(urgent, NOW + 3)

    assert [] == run(dispatcher, now=NOW + 4)
    assert 0 == dispatcher.free
    dispatcher.ended(optional, NOW + 5)
    assert 1 == dispatcher.free
