"""Ledgers to hold to the contract, each with a clock that the test sets."""

from __future__ import annotations

from itertools import count

import pytest
from redis import Redis

from celery_budget.stores.memory import MemoryLedger
from celery_budget.stores.redis.ledger import RedisLedger
from tests.contracts.fleet import LEASE_US, Clock, Fleet
from tests.servers import Broker

_namespaces = count()


@pytest.fixture
def clock() -> Clock:
    """Stand still until the test says otherwise."""
    return Clock()


@pytest.fixture
def redis_fleet(redis_broker: Broker, clock: Clock) -> Fleet:
    """Offer a ledger on an empty Redis database."""
    client = Redis.from_url(redis_broker.url)
    ledger = RedisLedger(client, f"test{next(_namespaces)}", LEASE_US, clock)
    return Fleet(ledger, clock, client.flushdb)


@pytest.fixture
def memory_fleet(clock: Clock) -> Fleet:
    """Offer a ledger in memory."""
    ledger = MemoryLedger(clock, LEASE_US)
    return Fleet(ledger, clock, ledger.clear)


@pytest.fixture(params=["memory", "redis"])
def fleet(request: pytest.FixtureRequest) -> Fleet:
    """Run the test on every ledger there is."""
    chosen: Fleet = request.getfixturevalue(f"{request.param}_fleet")
    return chosen
