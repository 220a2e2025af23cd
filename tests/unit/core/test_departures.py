"""Who is asked to leave, for how long that counts, and who is kept for it."""

from __future__ import annotations

from celery_budget.core.decisions import Freeze, Start, Stay, Wait, Yield
from celery_budget.core.departures import DEAF_S, MOST_REST_S, PATIENCE_S, REST_S
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.ticket import Ticket
from celery_budget.policy.model import Band
from celery_budget.policy.preemption import Method
from tests.unit.core.worker import NOW, run, ticket

BANDS = [
    Band("critical", 0, preempts=True),
    Band("important", 1, weight=4.0),
    Band("optional", 2),
]


def worker(slots: int = 2, spare: int = 0) -> Dispatcher:
    """Make a worker whose tasks may leave, and be frozen with spare children."""
    return Dispatcher(BANDS, slots, ways=frozenset(Method), spare=spare)


def leaving(band: str = "optional", task: str = "steps", *others: Method) -> Ticket:
    """Make a ticket that may leave."""
    made = ticket(band, task=task)
    made.methods = (Method.CHECKPOINT, *others)
    return made


def asked(dispatcher: Dispatcher, now: float) -> list[Ticket]:
    """Let a critical ticket come, and tell who is asked to leave."""
    decisions = run(dispatcher, ticket("critical"), now=now)
    return [decision.ticket for decision in decisions if isinstance(decision, Yield)]


def test_one_is_asked_for_each_that_waits() -> None:
    """Its slot is on its way until it is there."""
    dispatcher = worker()
    run(dispatcher, leaving(), leaving())

    assert 1 == len(asked(dispatcher, NOW + 1))
    assert [] == asked(dispatcher, NOW + 1 + PATIENCE_S)[1:]
    assert [] == asked(dispatcher, NOW + 1.001 + PATIENCE_S)


def test_the_slot_is_for_the_one_it_was_asked_for() -> None:
    """A minimum share or a reserve does not take it."""
    dispatcher = worker(slots=1)
    first = leaving()
    run(dispatcher, first)
    urgent, lesser = ticket("critical"), ticket("important")
    run(dispatcher, lesser, urgent, now=NOW + 1)
    dispatcher.ended(first, NOW + 1.01, has_left=True)
    (start,) = run(dispatcher, now=NOW + 1.01)

    assert isinstance(start, Start)
    assert urgent is start.ticket


def test_another_is_asked_when_one_takes_too_long() -> None:
    """The first may still come."""
    dispatcher = worker()
    run(dispatcher, leaving(task="one"), leaving(task="two"))
    (first,) = asked(dispatcher, NOW + 1)
    decisions = run(dispatcher, now=NOW + 1 + PATIENCE_S)
    second = [decision.ticket for decision in decisions if isinstance(decision, Yield)]

    assert 1 == len(second)
    assert first is not second[0]


def test_who_is_not_needed_any_more_is_told_to_stay() -> None:
    """Another slot has become free."""
    dispatcher = worker()
    first, other = leaving(), ticket("important")
    run(dispatcher, first, other)
    assert [first] == asked(dispatcher, NOW + 1)
    dispatcher.ended(other, NOW + 1.01)
    start, stay = run(dispatcher, now=NOW + 1.01)

    assert isinstance(start, Start)
    assert isinstance(stay, Stay)
    assert first is stay.ticket


def test_a_task_type_without_checkpoints_is_not_asked_for_ever() -> None:
    """Nor are urgent messages fetched for slots that do not become free."""
    dispatcher = worker(slots=1)
    deaf = leaving(task="deaf")
    run(dispatcher, deaf)
    assert [deaf] == asked(dispatcher, NOW)
    dispatcher.ended(deaf, NOW + 2 * DEAF_S)
    (start,) = run(dispatcher, now=NOW + 2 * DEAF_S)
    dispatcher.ended(start.ticket, NOW + 2 * DEAF_S)  # type: ignore[union-attr]
    run(dispatcher, leaving(task="deaf"), now=NOW + 3 * DEAF_S)

    assert [] == asked(dispatcher, NOW + 3 * DEAF_S + 1)
    assert 0 == dispatcher.window("critical")


def test_urgent_messages_are_fetched_for_slots_that_may_become_free() -> None:
    """They are what makes room for itself."""
    dispatcher = worker()
    run(dispatcher, leaving(), leaving())
    assert 2 == dispatcher.window("critical")
    asked(dispatcher, NOW + 1)

    assert 1 == dispatcher.window("critical")


def test_the_soonest_at_a_checkpoint_is_asked() -> None:
    """As far as that is known."""
    dispatcher = worker(slots=1)
    slow = leaving(task="slow")
    run(dispatcher, slow)
    asked(dispatcher, NOW)
    dispatcher.ended(slow, NOW + 1, has_left=True)
    (start,) = run(dispatcher, now=NOW + 1)
    dispatcher.ended(start.ticket, NOW + 1)  # type: ignore[union-attr]
    dispatcher.resize(2)
    quick = leaving(task="quick")
    run(dispatcher, quick, now=NOW + 2)
    run(dispatcher, leaving(task="slow"), now=NOW + 3)

    assert [quick] == asked(dispatcher, NOW + 4)


def test_who_has_left_often_is_left_alone_for_longer() -> None:
    """And never for longer than so long."""
    dispatcher = worker(slots=1)
    now = NOW
    again = leaving()
    for times in range(20):
        run(dispatcher, again, now=now)
        rest = min(times * REST_S, MOST_REST_S)
        if rest:
            assert [] == asked(dispatcher, now + rest - 0.001)
            (decision,) = run(dispatcher, now=now + rest)[:1]
            assert isinstance(decision, Yield)
        else:
            assert [again] == asked(dispatcher, now + rest)
        now += rest + 0.001
        dispatcher.ended(again, now, has_left=True)
        (start,) = run(dispatcher, now=now)
        dispatcher.ended(start.ticket, now)  # type: ignore[union-attr]
        before, again = again, leaving()
        again.id = before.id


def test_nothing_is_learned_from_a_part() -> None:
    """What a task is expected to take is the whole of it."""
    dispatcher = worker(slots=1)
    whole, part = leaving(), leaving()
    run(dispatcher, whole)
    dispatcher.ended(whole, NOW + 10)
    run(dispatcher, part, now=NOW + 10)
    dispatcher.ended(part, NOW + 10.001, has_left=True)

    assert 10 == dispatcher._service["steps"]


def test_one_that_takes_too_long_may_be_frozen_after_all() -> None:
    """Where it names both ways."""
    dispatcher = worker(slots=1, spare=1)
    both = leaving("optional", "both", Method.FREEZE)
    run(dispatcher, both)
    assert [both] == asked(dispatcher, NOW + 1)
    (decision, *_) = run(dispatcher, now=NOW + 1 + PATIENCE_S)

    assert isinstance(decision, Freeze)
    assert both is decision.ticket


def test_one_that_could_not_be_asked_is_tried_again() -> None:
    """Its process may not have begun it yet."""
    dispatcher = worker(slots=1)
    young = leaving()
    run(dispatcher, young)
    dispatcher.offer(ticket("critical"), NOW)
    assert isinstance(dispatcher.decide(NOW), Yield)
    dispatcher.failed(young, NOW)
    (wait,) = run(dispatcher, now=NOW)
    assert isinstance(wait, Wait)
    (decision, _) = run(dispatcher, now=wait.until)

    assert isinstance(decision, Yield)
