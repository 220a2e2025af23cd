"""What every store of checkpoints promises."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from celery_budget.errors import StateUnavailable
from celery_budget.stores.memory_checkpoints import MemoryCheckpoints
from celery_budget.stores.redis.checkpoints import RedisCheckpoints
from celery_budget.stores.redis.connect import connect
from celery_budget.stores.state import KEPT_S, Checkpoint, CheckpointStore
from tests.servers import Broker

_namespaces = count()

FIRST = Checkpoint("application/json", "utf-8", b"[1]")
SECOND = Checkpoint("application/x-msgpack", "binary", b"\x92\xff\x00")


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> CheckpointStore:
    """Run the test on every store there is."""
    if request.param == "memory":
        return MemoryCheckpoints(lambda: 0)
    broker: Broker = request.getfixturevalue("redis_broker")
    return RedisCheckpoints(Redis.from_url(broker.url), f"test{next(_namespaces)}")


def test_the_latest_checkpoint_is_given(store: CheckpointStore) -> None:
    """Whoever goes on must not go back."""
    assert store.load("id") is None
    store.save("id", FIRST)
    store.save("id", SECOND)

    assert SECOND == store.load("id") == store.load("id")


def test_tasks_are_apart(store: CheckpointStore) -> None:
    """One id's progress is nobody else's."""
    store.save("one", FIRST)
    store.save("ünï", SECOND)
    store.forget("one")

    assert store.load("one") is None
    assert SECOND == store.load("ünï")


def test_what_is_not_there_can_be_forgotten(store: CheckpointStore) -> None:
    """A success may be told twice."""
    store.forget("id")

    assert store.load("id") is None


def test_any_bytes_come_back_as_they_were(redis_broker: Broker) -> None:
    """Serializers make what they like."""
    stores: list[CheckpointStore] = [
        MemoryCheckpoints(lambda: 0),
        RedisCheckpoints(Redis.from_url(redis_broker.url), "test"),
    ]

    @given(st.binary(max_size=10_000), st.text(max_size=20))
    def comes_back(body: bytes, encoding: str) -> None:
        for store in stores:
            store.save("id", Checkpoint("any/type", encoding, body))
            assert Checkpoint("any/type", encoding, body) == store.load("id")

    comes_back()


def test_it_is_kept_for_a_week_in_memory() -> None:
    """Each saving begins it anew."""
    now = [0]
    store = MemoryCheckpoints(lambda: now[0])
    store.save("old", FIRST)
    store.save("kept", FIRST)
    now[0] = 1_000_000
    store.save("kept", SECOND)
    now[0] = KEPT_S * 1_000_000

    assert store.load("old") is None
    assert SECOND == store.load("kept")


def test_it_is_kept_for_a_week_on_redis(redis_broker: Broker) -> None:
    """The server forgets it by itself."""
    client = Redis.from_url(redis_broker.url)
    RedisCheckpoints(client, "test").save("id", FIRST)

    assert KEPT_S - 5 <= client.ttl("{celery-budget:test}:checkpoint:id") <= KEPT_S


def test_a_store_that_is_gone_says_so() -> None:
    """What it says names the setting."""
    store = RedisCheckpoints(connect("redis://127.0.0.1:1"), "test")
    for use in (
        lambda: store.save("id", FIRST),
        lambda: store.load("id"),
        lambda: store.forget("id"),
    ):
        with pytest.raises(StateUnavailable, match="budget_state_url"):
            use()
