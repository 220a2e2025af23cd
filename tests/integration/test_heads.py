"""The age of what goes next, read from a real Redis without taking anything."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis
from kombu import Connection
from kombu.transport.redis import Channel

from celery_budget.headers import HEADER, Stamp, write
from celery_budget.worker.heads import MOST_BYTES, MOST_HEADS, Heads
from tests.servers import Broker

AT = 1_700_000_000.0


@pytest.fixture
def channel(redis_broker: Broker) -> Iterator[Channel]:
    """Open a channel with a prefix to all its keys, as several apps on one server have."""
    options = {"global_keyprefix": "shop:"}
    with Connection(redis_broker.url, transport_options=options) as connection:
        yield connection.default_channel


@pytest.fixture
def client(redis_broker: Broker) -> Iterator[redis.Redis]:
    """Reach the server past kombu."""
    with redis.Redis.from_url(redis_broker.url) as client:
        yield client


def publish(
    channel: Channel, queue: str, at: float, *, priority: int = 0, text: str = "body"
) -> None:
    """Put a message at the end of a queue."""
    with channel.connection.client.clone() as connection:
        producer = connection.Producer(serializer="json")
        producer.publish(
            text,
            routing_key=queue,
            declare=[connection.SimpleQueue(queue).queue],
            headers={HEADER: write(Stamp("critical", at=at))},
            priority=priority,
        )


def test_the_oldest_of_what_goes_next_counts(channel: Channel) -> None:
    """Of all queues of a band, and under each priority; nothing is taken."""
    queues = {"a": "critical", "b": "critical", "c": "critical", "d": "other"}
    heads = Heads()
    assert {} == heads.oldest(channel, queues)
    for queue, at, priority in [("a", 30, 0), ("a", 40, 0), ("b", 20, 6), ("c", 50, 0)]:
        publish(channel, queue, AT + at, priority=priority)
    publish(channel, "d", AT)

    assert {"critical": AT + 20} == heads.oldest(channel, queues)
    assert {"critical": AT + 30} == heads.oldest(channel, {"a": "critical"})
    with channel.connection.client.clone() as connection:
        taken = connection.SimpleQueue("a").get(timeout=5)
    assert AT + 30 == json.loads(taken.headers[HEADER])["at"]


def test_a_large_message_is_read_once_and_then_left_alone(
    channel: Channel, client: redis.Redis
) -> None:
    """It would come over the network each time. Smaller ones in other queues count."""
    publish(channel, "large", AT, text="x" * MOST_BYTES)
    publish(channel, "small", AT + 9)
    heads = Heads()
    queues = {"large": "critical", "small": "critical"}
    assert {"critical": AT + 9} == heads.oldest(channel, queues)
    before = client.info("commandstats")["cmdstat_lindex"]["calls"]

    assert {"critical": AT + 9} == heads.oldest(channel, queues)
    lists = len(channel.priority_steps)
    assert lists == client.info("commandstats")["cmdstat_lindex"]["calls"] - before


def test_one_look_reads_so_many_and_not_all(channel: Channel, client: redis.Redis) -> None:
    """However many lanes there are."""
    queues = {f"q{number}": "critical" for number in range(3 * MOST_HEADS)}
    client.config_resetstat()
    Heads().oldest(channel, queues)

    calls = client.info("commandstats")["cmdstat_lindex"]["calls"]
    assert MOST_HEADS * len(channel.priority_steps) == calls


@pytest.mark.parametrize("kind", [b"", b"garbage", b'{"headers": {"budget": 1}}'])
def test_garbage_hides_its_queue_alone(channel: Channel, client: redis.Redis, kind: bytes) -> None:
    """It is where the oldest message would be."""
    publish(channel, "a", AT)
    client.rpush("shop:a", kind)
    publish(channel, "b", AT + 5)

    assert {"critical": AT + 5} == Heads().oldest(channel, {"a": "critical", "b": "critical"})
