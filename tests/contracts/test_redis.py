"""What only a server can do: keys, their lives, scripts, and going away."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest
from redis import Redis

from celery_budget.core.account import AccountRule
from celery_budget.core.accounting import MOST_GONE
from celery_budget.core.exchange import MOST_LINES, Line
from celery_budget.embedded import RedisServer
from celery_budget.errors import LedgerUnavailable
from celery_budget.stores.redis.connect import connect
from celery_budget.stores.redis.ledger import RedisLedger
from tests.conftest import must_exist_in_ci
from tests.contracts.fleet import CAPACITY, HOURLY, LEASE_US, SECOND, Clock, Fleet, want
from tests.servers import Broker


@pytest.fixture
def client(redis_broker: Broker) -> Iterator[Redis]:
    """Offer a connection to an empty database."""
    with Redis.from_url(redis_broker.url, decode_responses=True) as client:
        yield client


def serve(url: str, namespace: str = "n") -> Fleet:
    """Make a ledger that goes by the server's clock."""
    ledger = RedisLedger(connect(url), namespace, LEASE_US)
    return Fleet(ledger, Clock(), lambda: None)


def test_the_servers_clock_is_the_only_one(redis_broker: Broker, client: Redis) -> None:
    """Workers' clocks differ."""
    seconds, micros = client.time()

    answer = serve(redis_broker.url).worker("w").send()

    assert 0 <= answer.now - (seconds * SECOND + micros) < 60 * SECOND
    assert answer.until == answer.now + LEASE_US


def test_all_keys_are_in_one_slot(redis_broker: Broker, client: Redis) -> None:
    """A cluster runs no script over several."""
    serve(redis_broker.url).worker("w").tell("tenant:{other} usd", CAPACITY, want(1))

    # What is between the first pair of braces decides on the slot.
    assert [
        "{celery-budget:n}:account:tenant:{other} usd",
        "{celery-budget:n}:accounts",
        "{celery-budget:n}:ledger",
        "{celery-budget:n}:worker:w",
        "{celery-budget:n}:workers",
    ] == sorted(client.keys("*"))


def test_an_account_lives_as_long_as_it_is_needed(redis_broker: Broker, client: Redis) -> None:
    """Nothing else removes the keys of a tenant that is gone."""
    worker = serve(redis_broker.url).worker("w")
    worker.send(
        Line("held", CAPACITY, wants=(want(1),)),
        Line("debt", AccountRule(1, SECOND, 1), spent=1_001),
        Line("unused", CAPACITY),
        Line("day", AccountRule(100, 0, 0, turns=True), spent=1),
    )

    lives = {
        name: client.pttl(f"{{celery-budget:n}}:account:{name}")
        for name in ("held", "debt", "unused", "day")
    }
    assert LEASE_US // 1_000 - 1_000 < lives["held"] <= LEASE_US // 1_000 + 1_001
    assert 990_000 < lives["debt"] <= 1_003_000
    assert -2 == lives["unused"]
    assert 61 * 86_400_000 < lives["day"] < 63 * 86_400_000
    assert 3_590_000 < client.pttl("{celery-budget:n}:worker:w") <= 3_600_000
    assert lives["day"] <= client.pttl("{celery-budget:n}:accounts")


def test_workers_that_crash_all_day_make_no_key_large(redis_broker: Broker, client: Redis) -> None:
    """Each exchange reads and writes all of it."""
    clock = Clock()
    fleet = Fleet(RedisLedger(connect(redis_broker.url), "n", LEASE_US, clock), clock, int)
    rule = HOURLY._replace(limit=1_000)
    for number in range(3 * MOST_GONE):
        fleet.worker(f"worker {number:03}").tell("a", rule, want(1))
        clock.now += LEASE_US // 4

    # A name of 10 bytes and two times of 8 for each, and as much again for the rest.
    assert client.strlen("{celery-budget:n}:account:a") < 2 * 26 * (MOST_GONE + 8)


def test_the_index_is_swept(redis_broker: Broker, client: Redis) -> None:
    """Else it names every tenant there ever was."""
    clock = Clock()
    fleet = Fleet(RedisLedger(connect(redis_broker.url), "n", LEASE_US, clock), clock, int)
    worker = fleet.worker("w")
    for part in range(3):
        worker.send(*(Line(f"a{part} {i}", CAPACITY, wants=(want(1),)) for i in range(MOST_LINES)))
    before = client.zcard("{celery-budget:n}:accounts")
    clock.pass_s(90)
    worker.send(*(Line(f"b{i}", CAPACITY, wants=(want(1),)) for i in range(MOST_LINES)))
    worker.send(*(Line(f"b{i}", CAPACITY, wants=(want(1),)) for i in range(MOST_LINES)))

    assert 3 * MOST_LINES == before
    assert MOST_LINES == client.zcard("{celery-budget:n}:accounts")


def test_an_account_that_is_full_again_leaves_the_index_at_once(
    redis_broker: Broker, client: Redis
) -> None:
    """It was held for a moment only."""
    worker = serve(redis_broker.url).worker("w")
    worker.tell("a", CAPACITY, want(1))
    worker.tell("a", CAPACITY)

    assert "{celery-budget:n}:account:a" not in client.keys("*")
    assert "{celery-budget:n}:accounts" not in client.keys("*")


def test_namespaces_are_apart(redis_broker: Broker) -> None:
    """Staging and production share a server."""
    first, second = serve(redis_broker.url, "one"), serve(redis_broker.url, "two")
    first.worker("w").tell("a", CAPACITY, want(10))

    assert 10 == second.worker("w").tell("a", CAPACITY, want(10)).units
    assert ["a"] == list(second.ledger.accounts())


def test_it_goes_on_when_the_server_forgets_its_scripts(
    redis_broker: Broker, client: Redis
) -> None:
    """So does every restart and every failover."""
    worker = serve(redis_broker.url).worker("w")
    worker.tell("a", CAPACITY, want(3))
    client.script_flush()

    assert 7 == worker.tell("a", CAPACITY, want(99), held=3).units


def test_nobody_there_is_told_as_such() -> None:
    """Workers go on without it, as their policy says."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        fleet = serve(f"redis://127.0.0.1:{unused.getsockname()[1]}/0")

        with pytest.raises(LedgerUnavailable, match=r"\(exchange: .*budget_ledger_url"):
            fleet.worker("w").send()
        with pytest.raises(LedgerUnavailable, match=r"\(accounts: "):
            fleet.ledger.accounts()


def test_a_server_that_refuses_is_told_as_such(redis_broker: Broker, client: Redis) -> None:
    """For example one that is full, or somebody else's key."""
    client.set("{celery-budget:n}:ledger", "not ours")

    with pytest.raises(LedgerUnavailable, match="WRONGTYPE"):
        serve(redis_broker.url).worker("w").send()


def test_a_server_that_hangs_and_comes_back_has_lost_nothing() -> None:
    """What was sent while it hung may be carried out twice; it counts once."""
    with must_exist_in_ci(), RedisServer() as server:
        if not server.is_private:
            pytest.skip("the server is somebody else's")
        worker = serve(server.url).worker("w")
        worker.tell("a", HOURLY, want(50))
        pid = int(Redis.from_url(server.url).info("server")["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(LedgerUnavailable):
                worker.tell("a", HOURLY, spent=20, held=30)
        finally:
            os.kill(pid, signal.SIGCONT)

        (granted,) = worker.repeat().lines

        assert 50 == granted.balance
        assert 20 == worker.fleet.ledger.accounts(["a"])["a"].spent


def test_a_server_that_was_killed_is_told_as_such() -> None:
    """The connection that was open is broken."""
    with must_exist_in_ci(), RedisServer() as server:
        if not server.is_private:
            pytest.skip("the server is somebody else's")
        worker = serve(server.url).worker("w")
        worker.send()
        server.stop()

        with pytest.raises(LedgerUnavailable):
            worker.send()


def test_urgent_tasks_of_a_dead_worker_are_forgotten_whoever_finds_it(
    redis_broker: Broker, client: Redis
) -> None:
    """A worker of a version without them takes it out of the keys it knows."""
    clock = Clock()
    fleet = Fleet(RedisLedger(connect(redis_broker.url), "n", LEASE_US, clock), clock, int)
    fleet.worker("stuck").send(room=1, waiting=3)
    clock.now += LEASE_US
    client.zrem("{celery-budget:n}:workers", "stuck")
    client.delete("{celery-budget:n}:rooms")

    assert 0 == fleet.worker("able").send(places=9).waiting
    assert {"": "0"} == client.hgetall("{celery-budget:n}:waiting")
    assert [] == client.zrange("{celery-budget:n}:waiting_until", 0, -1)
    assert 3_590_000 < client.pttl("{celery-budget:n}:waiting") <= 3_600_000
