"""Makes tickets and lets them start, for the tests in this folder."""

from __future__ import annotations

from itertools import count
from math import inf

from celery_budget.core.decisions import Decision, Start, Wait
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.ticket import Ticket

NOW = 1_700_000_000.0

_numbers = count(1)


def ticket(
    band: str,
    *,
    task_id: str = "",
    task: str = "task",
    tenant: str = "",
    deadline: float = inf,
    expires: float = inf,
    published: float = NOW,
) -> Ticket:
    """Make a ticket with an id of its own."""
    return Ticket(
        task_id or f"id-{next(_numbers)}", task, band, tenant, deadline, expires, published
    )


def start(dispatcher: Dispatcher, now: float = NOW) -> Ticket:
    """Let the next ticket start."""
    decision = dispatcher.decide(now)
    assert isinstance(decision, Start), decision
    return decision.ticket


def run_all(dispatcher: Dispatcher, now: float = NOW, service_s: float = 1.0) -> list[Ticket]:
    """Run everything that is held, one after another, and give it in the order of starts."""
    order = []
    while dispatcher.held_total:
        order.append(start(dispatcher, now))
        now += service_s
        dispatcher.ended(order[-1], now)
    return order


def run(dispatcher: Dispatcher, *tickets: Ticket, now: float = NOW) -> list[Decision]:
    """Offer tickets and perform all decisions, up to a wait."""
    for each in tickets:
        dispatcher.offer(each, now)
    performed: list[Decision] = []
    while (decision := dispatcher.decide(now)) is not None:
        performed.append(decision)
        assert len(performed) < 100, "it decides for ever"
        if isinstance(decision, Wait):
            break
    return performed
