"""Parts of a workflow before the books of workers that share a ledger."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from celery_budget.core.decisions import Decision, Refuse, Start, Wait
from celery_budget.core.groups import FORGOTTEN_S
from celery_budget.core.needs import ONE
from celery_budget.core.ticket import Ticket
from celery_budget.policy.envelope import Envelope
from celery_budget.stores.memory import MemoryLedger
from tests.unit.core.test_accounts import Books
from tests.unit.core.worker import NOW, ticket

DOLLAR = Envelope("e", NOW, limits={"usd": ONE})
PLACE = "envelopes.on_exhausted"


def books(ledger: MemoryLedger | None = None, **envelopes: Any) -> Books:
    """Make the books of a worker whose policy has nothing but envelopes."""
    return Books({}, ledger, envelopes=envelopes)


def hold(worker: Books, *envelopes: Envelope, usd: float = 0.1, band: str = "default") -> Ticket:
    """Let a worker take a part of a workflow."""
    held = ticket(band)
    held.envelopes = envelopes
    held.cost = (("usd", int(usd * ONE)),)
    worker.dispatcher.offer(held, worker.now)
    return held


def settle_down(workers: Sequence[Books], times: int = 40) -> list[Decision]:
    """Let workers report by turns, and give what they decide."""
    decisions = []
    for _ in range(times):
        for worker in workers:
            worker.exchange(0.05)
            for other in workers:
                other.now = worker.now
            while (decision := worker.decide()) is not None and not isinstance(decision, Wait):
                decisions.append(decision)
    return decisions


def pair(**envelopes: Any) -> tuple[Books, Books]:
    """Make two workers with one ledger."""
    one = books(**envelopes)
    return one, books(one.ledger, **envelopes)


def test_a_part_is_refused_when_the_envelope_is_spent() -> None:
    """Its account is named, and where the policy says so."""
    worker = books()
    first = hold(worker, DOLLAR)
    settle_down([worker])
    worker.end(first, usd=2 * ONE)
    second = hold(worker, DOLLAR)

    assert [Refuse(second, "envelope:e usd", PLACE)] == settle_down([worker])


def test_nothing_is_kept_at_hand() -> None:
    """Another worker's part would be kept waiting for it."""
    worker = books()
    for _ in range(5):
        held = hold(worker, DOLLAR, usd=0.01)
        settle_down([worker], 2)
        worker.end(held, usd=ONE // 100)
    worker.exchange(0.01)

    assert 0 == worker.ledger.accounts()["envelope:e usd"].leased


def test_what_is_set_aside_is_not_spent() -> None:
    """Three parts may need the same money, and each gives most of it back."""
    workers = pair()
    parts = [hold(worker, DOLLAR, usd=0.8) for worker in (*workers, workers[0])]
    order = []
    while len(order) < 3:
        (decision,) = settle_down(workers)
        assert isinstance(decision, Start)
        order.append(decision.ticket)
        owner = workers[1] if decision.ticket is parts[1] else workers[0]
        owner.end(decision.ticket, usd=ONE // 20)

    assert set(parts) == set(order)
    assert [] == settle_down(workers)


def test_a_part_waits_for_others_no_longer_than_they_run() -> None:
    """Then it is refused, if they have spent too much."""
    workers = pair()
    running = hold(workers[0], DOLLAR, usd=0.8)
    settle_down(workers)
    waiting = hold(workers[1], DOLLAR, usd=0.8)
    meanwhile = settle_down(workers)
    workers[0].end(running, usd=ONE // 2)

    assert [] == meanwhile
    assert [Refuse(waiting, "envelope:e usd", PLACE)] == settle_down(workers)


def test_two_that_want_too_much_do_not_wait_for_each_other() -> None:
    """Neither runs, so neither gives anything back."""
    workers = pair()
    spender = hold(workers[0], DOLLAR)
    settle_down(workers)
    workers[0].end(spender, usd=ONE // 2)
    for worker in workers:
        hold(worker, DOLLAR, usd=0.8)

    assert ["Refuse", "Refuse"] == [type(each).__name__ for each in settle_down(workers)]


def test_a_part_that_wants_little_runs_beside_one_that_wants_too_much() -> None:
    """Nothing is saved up where nothing comes."""
    workers = pair(on_exhausted="hold")
    spender = hold(workers[0], DOLLAR)
    settle_down(workers)
    workers[0].end(spender, usd=ONE // 2)
    hold(workers[0], DOLLAR, usd=0.8)
    settle_down(workers)
    small = hold(workers[1], DOLLAR, usd=0.2)

    assert [small] == [each.ticket for each in settle_down(workers) if isinstance(each, Start)]


def test_a_part_of_two_envelopes_draws_on_both() -> None:
    """The smaller one decides."""
    worker = books()
    inner = Envelope("inner", NOW, limits={"usd": ONE // 2})
    first = hold(worker, DOLLAR, inner)
    settle_down([worker])
    worker.end(first, usd=ONE * 3 // 5)
    second, third = hold(worker, DOLLAR, inner), hold(worker, DOLLAR)
    decisions = settle_down([worker])

    assert {second: "envelope:inner usd", third: ""} == {
        each.ticket: getattr(each, "account", "")
        for each in decisions
        if isinstance(each, Start | Refuse)
    }
    assert ONE * 3 // 5 == worker.ledger.accounts()["envelope:e usd"].spent


def test_nothing_starts_after_the_deadline() -> None:
    """A part that waits for money then is refused too."""
    worker = books()
    envelope = Envelope("e", NOW, NOW + 10, {"usd": ONE})
    hold(worker, envelope, usd=0.9)
    settle_down([worker], 2)
    waiting = hold(worker, envelope, usd=0.9)
    before = settle_down([worker], 2)
    worker.now = NOW + 10
    late = hold(worker, envelope)
    refused = [each for each in settle_down([worker]) if isinstance(each, Refuse)]

    assert [] == before
    assert {waiting, late} == {each.ticket for each in refused}
    assert {"envelope:e deadline"} == {each.account for each in refused}


def test_an_envelope_may_be_nothing_but_a_deadline() -> None:
    """The ledger never hears of it."""
    worker = books()
    envelope = Envelope("e", NOW, NOW + 10)
    early = hold(worker, envelope)
    started = worker.decide()
    worker.now = NOW + 10
    late = hold(worker, envelope)

    assert isinstance(started, Start)
    assert early is started.ticket
    assert Refuse(late, "envelope:e deadline", PLACE) == worker.decide()
    assert () == worker.exchange()


def test_a_part_that_is_to_be_held_waits_until_it_is_taken_out() -> None:
    """And says for what."""
    worker = books(on_exhausted="hold")
    held = hold(worker, Envelope("e", NOW - 60, NOW - 1))
    settle_down([worker])
    wait = worker.dispatcher.explain(held.id, worker.now)

    assert wait is not None
    assert ("envelope:e deadline", inf) == (wait.account, wait.until)
    assert [held] == worker.dispatcher.withdraw(held.id)


def test_what_is_set_aside_degrades_nobody() -> None:
    """A share of an envelope is a share of what was spent."""
    steps = [{"at": "50%", "do": "degrade"}, {"do": "shed"}]
    worker = books(on_exhausted=steps)
    first = hold(worker, DOLLAR, usd=0.8)
    settle_down([worker])
    second = hold(worker, DOLLAR, usd=0.1)
    before = settle_down([worker])
    worker.end(first, usd=ONE * 6 // 10)
    worker.end(second, usd=0)
    hold(worker, DOLLAR, usd=0.1)
    after = settle_down([worker])

    assert [False, True] == [each.is_degraded for each in before + after if isinstance(each, Start)]


def test_a_resource_may_be_called_deadline() -> None:
    """No envelope can have it; a budget can."""
    worker = Books({"fleet": {"deadline": "10/1d"}})
    running = worker.start(deadline=ONE)
    worker.end(running, deadline=2 * ONE)
    worker.exchange()

    assert 2 * ONE == worker.ledger.accounts()["fleet deadline"].spent


def test_workflows_without_number_leave_nothing_behind() -> None:
    """Each has accounts of its own, and most are never seen again."""
    worker = books()
    for number in range(200):
        held = hold(worker, Envelope(str(number), worker.now, limits={"usd": ONE}))
        assert [held] == [each.ticket for each in settle_down([worker], 2)]
        worker.end(held, usd=1)
    worker.exchange(FORGOTTEN_S + 1)
    for _ in range(20):
        worker.exchange(1)

    assert 0 == len(worker.accounts.allowances)
    assert 0 == len(worker.accounts.groups)
