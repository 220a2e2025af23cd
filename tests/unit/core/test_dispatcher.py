"""The dispatcher's calls one by one; tests/properties lets them come in any order."""

from __future__ import annotations

from math import inf

import pytest

from celery_budget.core.accounts import Accounts
from celery_budget.core.calendar import CalendarWindow
from celery_budget.core.decisions import Expire, Reason, Start, Wait
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.member import BLOCKED_PER_SLOT
from celery_budget.core.ticket import Ticket
from celery_budget.policy.load import load
from celery_budget.policy.model import Band
from tests.unit.core.worker import NOW, run_all, start, ticket

BANDS = [
    Band("critical", 0, preempts=True, reserve=1),
    Band("important", 1, weight=4.0),
    Band("optional", 2, min_share=0.05),
]


@pytest.fixture
def dispatcher() -> Dispatcher:
    """Offer a worker of two slots, one of them kept for the critical band."""
    return Dispatcher(BANDS, 2)


def reason(dispatcher: Dispatcher, now: float = NOW) -> Reason:
    """Tell why the next ticket starts."""
    decision = dispatcher.decide(now)
    assert isinstance(decision, Start)
    return decision.reason


def test_the_most_urgent_band_starts_by_rank(dispatcher: Dispatcher) -> None:
    """The reason is a label of metrics."""
    dispatcher.offer(ticket("critical"), NOW)

    assert Reason.RANK == reason(dispatcher)


def test_weighted_bands_start_by_share(dispatcher: Dispatcher) -> None:
    """The reason is a label of metrics."""
    dispatcher.offer(ticket("important"), NOW)

    assert Reason.SHARE == reason(dispatcher)


def test_a_band_that_is_owed_starts_by_its_minimum_share(dispatcher: Dispatcher) -> None:
    """Before the critical one that waits beside it."""
    dispatcher.offer(ticket("critical"), NOW)
    dispatcher.offer(ticket("optional"), NOW)

    assert Reason.MIN_SHARE == reason(dispatcher)


def test_only_the_reserve_was_left(dispatcher: Dispatcher) -> None:
    """It shows whether a reserve is of use."""
    dispatcher.offer(ticket("important"), NOW)
    dispatcher.offer(ticket("critical"), NOW)
    dispatcher.decide(NOW)
    dispatcher.offer(ticket("important"), NOW)

    assert "critical" == next(iter(dispatcher._running)).band
    assert Reason.SHARE == reason(dispatcher)


def test_a_full_worker_but_for_the_reserve_starts_a_critical_ticket_as_reserved(
    dispatcher: Dispatcher,
) -> None:
    """It shows whether a reserve is of use."""
    dispatcher.offer(ticket("important"), NOW)
    dispatcher.decide(NOW)
    dispatcher.offer(ticket("critical"), NOW)

    assert Reason.RESERVED == reason(dispatcher)


def test_explain_tells_what_blocks(dispatcher: Dispatcher) -> None:
    """`celery budget explain` says no more than this."""
    dispatcher.offer(ticket("important", task_id="first", published=NOW - 1), NOW)
    dispatcher.offer(ticket("important", task_id="second", expires=NOW + 60), NOW)

    assert Wait(Reason.BEHIND, NOW + 60, 1) == dispatcher.explain("second", NOW)
    start(dispatcher)
    assert Wait(Reason.RESERVE_KEPT, NOW + 60, 0) == dispatcher.explain("second", NOW)
    dispatcher.offer(ticket("critical"), NOW)
    start(dispatcher)
    assert Wait(Reason.NO_SLOT, NOW + 60, 0) == dispatcher.explain("second", NOW)
    assert dispatcher.explain("first", NOW) is None


def test_ties_rotate_with_the_seed_every_minute() -> None:
    """A name that happens to sort first must not always win."""

    def order(seed: int, now: float) -> list[str]:
        dispatcher = Dispatcher([Band("only", 0)], 1, seed=seed)
        for number in range(9):
            dispatcher.offer(ticket("only", task_id=f"tie-{number}"), now)
        return [held.id for held in run_all(dispatcher, now)]

    first = order(1, NOW)
    assert first == order(1, NOW)
    assert first != order(2, NOW)
    assert first != order(1, NOW + 60)


def test_an_expired_ticket_comes_out_first_and_does_not_start(dispatcher: Dispatcher) -> None:
    """Wherever it stands: its sender is told at once."""
    late = ticket("optional", expires=NOW + 1)
    for held in (ticket("critical"), ticket("optional"), late):
        dispatcher.offer(held, NOW)

    decision = dispatcher.decide(NOW + 1)

    assert Expire(late) == decision
    assert [] == dispatcher.find(late.id)


def test_an_expired_ticket_comes_out_of_a_full_worker(dispatcher: Dispatcher) -> None:
    """Its sender should not wait for a slot that it does not need."""
    for band in ("important", "critical"):
        dispatcher.offer(ticket(band), NOW)
        dispatcher.decide(NOW)
    dispatcher.offer(ticket("optional", expires=NOW + 1), NOW)

    assert 0 == dispatcher.free
    assert isinstance(dispatcher.decide(NOW + 2), Expire)


def test_a_moved_ticket_keeps_its_age(dispatcher: Dispatcher) -> None:
    """Who is promoted has waited long enough."""
    old = ticket("optional", published=NOW - 100)
    dispatcher.offer(old, NOW)
    dispatcher.offer(ticket("critical", published=NOW), NOW)

    assert 1 == dispatcher.move(old.id, "critical", NOW)
    assert "critical" == old.band
    assert old is start(dispatcher)


def test_a_ticket_can_be_moved_there_and_back(dispatcher: Dispatcher) -> None:
    """What it left behind must not be compared with what came back."""
    moved = ticket("important", published=NOW)
    for _ in range(3):
        dispatcher.offer(ticket("important", published=NOW - 1), NOW)
    dispatcher.offer(moved, NOW)
    for band in ("optional", "important") * 3:
        assert 1 == dispatcher.move(moved.id, band, NOW)

    assert 4 == dispatcher.held("important")
    assert moved is run_all(dispatcher)[-1]


def test_a_moved_ticket_still_expires(dispatcher: Dispatcher) -> None:
    """Its sender's wish does not depend on the band."""
    moved = ticket("optional", expires=NOW + 1)
    dispatcher.offer(moved, NOW)
    dispatcher.move(moved.id, "important", NOW)

    assert Expire(moved) == dispatcher.decide(NOW + 2)


def test_moving_where_it_is_moves_nothing(dispatcher: Dispatcher) -> None:
    """The operator is told what changed."""
    held = ticket("optional")
    dispatcher.offer(held, NOW)

    assert 0 == dispatcher.move(held.id, "optional", NOW)
    assert 1 == dispatcher.held("optional")


def test_a_redelivered_message_runs_beside_the_first(dispatcher: Dispatcher) -> None:
    """Each is acknowledged by itself; whether the task may run twice is the receipt's matter."""
    copies = [ticket("critical", task_id="same") for _ in range(2)]
    for copy in copies:
        dispatcher.offer(copy, NOW)
        start(dispatcher)

    assert 2 == dispatcher.running("critical")
    for copy in copies:
        dispatcher.ended(copy, NOW + 1)
    assert 2 == dispatcher.free


def test_a_running_ticket_cannot_be_held_again(dispatcher: Dispatcher) -> None:
    """Its slot would be lost when it ends."""
    held = ticket("critical")
    dispatcher.offer(held, NOW)
    start(dispatcher)

    with pytest.raises(ValueError, match="is running: offer a new one"):
        dispatcher.offer(held, NOW)


def test_an_ended_ticket_can_be_held_again(dispatcher: Dispatcher) -> None:
    """The worker found that it cannot run yet."""
    held = ticket("critical")
    dispatcher.offer(held, NOW)
    dispatcher.ended(start(dispatcher), NOW, ran=False)
    dispatcher.offer(held, NOW)

    assert held is start(dispatcher)


def test_a_ticket_ends_once(dispatcher: Dispatcher) -> None:
    """A slot given back twice would be used twice."""
    dispatcher.offer(ticket("critical"), NOW)
    held = start(dispatcher)
    dispatcher.ended(held, NOW)

    with pytest.raises(KeyError):
        dispatcher.ended(held, NOW)


def test_an_unknown_band_changes_nothing(dispatcher: Dispatcher) -> None:
    """The worker settles bands before; here it can only be a mistake of ours."""
    held = ticket("optional")
    dispatcher.offer(held, NOW)

    with pytest.raises(KeyError):
        dispatcher.offer(ticket("nowhere"), NOW)
    with pytest.raises(KeyError):
        dispatcher.move(held.id, "nowhere", NOW)
    assert 1 == dispatcher.held_total == dispatcher.held("optional")


def test_what_never_ran_is_neither_learned_nor_charged() -> None:
    """A revoked task takes no time, and its tenant had nothing."""
    dispatcher = Dispatcher([Band("a", 0), Band("b", 1)], 1)
    dispatcher.offer(ticket("a", task="revoked"), NOW)
    dispatcher.ended(start(dispatcher), NOW + 500, ran=False)
    for band in ("b", "a"):
        dispatcher.offer(ticket(band), NOW + 500)

    assert "revoked" not in dispatcher._service
    assert "a" == start(dispatcher, NOW + 500).band


def test_withdrawn_tickets_are_gone(dispatcher: Dispatcher) -> None:
    """A revoked task must not start from the worker's memory."""
    copies = [ticket("optional", task_id="same") for _ in range(2)]
    for held in (*copies, ticket("optional")):
        dispatcher.offer(held, NOW)

    assert copies == dispatcher.withdraw("same")
    assert [] == dispatcher.withdraw("same")
    assert 1 == dispatcher.held_total


def test_drain_gives_all_in_the_order_of_arrival(dispatcher: Dispatcher) -> None:
    """They go back to the front of their queues, and must stand there as before."""
    held: list[Ticket] = []
    for number in range(20):
        held.append(ticket(BANDS[number % 3].name, deadline=NOW + 50 - number, tenant=str(number)))
        dispatcher.offer(held[-1], NOW)
    dispatcher.move(held[3].id, "optional", NOW)

    assert held == dispatcher.drain()
    assert 0 == dispatcher.held_total
    assert dispatcher.decide(NOW) is None


def test_a_pool_that_shrank_starts_nothing_until_enough_has_ended(dispatcher: Dispatcher) -> None:
    """More may run than there are slots now."""
    dispatcher.resize(4)
    for _ in range(6):
        dispatcher.offer(ticket("critical"), NOW)
    running = [start(dispatcher) for _ in range(4)]
    dispatcher.resize(2)

    assert 0 == dispatcher.free
    for held in running[:2]:
        assert dispatcher.decide(NOW) is None
        dispatcher.ended(held, NOW)
    assert dispatcher.decide(NOW) is None
    dispatcher.ended(running[2], NOW)
    assert isinstance(dispatcher.decide(NOW), Start)


def test_listed_is_by_arrival_and_bounded(dispatcher: Dispatcher) -> None:
    """Answers to remote control are one message."""
    held = [ticket("optional", deadline=inf if n % 2 else NOW) for n in range(9)]
    for each in held:
        dispatcher.offer(each, NOW)

    assert held[:4] == dispatcher.listed(4)


def poor(slots: int = 2) -> Dispatcher:
    """Offer a worker that has been granted nothing: tickets of tenants wait for their budget."""
    policy = load(
        {
            "default_band": "high",
            "bands": {"high": {}, "low": {}},
            "budgets": {"tenant:*": {"usd": "1/1d"}},
        }
    )
    accounts = Accounts(policy, {}, lambda _w, _t: CalendarWindow(0, 0, 0), lease_s=5)
    return Dispatcher(policy.bands, slots, accounts=accounts)


def test_a_ticket_that_waits_for_a_budget_keeps_no_slot() -> None:
    """Nobody's tasks must wait because somebody's money is spent."""
    dispatcher = poor()
    waiting = [ticket("high", tenant="acme") for _ in range(5)]
    for held in waiting:
        dispatcher.offer(held, NOW)
    free = ticket("low")
    dispatcher.offer(free, NOW)

    assert free is start(dispatcher)
    assert dispatcher.decide(NOW) is None
    assert (5, 1) == (dispatcher.held("high"), dispatcher.free)


def test_what_waits_for_a_budget_says_so_and_names_the_account() -> None:
    """An operator must not look for a fault in the worker."""
    dispatcher = poor()
    waiting = ticket("high", tenant="acme")
    dispatcher.offer(waiting, NOW)
    dispatcher.decide(NOW)

    assert Wait(Reason.BUDGET, inf, 0, "tenant:acme usd") == dispatcher.explain(waiting.id, NOW)


def test_what_waits_for_a_budget_expires_is_withdrawn_and_moves_like_others() -> None:
    """It is held like any ticket."""
    dispatcher = poor()
    late = ticket("high", tenant="acme", expires=NOW + 1)
    gone, moved = ticket("high", tenant="acme"), ticket("high", tenant="acme")
    for held in (late, gone, moved):
        dispatcher.offer(held, NOW)
    dispatcher.decide(NOW)

    assert Expire(late) == dispatcher.decide(NOW + 2)
    assert [gone] == dispatcher.withdraw(gone.id)
    assert 1 == dispatcher.move(moved.id, "low", NOW + 2)
    assert (0, 1) == (dispatcher.held("high"), dispatcher.held("low"))
    assert dispatcher.decide(NOW + 2) is None
    assert [moved] == dispatcher.drain()


def test_drain_gives_those_that_wait_for_a_budget_in_the_order_of_arrival() -> None:
    """They go back to the front of their queues with the others."""
    dispatcher = poor()
    held = [ticket("high", tenant=("acme", "")[n % 2], deadline=NOW + 50 - n) for n in range(20)]
    for each in held[:10]:
        dispatcher.offer(each, NOW)
    while (decision := dispatcher.decide(NOW)) is not None:
        assert isinstance(decision, Start)
        held.remove(decision.ticket)
    for each in held[len(held) - 10 :]:
        dispatcher.offer(each, NOW)

    assert held == dispatcher.drain()
    assert 0 == dispatcher.held_total


def test_a_worker_full_of_what_waits_for_a_budget_asks_for_no_more() -> None:
    """Nobody else can start what it holds."""
    dispatcher = poor(slots=2)
    dispatcher.listen(["high", "low"], NOW)
    for number in range(BLOCKED_PER_SLOT * 2):
        assert dispatcher.window("high") > 0
        dispatcher.offer(ticket("high", tenant=f"tenant-{number % 3}"), NOW)
        dispatcher.decide(NOW)

    assert 0 == dispatcher.window("high")
    assert dispatcher.window("low") > 0
