"""The look-ahead: how many messages are at hand while tasks are short, and none while long."""

from __future__ import annotations

import pytest

from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.lookahead import MOST_PER_SLOT, most_ahead, parts
from celery_budget.core.ticket import Ticket
from celery_budget.policy.model import Band
from tests.unit.core.worker import NOW, start, ticket


def busy(slots: int, service_s: float, *, preempts: bool = False) -> Dispatcher:
    """Make a worker that knows its one band's service time and has all slots busy."""
    dispatcher = Dispatcher([Band("only", 0, preempts=preempts)], slots)
    for _ in range(slots + 1):
        dispatcher.offer(ticket("only"), NOW)
    dispatcher.ended(start(dispatcher), NOW + service_s)
    for _ in range(slots):
        start(dispatcher, NOW + service_s)
    return dispatcher


@pytest.mark.parametrize(
    ("service_s", "expected"),
    [(10.0, 0), (1.0, 0), (0.6, 0), (0.4, 1), (0.1, 1), (0.05, 2), (0.02, 5), (0.001, 16)],
)
def test_the_shorter_the_tasks_the_more_messages_are_at_hand(
    service_s: float, expected: int
) -> None:
    """Two slots use them up within a round trip; of long tasks another worker may start them."""
    assert expected == busy(2, service_s).demand("only")[1]


def test_a_band_served_by_rank_has_none_at_hand_before_it_is_used_up() -> None:
    """An urgent message waits better where a worker may be idle than behind a busy one."""
    assert 0 == busy(2, 0.4, preempts=True).demand("only")[1]
    assert 2 == busy(2, 0.05, preempts=True).demand("only")[1]


def test_unknown_tasks_count_as_long() -> None:
    """A worker that has just started would hoard what turns out to take an hour."""
    dispatcher = Dispatcher([Band("only", 0)], 2)

    assert 2 == dispatcher.window("only")


def test_a_long_band_keeps_one_at_hand_beside_short_tasks() -> None:
    """No slot is ever seen free there, so that the band would never be asked for."""
    slots = 2

    assert 1 == most_ahead(parts(10.0), slots)
    assert MOST_PER_SLOT * slots == most_ahead(parts(0.001), slots)


def test_the_window_is_what_could_start_and_the_look_ahead_less_what_is_held() -> None:
    """More would be hoarded, less would leave slots idle."""
    dispatcher = busy(2, 0.02)

    assert 5 == dispatcher.window("only")
    for _ in range(3):
        dispatcher.offer(ticket("only"), NOW)
    assert 2 == dispatcher.window("only")
    for _ in range(9):
        dispatcher.offer(ticket("only"), NOW)
    assert 0 == dispatcher.window("only")


def test_windows_are_the_same_after_a_million_executions_as_in_an_idle_worker() -> None:
    """A sum of fractions drifts; this one is kept in whole numbers."""
    dispatcher = Dispatcher([Band("only", 0)], 2)
    now, running = NOW, []
    for number in range(3_000):
        dispatcher.offer(ticket("only", task=f"task-{number % 7}"), now)
        running.append(start(dispatcher, now))
        if len(running) == 2:
            now += 0.01 / (1 + number % 7)
            dispatcher.ended(running.pop(0), now)
    last: Ticket = running.pop()
    dispatcher.ended(last, now)

    assert 0 == dispatcher._parts
