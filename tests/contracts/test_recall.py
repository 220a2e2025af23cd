"""Who takes back units of a capacity for whom, on every ledger; that both agree, and how much."""

from __future__ import annotations

from itertools import count
from random import Random

import pytest
from redis import Redis

from celery_budget.core.account import AccountRule, Want
from celery_budget.core.exchange import Granted, Line, Report
from celery_budget.core.standing import Standing
from celery_budget.stores.memory import MemoryLedger
from celery_budget.stores.redis.ledger import RedisLedger
from tests.contracts.fleet import CAPACITY, HOURLY, LEASE_US, NOON, SECOND, Fleet, Worker, want
from tests.servers import Broker

CLAIM = Standing(claims=((0, 1),))
_namespaces = count()


def claim(worker: Worker, units: int = 1, *, rank: int = 0, least: int = 1) -> Granted:
    """Let urgent tickets want and claim some of a capacity."""
    standing = Standing(claims=((rank, units),))
    return worker.tell("a", CAPACITY, want(units, least, rank=rank), standing=standing)


def hold(
    worker: Worker, held: int, *loose: tuple[int, int], leaving: int = 0, wants: int = 0
) -> tuple[int, int]:
    """Let a worker hold some, of which it could give back; tell what it owes, and to whom."""
    wanted = [want(wants, rank=5)] if wants else []
    granted = worker.tell(
        "a", CAPACITY, *wanted, held=held, standing=Standing((), leaving, tuple(loose))
    )
    return granted.owed, granted.owed_to


def full(fleet: Fleet, *holdings: int) -> list[Worker]:
    """Share all of the capacity out among lesser tickets of several workers."""
    workers = [fleet.worker(f"w{number}") for number in range(len(holdings))]
    for worker, units in zip(workers, holdings, strict=True):
        worker.tell("a", CAPACITY, want(units, rank=5))
    return workers


def test_what_is_claimed_is_called_back_once(fleet: Fleet) -> None:
    """Whoever was called counts as about to give it."""
    first, second = full(fleet, 5, 5)
    assert 0 == claim(fleet.worker("urgent"), 3).owed

    assert (3, 0) == hold(first, 5, (5, 5))
    assert (0, 0) == hold(second, 5, (5, 5))
    assert (0, 0) == hold(first, 5, (5, 2), leaving=3)


def test_nothing_is_called_back_without_a_claim(fleet: Fleet) -> None:
    """Bands that do not preempt wait until something ends."""
    (only,) = full(fleet, 10)
    fleet.worker("other").tell("a", CAPACITY, want(3, rank=1))

    assert (0, 0) == hold(only, 10, (5, 10))


def test_only_lesser_tickets_give_something_back(fleet: Fleet) -> None:
    """Of the same band, whoever came first has it."""
    (only,) = full(fleet, 10)
    claim(fleet.worker("urgent"), 3, rank=1)

    assert (0, 0) == hold(only, 10, (0, 4), (1, 6))
    assert (2, 1) == hold(only, 10, (1, 8), (2, 2))


def test_the_least_urgent_tickets_give_first(fleet: Fleet) -> None:
    """Wherever in the fleet they run."""
    first, second = full(fleet, 5, 5)
    hold(first, 5, (1, 5))
    hold(second, 5, (2, 5))
    claim(fleet.worker("urgent"), 3)

    assert (0, 0) == hold(first, 5, (1, 5))
    assert (3, 0) == hold(second, 5, (2, 5))


def test_a_worker_gives_to_itself_first(fleet: Fleet) -> None:
    """That takes no second exchange."""
    first, second = full(fleet, 5, 5)
    hold(first, 5, (5, 5))
    standing = Standing(claims=((0, 2),), loose=((5, 5),))
    granted = second.tell("a", CAPACITY, want(2), held=5, standing=standing)

    assert (2, 0) == (granted.owed, granted.owed_to)
    assert (0, 0) == hold(first, 5, (5, 5))


def test_what_nobody_holds_is_not_called_back(fleet: Fleet) -> None:
    """It is there when the urgent worker asks again."""
    (only,) = full(fleet, 10)
    claim(fleet.worker("urgent"), 3)

    assert (1, 0) == hold(only, 8, (5, 8))


def test_what_does_not_come_is_called_back_elsewhere(fleet: Fleet) -> None:
    """A task may take long to its next checkpoint."""
    first, second = full(fleet, 5, 5)
    claim(fleet.worker("urgent"), 2)
    assert (2, 0) == hold(first, 5, (5, 2))
    assert (0, 0) == hold(first, 5)

    assert (2, 0) == hold(second, 5, (5, 5))


def test_too_little_for_one_ticket_is_not_called_back(fleet: Fleet) -> None:
    """Others would leave in vain; what is enough for some of the tickets is."""
    (only,) = full(fleet, 10)
    claim(fleet.worker("urgent"), 8, least=4)

    assert (0, 0) == hold(only, 10, (5, 3))
    assert (4, 0) == hold(only, 10, (5, 7))


def test_what_is_kept_for_more_urgent_bands_is_called_back_with_it(fleet: Fleet) -> None:
    """Else nothing of it would be granted."""
    (only,) = full(fleet, 10)
    standing = Standing(claims=((1, 2),))
    fleet.worker("urgent").tell("a", CAPACITY, want(2, rank=1, floor=3), standing=standing)

    assert (5, 1) == hold(only, 10, (5, 10))


def test_a_claim_ends_with_its_want(fleet: Fleet) -> None:
    """The worker may be gone, or its ticket."""
    (only,) = full(fleet, 10)
    urgent = fleet.worker("urgent")
    claim(urgent, 3)
    fleet.clock.pass_s(1)
    assert (0, 0) == hold(only, 10, (5, 10))

    claim(urgent, 3)
    urgent.tell("a", CAPACITY)
    assert (0, 0) == hold(only, 10, (5, 10))


def test_what_came_back_goes_to_whoever_claimed_it(fleet: Fleet) -> None:
    """Not to the one that gave it, which wants it again."""
    (only,) = full(fleet, 10)
    urgent = fleet.worker("urgent")
    claim(urgent, 1)
    assert (1, 0) == hold(only, 10, (5, 10))
    assert (0, 0) == hold(only, 9, (5, 9), wants=1)

    assert 1 == claim(urgent, 1).units


def test_a_window_is_never_called_back(fleet: Fleet) -> None:
    """What is spent does not come back."""
    worker, urgent = fleet.worker("w"), fleet.worker("urgent")
    worker.tell("a", HOURLY, want(100, rank=5))
    urgent.tell("a", HOURLY, want(3), standing=CLAIM)
    granted = worker.tell("a", HOURLY, held=100, standing=Standing(loose=((5, 100),)))

    assert 0 == granted.owed
    assert {} == fleet.ledger.accounts(["a"])["a"].standings


def test_who_left_is_not_counted_on(fleet: Fleet) -> None:
    """Another has to give it."""
    first, second = full(fleet, 5, 5)
    hold(first, 5, (5, 5))
    urgent = fleet.worker("urgent")
    for _ in range(int(LEASE_US / SECOND) + 1):
        fleet.clock.pass_s(1)
        hold(second, 5)
    claim(urgent, 7)

    assert ["urgent"] == list(fleet.ledger.accounts(["a"])["a"].standings)
    assert (2, 0) == hold(second, 5, (5, 5))


def test_it_goes_on_with_what_an_older_worker_wrote(redis_fleet: Fleet) -> None:
    """Its script keeps 0 in the place of the standings, and reads nothing there."""
    (only,) = full(redis_fleet, 10)
    urgent = redis_fleet.worker("urgent")
    claim(urgent, 1)
    assert isinstance(redis_fleet.ledger, RedisLedger)
    client = redis_fleet.ledger._client
    (key,) = client.keys("*account:a")
    names = ["b", "c"]
    for name in names:
        client.eval(
            """
            local account = cmsgpack.unpack(redis.call('GET', KEYS[1]))
            if ARGV[1] == 'c' then account[4] = 0 end
            redis.call('SET', string.gsub(KEYS[1], 'a$', ARGV[1]), cmsgpack.pack(account))
            """,
            1,
            key,
            name,
        )
    kept, lost = (redis_fleet.ledger.accounts([name])[name] for name in names)

    assert {"urgent": CLAIM} == kept.standings
    assert {} == lost.standings
    assert 0 == lost.cut
    granted = only.tell("c", CAPACITY, held=10, standing=Standing(loose=((5, 10),)))
    assert (0, -0) == (granted.owed, granted.balance)


def _line(random: Random) -> Line:
    def by_rank(most: int) -> tuple[tuple[int, int], ...]:
        ranks = sorted(random.sample(range(4), random.randrange(4)))
        return tuple((rank, random.randrange(1, most)) for rank in ranks)

    wants = tuple(
        Want(rank, units, random.randrange(1, units + 1), NOON, random.choice([0, 0, 0, 2]))
        for rank, units in by_rank(8)
    )
    held = random.randrange(6)
    standing = Standing(by_rank(8), random.choice([0, 0, 1, 3]), by_rank(5))
    return Line(
        "a", AccountRule(random.choice([10, 10, 10, 20])), 0, held, 0, wants, None, standing
    )


@pytest.mark.parametrize("seed", range(40))
def test_memory_and_redis_call_back_the_same(redis_broker: Broker, seed: int) -> None:
    """However claims, and what could be given back, meet; names sort by their bytes."""
    random = Random(seed)
    now = NOON
    called = 0
    with Redis.from_url(redis_broker.url) as client:
        memory = MemoryLedger(lambda: now, LEASE_US)
        redis = RedisLedger(client, f"recall{next(_namespaces)}", LEASE_US, lambda: now)
        names = ["w", "W", "w1", "ünï", "дом"]
        for number in range(1, 60):
            now += random.randrange(100_000)
            report = Report(random.choice(names), number, "", 200_000, (_line(random),))
            answer = memory.exchange(report)
            called += answer.lines[0].owed > 0

            assert answer == redis.exchange(report)
            assert memory.accounts(["a"]) == redis.accounts(["a"])
    assert called
