"""Fair queueing between tenants, the order inside one, and the memory of both."""

from __future__ import annotations

from itertools import count
from random import Random

import pytest

from celery_budget.core.admission import Group
from celery_budget.core.fairness import SMALL_BATCH, FairQueue, Tenant
from celery_budget.core.line import Entry
from celery_budget.core.ticket import Ticket
from celery_budget.policy.model import OnLoss
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

    (line,) = tenant.lines
    assert len(line._entries) + len(line.early) < 200
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


def group() -> Group:
    """Make a group of tickets that may be blocked together."""
    return Group(0, (), OnLoss.LOCAL)


def grouped(name: str, drawing: Group) -> Ticket:
    """Make a ticket of a tenant that draws on a group's budgets."""
    made = ticket("band", tenant=name)
    made.group = drawing
    return made


def test_weights_divide_slot_time() -> None:
    """Who has three shares gets three, while both have work."""
    queue = FairQueue(lambda name: 3.0 if name == "three" else 1.0)
    for name in ("three", "one"):
        for _ in range(200):
            push(queue, ticket("band", tenant=name))
    order = [held.tenant for held in run_all(queue)][:200]

    assert 150 == pytest.approx(order.count("three"), abs=SMALL_BATCH)


def test_a_blocked_group_lets_the_others_pass() -> None:
    """Those of the same tenant too: one of its budgets is used up, not all."""
    queue = FairQueue()
    blocked, free = group(), group()
    for number in range(30):
        for name in ("one", "two"):
            push(queue, grouped(name, blocked if number % 2 else free))
    queue.block(blocked)
    order = run_all(queue)

    assert {free} == {held.group for held in order}
    assert (30, 0, 30) == (len(order), queue.length, queue.blocked)
    queue.unblock(blocked)
    assert (30, 0) == (queue.length, queue.blocked)
    assert {blocked} == {held.group for held in run_all(queue)}


def test_what_comes_for_a_blocked_group_waits_with_it() -> None:
    """In its place: it goes by age when the group may go on."""
    queue = FairQueue()
    blocked = group()
    push(queue, grouped("one", blocked))
    queue.block(blocked)
    early = grouped("one", blocked)
    early.published -= 10
    push(queue, early)

    assert queue.head() is None
    queue.unblock(blocked)
    assert early is queue.head()


def test_waiting_for_a_budget_saves_up_no_turns() -> None:
    """A tenant whose money came back must not have the worker for itself."""
    queue = FairQueue()
    blocked = group()
    for _ in range(100):
        push(queue, grouped("poor", blocked))
    queue.block(blocked)
    for _ in range(300):
        push(queue, ticket("band", tenant="rich"))
    for _ in range(100):
        assert queue.head() is not None
        queue.settle(queue.pop(1.0), 1.0, 1.0)
    queue.unblock(blocked)
    order = [held.tenant for held in run_all(queue)][:100]

    assert order.count("poor") <= 50 + SMALL_BATCH


@pytest.mark.parametrize("seed", range(20))
def test_blocked_groups_and_tenants_leave_no_memory_behind(seed: int) -> None:
    """Whatever is pushed, blocked, unblocked, withdrawn and run in whatever order."""
    rng = Random(seed)
    queue = FairQueue()
    groups = [group() for _ in range(5)]
    entries: list[Entry] = []
    running: list[Tenant] = []
    for _ in range(2_000):
        match rng.randrange(6):
            case 0 | 1:
                drawing = rng.choice([*groups, None])
                held = ticket("band", tenant=str(rng.randrange(50)))
                held.group = drawing
                entries.append(push(queue, held))
            case 2:
                chosen = rng.choice(groups)
                if chosen.is_blocked:
                    queue.unblock(chosen)
                elif chosen.tenants:
                    queue.block(chosen)
            case 3:
                waiting = [entry for entry in entries if entry[5] is not None]
                if waiting:
                    queue.discard(rng.choice(waiting))
            case 4:
                if queue.head() is not None:
                    running.append(queue.pop(1.0))
            case _:
                if running:
                    queue.settle(running.pop(), 1.0, rng.random())
        waiting = [entry for entry in entries if entry[5] is not None]
        is_held = [each[5].group is not None and each[5].group.is_blocked for each in waiting]
        assert (is_held.count(False), is_held.count(True)) == (queue.length, queue.blocked)
        assert (queue.head() is None) == (queue.length == 0)
    for each in groups:
        if each.is_blocked:
            queue.unblock(each)
    for tenant in running:
        queue.settle(tenant, 1.0, 1.0)
    run_all(queue)
    for _ in range(50):
        push(queue, ticket("band", tenant="last"))
    run_all(queue)

    assert not any(each.tenants or each.live or each.is_blocked for each in groups)
    assert queue.tenants < 5
    assert len(queue._markers) == 0
