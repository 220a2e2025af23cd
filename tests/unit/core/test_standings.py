"""Units of a capacity that come back from running tickets: for whom, from whom, and to whom."""

from __future__ import annotations

from typing import Any

import pytest

from celery_budget.core.decisions import Decision, Evict, Start, Yield
from celery_budget.core.departures import PATIENCE_S
from celery_budget.core.needs import ONE
from celery_budget.core.ticket import Ticket
from celery_budget.policy.preemption import Method
from tests.unit.core.test_accounts import Books

BANDS: dict[str, Any] = {
    "critical": {"preempts": True},
    "important": {"preempt": ["evict"], "min_share": 0.2},
    "optional": {"preempt": ["checkpoint", "evict"]},
}
FLEET = {"fleet": {"slots": 2}}
BOTH = {"fleet": {"slots": 1}, "tenant:*": {"starts": "1/1h"}}


def books(budgets: dict[str, Any], other: Books | None = None, slots: int = 4) -> Books:
    """Make a worker, alone or beside another one."""
    made = Books(
        budgets,
        None if other is None else other.ledger,
        slots=slots,
        bands=BANDS,
        default_band="optional",
    )
    if other is not None:
        made.now = other.now
    return made


def run(worker: Books, band: str, *methods: Method) -> Ticket:
    """Start a ticket that may leave."""
    started = worker.hold(band)
    started.methods = methods or (Method.EVICT,)
    decision = worker.decide()
    if decision is None:
        worker.exchange()
        decision = worker.decide()
    assert isinstance(decision, Start)
    assert started is decision.ticket
    return started


def decisions(worker: Books) -> list[Decision]:
    """Perform all there is to do now."""
    found = []
    while (decision := worker.decide()) is not None:
        found.append(decision)
        assert len(found) < 20
    return found


def leave(worker: Books, who: Ticket) -> None:
    """Let a ticket leave before it is done."""
    worker.dispatcher.ended(who, worker.now, has_left=True)


def told(*workers: Books) -> None:
    """Let workers report a few times."""
    for _ in range(3):
        for worker in workers:
            worker.exchange()


def test_one_leaves_for_an_urgent_ticket_and_its_unit_is_there_at_once() -> None:
    """Nobody else is asked meanwhile, and nobody else gets it."""
    worker = books(FLEET)
    _, newest = run(worker, "optional"), run(worker, "optional")
    lesser, urgent = worker.hold("optional"), worker.hold("critical")
    assert [] == decisions(worker)
    worker.exchange()
    assert [Evict(newest, account="fleet slots")] == decisions(worker)
    told(worker)
    assert [] == decisions(worker)
    leave(worker, newest)
    again = worker.hold("optional")
    assert [urgent] == [decision.ticket for decision in decisions(worker)]  # type: ignore[union-attr]

    told(worker)
    assert [] == decisions(worker)
    assert {lesser, again} == set(worker.dispatcher.listed(9))


def test_a_worker_gives_back_what_others_need() -> None:
    """And takes none of it, for what left or for what has waited there."""
    holder = books(FLEET)
    first, _ = run(holder, "optional"), run(holder, "optional")
    holder.hold("optional")
    other = books(FLEET, holder)
    urgent = other.hold("critical")
    assert [] == decisions(other)
    other.exchange()
    holder.exchange()
    (asked,) = decisions(holder)
    assert isinstance(asked, Evict)
    told(holder, other)
    assert [] == decisions(holder) + decisions(other)
    leave(holder, asked.ticket)
    holder.hold("optional")
    assert [] == decisions(holder)
    holder.exchange()
    other.exchange()

    assert [] == decisions(holder)
    assert [urgent] == [decision.ticket for decision in decisions(other)]  # type: ignore[union-attr]
    assert asked.ticket is not first


def test_who_was_asked_for_a_slot_meanwhile_gives_its_unit_too() -> None:
    """Between a report and its answer."""
    worker = books({"band:optional": {"slots": 2}, "tenant:*": {"slots": 2}}, slots=2)
    for _ in range(2):
        started = worker.hold("optional", "one")
        started.methods = (Method.CHECKPOINT,)
        decisions(worker)
        worker.exchange()
        assert isinstance(worker.decide(), Start)
    worker.hold("critical", "one")
    decisions(worker)
    lines = worker.lines()
    worker.now += 0.001
    worker.hold("critical")
    (asked,) = [each for each in decisions_until_wait(worker) if isinstance(each, Yield)]
    worker.hear(lines)

    assert [] == decisions_until_wait(worker)
    assert not asked.account


def test_another_is_asked_when_one_takes_too_long() -> None:
    """It may have no checkpoint for hours; where it may be evicted too, that comes first."""
    worker = books(FLEET)
    slow, other = run(worker, "optional"), run(worker, "optional", Method.CHECKPOINT)
    worker.hold("critical")
    decisions(worker)
    worker.exchange()
    assert [Yield(other, account="fleet slots")] == decisions(worker)
    worker.exchange(PATIENCE_S - 0.1)
    assert [] == decisions(worker)
    worker.exchange(0.1)
    worker.exchange()

    assert [Evict(slow, account="fleet slots")] == decisions(worker)


def test_who_takes_too_long_to_its_checkpoint_is_evicted_if_it_may_be() -> None:
    """Its second way."""
    worker = books({"fleet": {"slots": 1}})
    slow = run(worker, "optional", Method.CHECKPOINT, Method.EVICT)
    worker.hold("critical")
    decisions(worker)
    worker.exchange()
    assert [Yield(slow, account="fleet slots")] == decisions(worker)
    worker.exchange(PATIENCE_S)
    worker.exchange()

    assert [Evict(slow, account="fleet slots")] == decisions(worker)


@pytest.mark.parametrize(
    ("band", "methods"),
    [
        ("critical", (Method.EVICT,)),  # nobody leaves for an equal
        ("important", (Method.EVICT,)),  # it is owed its minimum share
        ("optional", (Method.FREEZE,)),  # it would keep what it has
    ],
)
def test_who_is_not_asked(band: str, methods: tuple[Method, ...]) -> None:
    """The urgent ticket waits until one of these ends."""
    worker = books({"fleet": {"slots": 1}})
    holder = run(worker, band, *methods)
    urgent = worker.hold("critical")
    told(worker)
    decisions(worker)
    told(worker)
    assert [] == decisions(worker)
    assert [()] == [each.loose for each in worker.dispatcher.standings(worker.now).values()]
    worker.end(holder)

    assert [urgent] == [decision.ticket for decision in decisions(worker)]  # type: ignore[union-attr]


def test_who_could_not_be_asked_is_not_counted_on() -> None:
    """Others, here or elsewhere, may be; it is tried again soon."""
    worker = books(FLEET)
    other, young = run(worker, "optional"), run(worker, "optional")
    worker.hold("critical")
    decisions(worker)
    worker.exchange()
    assert Evict(young, account="fleet slots") == worker.decide()
    worker.dispatcher.failed(young, worker.now)
    (standing,) = worker.dispatcher.standings(worker.now).values()
    assert ((2, ONE),) == standing.loose
    worker.hear(worker.lines())
    assert [Evict(other, account="fleet slots")] == decisions(worker)
    (standing,) = worker.dispatcher.standings(worker.now + 1.0).values()

    assert ((2, ONE),) == standing.loose


def test_nobody_leaves_for_a_band_that_does_not_preempt() -> None:
    """It waits for its share."""
    worker = books({"fleet": {"slots": 1}})
    run(worker, "optional")
    worker.hold("important")
    decisions(worker)
    told(worker)

    assert [] == decisions(worker)


def test_as_many_leave_as_there_are_slots_for_the_urgent() -> None:
    """The others would leave in vain."""
    holder = books({"fleet": {"slots": 4}})
    for _ in range(4):
        run(holder, "optional")
    other = books({"fleet": {"slots": 4}}, holder, slots=2)
    for _ in range(4):
        other.hold("critical")
    decisions(other)
    other.exchange()
    holder.exchange()

    assert 2 == len(decisions(holder))


def test_nobody_leaves_for_urgent_tickets_without_a_slot() -> None:
    """What is in the slots there does not give way."""
    worker = books({"tenant:*": {"slots": 1}}, slots=2)
    worker.hold("optional", "one")
    decisions(worker)
    worker.exchange()
    assert isinstance(worker.decide(), Start)
    worker.hold("critical", "one")
    decisions(worker)
    busy = run(worker, "critical", Method.CHECKPOINT)
    told(worker)
    assert {} == worker.dispatcher.standings(worker.now)
    worker.end(busy)
    (standing,) = worker.dispatcher.standings(worker.now).values()

    assert ((0, ONE),) == standing.claims


@pytest.mark.parametrize("is_known", [False, True])
def test_nobody_leaves_for_what_lacks_a_window_budget_too(is_known: bool) -> None:
    """It could not start; when there is some of that again, it could."""
    worker = books(BOTH)
    elsewhere = worker if is_known else books(BOTH, worker)
    first = elsewhere.hold("critical", "one")
    decisions(elsewhere)
    elsewhere.exchange()
    assert isinstance(elsewhere.decide(), Start)
    elsewhere.end(first)
    told(elsewhere)
    holder = run(worker, "optional")
    worker.hold("critical", "one")
    decisions(worker)
    told(worker)
    assert [] == decisions(worker)
    worker.exchange(3_600)

    assert [Evict(holder, account="fleet slots")] == decisions(worker)


def test_fewest_leave_for_an_amount() -> None:
    """A large one that has to leave anyway makes small ones unnecessary."""
    worker = books({"fleet": {"memory": 100}})
    sizes = {}
    for size in (10, 70, 20):
        started = worker.hold("optional", memory=size)
        started.methods = (Method.EVICT,)
        assert worker.decide() is None
        worker.exchange()
        assert isinstance(worker.decide(), Start)
        sizes[started] = size
    worker.hold("critical", memory=60)
    decisions(worker)
    worker.exchange()

    assert [70] == [sizes[decision.ticket] for decision in decisions(worker)]  # type: ignore[union-attr]


def decisions_until_wait(worker: Books) -> list[Decision]:
    """Perform what there is to do before a wait."""
    found = []
    while (decision := worker.decide()) is not None and hasattr(decision, "ticket"):
        found.append(decision)
    return found


def test_a_revoked_urgent_ticket_calls_nothing_back() -> None:
    """Its claim ends with it."""
    worker = books(FLEET)
    for _ in range(2):
        run(worker, "optional")
    urgent = worker.hold("critical")
    decisions(worker)
    worker.dispatcher.withdraw(urgent.id)
    told(worker)

    assert [] == decisions(worker)
    assert ONE * 2 == worker.accounts.allowances["fleet slots"].held
