"""What windows ask for, within limits of Celery's own and of fairness."""

from __future__ import annotations

from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.ticket import Ticket
from celery_budget.policy.model import Band
from celery_budget.worker.demand import FairDemand

SLOTS = 4


def busy(seconds: float) -> Dispatcher:
    """Fill all slots with tasks of a length that is known."""
    dispatcher = Dispatcher((Band("a", 0),), SLOTS)
    now = 0.0
    for number in range(3 * SLOTS):
        ticket = Ticket(str(number), "task", "a", published=now)
        dispatcher.offer(ticket, now)
        dispatcher.decide(now)
        if number < 2 * SLOTS:
            now += seconds
            dispatcher.ended(ticket, now)
    return dispatcher


def test_bands_with_lanes_fetch_no_long_task_ahead() -> None:
    """It would mostly be of the backlog, and have the next slot before anybody else."""
    dispatcher = busy(0.1)
    wanted, ahead, held = dispatcher.demand("a")

    assert 0 < ahead < SLOTS
    assert (wanted - ahead, 0, held) == FairDemand(dispatcher, lambda _band: True)("a")
    assert (wanted, ahead, held) == FairDemand(dispatcher, lambda _band: False)("a")


def test_short_tasks_are_fetched_ahead_all_the_same() -> None:
    """A slot that waits for each of them would halve the throughput."""
    dispatcher = busy(0.001)

    assert dispatcher.demand("a") == FairDemand(dispatcher, lambda _band: True)("a")
    assert dispatcher.demand("a")[1] >= SLOTS
