"""Fair queueing between tenants, the order inside one, and the memory of both."""

from __future__ import annotations

from itertools import count
from random import Random

import pytest

from celery_budget.core.fairness import SMALL_BATCH, Entry, FairQueue
from celery_budget.core.ticket import Ticket
from tests.unit.core.worker import NOW, ticket

_numbers = count(1)


def push(queue: FairQueue, held: Ticket) -> Entry:
    """Let a ticket wait."""
    entry = [held.deadline, held.published, held.task, 0, next(_numbers), held]
    queue.push(entry)
    return entry


def run_all(queue: FairQueue, service_s: float = 1.0) -> list[Ticket]:
    """Run what waits, one after another."""
    order = []
    while (held := queue.head()) is not None:
        queue.settle(queue.pop(service_s), service_s, service_s)
        order.append(held)
    return order


def test_inside_a_tenant_deadline_then_age_then_type_decide() -> None:
    """The documented order; whichever order they arrive in."""
    queue = FairQueue()
    wanted = [
        ticket("band", deadline=NOW + 1, published=NOW + 9),
        ticket("band", deadline=NOW + 2),
        ticket("band", published=NOW - 5),
        ticket("band", task="a", published=NOW),
        ticket("band", task="b", published=NOW),
    ]
    for held in Random(4).sample(wanted, len(wanted)):
        push(queue, held)

    assert wanted == run_all(queue)


def test_random_arrivals_come_out_sorted() -> None:
    """The line for arrivals in order and the heap for the others are one order together."""
    rng = Random(1)
    queue = FairQueue()
    held = [ticket("band", published=NOW + rng.randrange(100)) for _ in range(500)]
    for each in held:
        push(queue, each)

    order = [each.published for each in run_all(queue)]
    assert sorted(order) == order
    assert len(held) == len(order)


def test_backlogs_take_turns_in_slot_time() -> None:
    """A tenant of long tasks gets fewer of them, not more of the worker."""
    queue = FairQueue()
    for _ in range(200):
        push(queue, ticket("band", tenant="long", task="long"))
        push(queue, ticket("band", tenant="short", task="short"))

    got = {"long": 0.0, "short": 0.0}
    for _ in range(120):
        held = queue.head()
        assert held is not None
        service_s = 3.0 if held.tenant == "long" else 1.0
        queue.settle(queue.pop(service_s), service_s, service_s)
        got[held.tenant] += service_s

    assert got["long"] == pytest.approx(got["short"], abs=4.0)


def test_a_small_batch_goes_before_a_backlog() -> None:
    """Ten tasks done at once cost those with a thousand next to nothing."""
    queue = FairQueue()
    for _ in range(1_000):
        push(queue, ticket("band", tenant="backlog"))
    for _ in range(SMALL_BATCH):
        push(queue, ticket("band", tenant="batch"))

    order = [held.tenant for held in run_all(queue)]

    assert ["batch"] * SMALL_BATCH == order[:SMALL_BATCH]


def test_a_bigger_batch_takes_turns() -> None:
    """Else whoever comes last would always go first."""
    queue = FairQueue()
    for tenant in ("early", "late"):
        for _ in range(1_000):
            push(queue, ticket("band", tenant=tenant))

    order = [held.tenant for held in run_all(queue)][:100]

    assert 50 == order.count("late")


def test_coming_back_in_small_batches_gains_nothing_in_the_long_run() -> None:
    """A tenant that splits its backlog must not get more than its turn."""
    queue = FairQueue()
    for _ in range(2_000):
        push(queue, ticket("band", tenant="backlog"))
    order: list[str] = []
    for _ in range(1_000):
        if not any(held == "clever" for held in order[-3:]):
            for _ in range(3):
                push(queue, ticket("band", tenant="clever"))
        held = queue.head()
        assert held is not None
        queue.settle(queue.pop(1.0), 1.0, 1.0)
        order.append(held.tenant)

    assert order.count("clever") <= 500 + SMALL_BATCH


def test_a_wrong_expectation_is_corrected_when_the_ticket_ends() -> None:
    """A tenant whose first task was guessed 1,000 times too long would wait for 1,000 turns."""
    queue = FairQueue()
    for _ in range(50):
        push(queue, ticket("band", tenant="guessed"))
        push(queue, ticket("band", tenant="known"))

    first = [queue.head(), queue.pop(1.0)]
    queue.settle(first[1], 1.0, 0.001)  # type: ignore[arg-type]
    order = []
    for _ in range(40):
        held = queue.head()
        assert held is not None
        queue.settle(queue.pop(0.001), 0.001, 0.001)
        order.append(held.tenant)

    assert 20 == pytest.approx(order.count("guessed"), abs=1)


def test_what_was_taken_out_is_never_shown() -> None:
    """It was withdrawn, expired or moved to another band."""
    rng = Random(2)
    queue = FairQueue()
    entries = [push(queue, ticket("band", tenant=str(n % 5))) for n in range(400)]
    gone = rng.sample(entries, 300)
    left = {entry[5] for entry in entries} - {entry[5] for entry in gone}
    for entry in gone:
        queue.discard(entry)

    assert left == set(run_all(queue))


def test_what_was_taken_out_takes_no_memory() -> None:
    """A tenant whose tickets all expire in the middle of its line must not fill the worker."""
    queue = FairQueue()
    push(queue, ticket("band", published=NOW - 1))
    for _ in range(20_000):
        queue.discard(push(queue, ticket("band")))
    (tenant,) = queue._tenants.values()

    assert len(tenant.line) + len(tenant.early) < 200
    assert len(queue._markers) < 200


def test_ever_earlier_deadlines_take_no_memory() -> None:
    """Each of them becomes its tenant's first ticket and voids the mark before."""
    queue = FairQueue()
    for number in range(5_000):
        entry = push(queue, ticket("band", deadline=NOW - number))
        if number:
            queue.discard(entry)

    assert len(queue._markers) < 200


def test_100_000_tenants_that_come_and_go_are_forgotten() -> None:
    """Tenants are customers of customers; there is no end of them."""
    queue = FairQueue()
    for number in range(100_000):
        push(queue, ticket("band", tenant=f"tenant-{number}"))
        queue.settle(queue.pop(0.01), 0.01, 0.01 * (1 + number % 2))

    assert queue.tenants < 100
    assert len(queue._parked) < 100


def test_100_000_tenants_at_once_are_forgotten_afterwards() -> None:
    """A peak must not be remembered for ever."""
    queue = FairQueue()
    for number in range(100_000):
        push(queue, ticket("band", tenant=f"tenant-{number}"))
    run_all(queue, 0.01)
    for _ in range(50):
        push(queue, ticket("band", tenant="last"))
    run_all(queue, 0.01)

    assert queue.tenants < 100


def test_clear_leaves_those_who_run() -> None:
    """Draining a worker does not end what has started."""
    queue = FairQueue()
    for tenant in ("runs", "waits"):
        for _ in range(3):
            push(queue, ticket("band", tenant=tenant))
    running = queue.pop(1.0)
    queue.clear()

    assert 0 == queue.length
    assert queue.head() is None
    queue.settle(running, 1.0, 1.0)
    push(queue, ticket("band", tenant="runs"))
    assert 1 == len(run_all(queue))
