"""The order between bands: reserves, rank, weights, minimum shares, and who is waited for."""

from __future__ import annotations

import pytest

from celery_budget.core.decisions import Reason, Wait
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.patience import GATHER_S
from celery_budget.policy.model import Band
from tests.unit.core.worker import NOW, run_all, start, ticket

CRITICAL = Band("critical", 0, preempts=True)
IMPORTANT = Band("important", 1, weight=4.0)
OPTIONAL = Band("optional", 2)


@pytest.mark.parametrize(
    ("slots", "reserves", "usable", "capped"),
    [
        (4, (1, 1), (3, 3, 2), False),
        (3, (1, 1), (2, 2, 1), False),
        (2, (1, 1), (2, 1, 1), True),
        (1, (1, 1), (1, 1, 1), True),
        (3, (5, 5), (3, 1, 1), True),
    ],
)
def test_reserves_leave_one_slot_shared_and_the_lowest_rank_is_cut_first(
    slots: int, reserves: tuple[int, int], usable: tuple[int, int, int], capped: bool
) -> None:
    """A worker too small for the policy must still serve every band."""
    first, second = reserves
    bands = [Band("a", 0, reserve=first), Band("b", 1, reserve=second), Band("c", 2)]
    dispatcher = Dispatcher(bands, slots)

    assert usable == tuple(dispatcher.window(band.name) for band in bands)
    assert capped == dispatcher.capped


def test_a_reserve_comes_back_when_the_pool_grows() -> None:
    """Autoscale starts workers small."""
    dispatcher = Dispatcher([Band("a", 0, reserve=2), Band("b", 1)], 1)
    dispatcher.resize(4)

    assert not dispatcher.capped
    assert 2 == dispatcher.window("b")


def test_a_band_that_preempts_goes_first_whoever_came_first() -> None:
    """That is what `preempts` says before tasks can be stopped."""
    dispatcher = Dispatcher([CRITICAL, IMPORTANT, OPTIONAL], 1)
    for band in ("optional", "important", "critical", "optional", "critical"):
        dispatcher.offer(ticket(band), NOW)

    order = [held.band for held in run_all(dispatcher)]

    assert ["critical", "critical", "important", "optional", "optional"] == order


def test_equal_tags_go_by_rank() -> None:
    """The first choice after a start must not depend on who arrived first."""
    dispatcher = Dispatcher([Band("a", 0), Band("b", 1)], 1)
    dispatcher.offer(ticket("b"), NOW)
    dispatcher.offer(ticket("a"), NOW)

    assert "a" == start(dispatcher).band


def test_four_to_one_is_four_turns_to_one() -> None:
    """With tasks of equal length, slot time is turns."""
    dispatcher = Dispatcher([IMPORTANT, OPTIONAL], 1)
    for _ in range(50):
        dispatcher.offer(ticket("important"), NOW)
        dispatcher.offer(ticket("optional"), NOW)

    order = [held.band for held in run_all(dispatcher)][:50]

    assert 40 == order.count("important")


def test_the_band_that_was_owed_for_longest_goes_first() -> None:
    """By rank the lower one would not get its share where both are scarce."""
    bands = [CRITICAL, Band("high", 1, min_share=0.4), Band("low", 2, min_share=0.4)]
    dispatcher = Dispatcher(bands, 1)
    for _ in range(300):
        for band in ("critical", "high", "low"):
            dispatcher.offer(ticket(band), NOW)

    order = [held.band for held in run_all(dispatcher)][:100]

    assert order.count("low") >= 40
    assert order.count("high") >= 40


def gathering(lesser_s: float = 1.0) -> Dispatcher:
    """Make a worker whose only slot becomes free at NOW + 10, with one optional ticket held."""
    dispatcher = Dispatcher([CRITICAL, IMPORTANT, OPTIONAL], 1)
    dispatcher.listen(["critical", "important", "optional"], NOW - 100)
    for _ in range(3):
        dispatcher.offer(ticket("optional"), NOW)
    dispatcher.ended(start(dispatcher), NOW + lesser_s)
    running = start(dispatcher, NOW + 9)
    dispatcher.ended(running, NOW + 10)
    return dispatcher


def test_a_lesser_ticket_gives_way_to_messages_that_may_be_coming() -> None:
    """The window of a higher band was closed until this moment."""
    dispatcher = gathering()

    assert Wait(Reason.GATHER, NOW + 10 + GATHER_S, 0) == dispatcher.decide(NOW + 10)


def test_the_message_that_came_meanwhile_goes_first() -> None:
    """This is what was waited for."""
    dispatcher = gathering()
    dispatcher.decide(NOW + 10)
    dispatcher.offer(ticket("critical"), NOW + 10.002)

    assert "critical" == start(dispatcher, NOW + 10.002).band


def test_when_nothing_came_the_lesser_ticket_starts() -> None:
    """The wait ends by itself."""
    dispatcher = gathering()

    assert "optional" == start(dispatcher, NOW + 10 + GATHER_S).band


def test_bands_this_worker_does_not_serve_are_not_waited_for() -> None:
    """With `-Q` no message of them can come."""
    dispatcher = gathering()
    dispatcher.listen(["optional"], NOW + 10)

    assert "optional" == start(dispatcher, NOW + 10).band


def test_a_clock_set_back_does_not_make_it_wait() -> None:
    """An hour back would otherwise be an hour with an idle slot."""
    dispatcher = gathering()

    assert "optional" == start(dispatcher, NOW - 3_600).band


def test_nothing_is_waited_for_while_a_slot_was_free_all_the_time() -> None:
    """Its window was open, so that its message would be here."""
    dispatcher = Dispatcher([CRITICAL, OPTIONAL], 2)
    dispatcher.listen(["critical", "optional"], NOW - 100)
    dispatcher.offer(ticket("optional"), NOW)

    assert "optional" == start(dispatcher).band


def test_short_tasks_do_not_wait() -> None:
    """Their wait would be longer than the critical task's."""
    dispatcher = Dispatcher([CRITICAL, OPTIONAL], 1)
    dispatcher.listen(["critical", "optional"], NOW - 100)
    for _ in range(3):
        dispatcher.offer(ticket("optional"), NOW)
    dispatcher.ended(start(dispatcher), NOW + 0.03)

    assert "optional" == start(dispatcher, NOW + 0.03).band
