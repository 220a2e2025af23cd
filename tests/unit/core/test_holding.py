"""What is held can be found by id and by expiry, and is forgotten once it is gone."""

from __future__ import annotations

from math import inf

import pytest

from celery_budget.core.fairness import Entry
from celery_budget.core.holding import Holding
from celery_budget.core.ticket import Ticket
from tests.unit.core.worker import NOW, ticket


def entry(held: Ticket, number: int) -> Entry:
    """Make the entry of a ticket as the dispatcher does."""
    return [held.deadline, held.published, held.task, 0, number, held]


def test_copies_of_one_id_are_held_apart() -> None:
    """A broker that redelivers brings a second message, which must be acknowledged too."""
    holding = Holding()
    copies = [ticket("band", task_id="same") for _ in range(3)]
    for number, copy in enumerate(copies):
        holding.add(entry(copy, number))

    holding.drop(copies[0])
    assert copies[1:] == [found[5] for found in holding.entries("same")]
    holding.drop(copies[2])
    assert [copies[1]] == [found[5] for found in holding.entries("same")]
    holding.drop(copies[1])
    assert [] == holding.entries("same")
    assert 0 == holding.total


@pytest.mark.parametrize("place", [0, 1])
def test_the_very_same_ticket_is_refused(place: int) -> None:
    """It would start twice and end once."""
    holding = Holding()
    copies = [ticket("band", task_id="same") for _ in range(2)]
    for number, copy in enumerate(copies):
        holding.add(entry(copy, number))

    with pytest.raises(ValueError, match="'same' is held already: offer a new one"):
        holding.add(entry(copies[place], 2))


def test_expired_entries_come_out_earliest_first_and_due_tells_when() -> None:
    """The dispatcher looks only at `due` on its hot path."""
    holding = Holding()
    late, early = ticket("band", expires=NOW + 9), ticket("band", expires=NOW + 5)
    holding.add(entry(late, 0))
    holding.add(entry(early, 1))

    assert NOW + 5 == holding.due
    assert holding.overdue(NOW + 4) is None
    found = holding.overdue(NOW + 10)
    assert found is not None
    assert early is found[5]


def test_expiries_of_what_is_gone_take_no_memory() -> None:
    """Most tickets start long before they expire."""
    holding = Holding()
    for number in range(10_000):
        held = ticket("band", expires=NOW + 86_400)
        made = entry(held, number)
        holding.add(made)
        made[5] = None
        holding.drop(held)

    assert len(holding._expiring) <= 100
    assert holding.overdue(inf) is None


def test_all_is_in_order_of_arrival_though_copies_came_later() -> None:
    """Held messages go back to the broker in the order in which they came."""
    holding = Holding()
    for number, task_id in enumerate(["a", "b", "a", "c", "b"]):
        holding.add(entry(ticket("band", task_id=task_id), number))

    assert ["a", "b", "a", "c", "b"] == [found[5].id for found in holding.all()]
    assert ["a", "a", "b"] == [found.id for found in holding.earliest(3)]
