"""Units that came back or were granted reach the ticket that they are for, and nobody else."""

from __future__ import annotations

from celery_budget.core.decisions import Evict, Start, Yield
from celery_budget.core.needs import ONE
from celery_budget.policy.preemption import Method
from tests.unit.core.test_accounts import Books
from tests.unit.core.test_standings import (
    BANDS,
    FLEET,
    books,
    decisions,
    decisions_until_wait,
    leave,
    run,
    told,
)


def test_a_unit_is_there_at_once_though_others_wait_for_some_too() -> None:
    """Its slot would be somebody else's before the ledger has answered."""
    worker = books(FLEET)
    run(worker, "optional"), run(worker, "optional")
    other = books(FLEET, worker)
    other.hold("optional")
    decisions(other)
    urgent = worker.hold("critical")
    decisions(worker)
    other.exchange()
    worker.exchange()
    (asked,) = decisions(worker)
    assert isinstance(asked, Evict)
    told(other, worker)
    leave(worker, asked.ticket)

    assert [urgent] == [decision.ticket for decision in decisions(worker)]  # type: ignore[union-attr]


def test_a_unit_goes_elsewhere_where_a_more_urgent_ticket_waits() -> None:
    """Though one that is urgent too waits here."""
    bands = {"first": {"preempts": True}, "second": {"preempts": True}, "last": BANDS["optional"]}
    here = Books({"fleet": {"slots": 1}}, bands=bands, default_band="last")
    there = Books({"fleet": {"slots": 1}}, here.ledger, bands=bands, default_band="last")
    holder = run(here, "last")
    there.now = here.now
    first = there.hold("first")
    here.hold("second")
    decisions(here), decisions(there)
    there.exchange()
    here.exchange()
    assert [Evict(holder, account="fleet slots")] == decisions(here)
    leave(here, holder)
    assert [] == decisions(here)
    here.exchange()
    there.exchange()

    assert [first] == [decision.ticket for decision in decisions(there)]  # type: ignore[union-attr]


def test_the_slot_comes_with_the_unit() -> None:
    """No band takes it that is owed its minimum share."""
    worker = books({"tenant:*": {"slots": 1}}, slots=1)
    holder = worker.hold("optional", "one")
    holder.methods = (Method.EVICT,)
    decisions(worker)
    worker.exchange()
    assert isinstance(worker.decide(), Start)
    urgent = worker.hold("critical", "one")
    decisions(worker)
    worker.exchange()
    assert [Evict(holder, account="tenant:one slots")] == decisions(worker)
    due = worker.hold("important")
    assert [] == decisions(worker)
    leave(worker, holder)

    assert urgent is worker.decide().ticket  # type: ignore[union-attr]
    assert worker.dispatcher.listed(9) == [due]


def test_what_came_back_is_kept_while_its_ticket_asks_for_the_rest() -> None:
    """Of another account; meanwhile nobody here takes it."""
    worker = books({"fleet": {"slots": 2}, "tenant:*": {"slots": 9}})
    run(worker, "optional")
    second = run(worker, "optional")
    lesser, urgent = worker.hold("optional"), worker.hold("critical", "new")
    decisions(worker)
    told(worker)
    assert [Evict(second, account="fleet slots")] == decisions(worker)
    told(worker)
    leave(worker, second)
    assert [] == decisions(worker)
    worker.exchange()

    assert [urgent] == [decision.ticket for decision in decisions(worker)]  # type: ignore[union-attr]
    assert lesser in worker.dispatcher.listed(9)


def test_what_is_there_is_kept_while_the_rest_is_called_back() -> None:
    """For longer than else: to hear of that and to leave takes longer."""
    worker = books({"fleet": {"slots": 2}, "tenant:*": {"slots": 1}})
    holder = worker.hold("optional", "one")
    holder.methods = (Method.CHECKPOINT,)
    decisions(worker)
    worker.exchange()
    assert isinstance(worker.decide(), Start)
    urgent = worker.hold("critical", "one")
    for _ in range(60):
        decisions(worker)
        worker.exchange()
    assert 2 * ONE == worker.accounts.allowances["fleet slots"].held
    leave(worker, holder)

    assert [urgent] == [decision.ticket for decision in decisions(worker)]  # type: ignore[union-attr]


def test_what_was_granted_is_kept_while_a_slot_is_on_its_way() -> None:
    """Else it is with lesser tickets elsewhere again when the slot is there."""
    worker = books({"band:critical": {"slots": 1}}, slots=1)
    holder = run(worker, "optional", Method.CHECKPOINT)
    urgent = worker.hold("critical")
    decisions(worker)
    worker.exchange()
    (asked,) = [each for each in decisions_until_wait(worker) if isinstance(each, Yield)]
    assert (holder, urgent) == (asked.ticket, asked.cause)
    told(worker)
    leave(worker, holder)

    assert urgent is worker.decide().ticket  # type: ignore[union-attr]


def test_what_was_granted_goes_back_when_no_slot_comes() -> None:
    """Others wait for it."""
    worker = books({"band:critical": {"slots": 1}}, slots=1)
    run(worker, "optional", Method.CHECKPOINT)
    worker.hold("critical")
    decisions(worker)
    worker.exchange()
    decisions_until_wait(worker)
    worker.exchange(1.0)

    assert {} == worker.ledger.accounts()


def test_nothing_is_kept_for_long_from_others_that_could_start() -> None:
    """What is lacking may be held for hours by somebody who does not leave."""
    worker = books({"fleet": {"slots": 2}, "tenant:*": {"slots": 1}})
    worker.hold("optional", "one")
    decisions(worker)
    worker.exchange()
    assert isinstance(worker.decide(), Start)
    worker.hold("critical", "one")
    decisions(worker)
    worker.exchange()
    decisions(worker)
    other = worker.hold("optional", "two")
    started = []
    begun = worker.now
    while not started and worker.now < begun + 15:
        started = decisions(worker)
        worker.exchange()

    assert [other] == [decision.ticket for decision in started]  # type: ignore[union-attr]
    assert worker.now > begun + 5
