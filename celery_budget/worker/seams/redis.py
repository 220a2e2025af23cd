"""Undocumented attributes of kombu's virtual channels and its Redis transport.

Holds for kombu 5.6 and 5.7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from amqp import Message as AmqpMessage
from amqp import spec
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads


def gate(channel: Any, room: Callable[[], int]) -> None:
    """Let a virtual channel (Redis) poll only while `room()` is positive.

    A fetch that is under way is let through: its answer may be a message that Redis has already
    handed out. kombu 5.7 leaves such an answer unread while nothing may be consumed, so that the
    message is in no queue, in no worker, and lost if this process is killed.
    Relies on the poller asking `channel.qos.can_consume()` before each fetch and each read, the
    same handle that Celery's `worker_disable_prefetch` uses, and on `Channel._in_poll`.
    """
    channel.qos.can_consume = lambda: bool(channel._in_poll) or room() > 0
    channel.qos.can_consume_max_estimate = room


def take_turns(
    channel: Any, order: Callable[[list[str]], list[str]], came: Callable[[str], None]
) -> None:
    """Let a virtual channel (Redis) ask its queues in an order that is told before each fetch.

    Relies on `Channel._queue_cycle`, of the kind that the transport option `queue_order_strategy`
    names: `consume` gives the queues of one BRPOP, `rotate` tells which of them had a message, just
    before it is delivered.

    Args:
        channel: Of one band.
        order: Sorts the names of its queues: the one to be asked first comes first.
        came: Told of each message: the queue that brought it.
    """
    channel._queue_cycle = _Turns(order, came)
    channel._update_queue_cycle()


class _Turns:
    """Stands where kombu keeps its round robin."""

    def __init__(
        self, order: Callable[[list[str]], list[str]], came: Callable[[str], None]
    ) -> None:
        self._order = order
        self._came = came
        self._queues: list[str] = []

    def update(self, queues: Iterable[str]) -> None:
        self._queues = list(queues)

    def consume(self, most: int) -> list[str]:
        return self._order(self._queues)[:most]

    def rotate(self, queue: str) -> str:
        self._came(queue)
        return queue


def reuse_client(channel: Any) -> None:
    """Let a virtual channel (Redis) claim and acknowledge through one client.

    kombu 5.7 makes a client for each of these commands. redis-py builds its table of commands
    anew each time: a sixth of the main process's time on tasks that do nothing. A client holds
    nothing but its connection pool, and the pool gives each command a connection of its own.
    Relies on `Channel._create_client` and `Channel.pool`; the asynchronous client, which waits
    for messages on its own connection, stays as it is.
    """
    create = channel._create_client
    client = None

    def create_client(asynchronous: bool = False) -> Any:
        nonlocal client
        if asynchronous:
            return create(asynchronous=True)
        if client is None or client.connection_pool is not channel.pool:
            client = create()
        return client

    channel._create_client = create_client


def return_to_front(messages: list[Any]) -> None:
    """Give messages back to the front of their queues, the first of them first again.

    kombu's own requeue over Redis takes two transactions of several round trips a message: 1,000
    held messages would outlast the patience of whoever stops the worker. Redis messages go
    back in one transaction instead, with kombu's own keys and format; others by `requeue`.
    Relies on the Redis `Channel.ack_emulation`, on `QoS._quick_ack` and on `Message._state`.

    Args:
        messages: In order of arrival.
    """
    claimed: dict[Any, list[Any]] = {}
    for message in messages:
        if getattr(message.channel, "unacked_key", None) and message.channel.ack_emulation:
            claimed.setdefault(message.channel, []).append(message)
    for channel, batch in claimed.items():
        _restore(channel, [message.delivery_tag for message in batch])
        for message in batch:
            channel.qos._quick_ack(message.delivery_tag)
            message._state = "REQUEUED"
    # A quorum queue has them again in the order of their return, a classic one in its own.
    for message in messages:
        if not message.acknowledged:
            message.requeue()


def is_open(channel: Any) -> bool:
    """Tell whether a channel was not closed. Relies on `connection` of all kinds of channels."""
    return getattr(channel, "connection", None) is not None


def send_again(message: Any, headers: dict[str, Any], queue: str, channel: Any) -> None:
    """Put a copy of a message with other headers into its queue, and acknowledge the message.

    On Redis to the front, in one transaction. An AMQP broker has no way to the front for a copy,
    and nobody waits for it to confirm, as the loop must not wait.
    py-amqp's own publish would look for frames first, and call what they are for in between.
    Relies on what `return_to_front` does, on `Message.serializable` of kombu's virtual transports,
    and on py-amqp's `Channel.send_method` and `amqp.spec`.

    Args:
        message: As it came.
        headers: Of the copy.
        queue: From which it came, for exchanges that may have several queues for one key.
        channel: To send it on; the one on which it came unless it is acknowledged.
    """
    exchange = message.delivery_info.get("exchange") or ""
    key = message.delivery_info.get("routing_key") or queue
    if exchange and queue:
        exchange, key = "", queue
    if getattr(message, "serializable", None) is None:
        properties = {**message.properties, "application_headers": headers}
        body = message.body.encode() if isinstance(message.body, str) else message.body
        published = (0, exchange, key, False, False)
        channel.send_method(spec.Basic.Publish, "Bssbb", published, AmqpMessage(body, **properties))
        if not message.acknowledged:
            message.ack()
        return
    payload = {**message.serializable(), "headers": headers}
    tag = None if message.acknowledged else message.delivery_tag
    with channel.conn_or_acquire() as client, client.pipeline(transaction=True) as pipe:
        channel._do_restore_message(payload, exchange, key, pipe)
        if tag is not None:
            pipe.hdel(channel.unacked_key, tag)
            pipe.zrem(channel.unacked_index_key, tag)
        pipe.execute()
    if tag is not None:
        channel.qos._quick_ack(tag)
        message._state = "ACK"


def reclaim(lost: Iterable[Any], channel: Any) -> int:
    """Give back what channels of a lost connection still claim; tell how many messages.

    An AMQP broker has returned its messages by itself. Claims in Redis outlive the connection,
    by an hour unless the user says otherwise; kombu gives them back as it closes the channels,
    and stops at the first one whose socket is broken while it waits for an answer.
    Relies on the Redis `Channel._qos`, `QoS._flush` and `QoS._delivered`.

    Args:
        lost: In order of rank.
        channel: On the new connection.
    """
    count = 0
    for old in lost:
        if getattr(old, "unacked_key", None) and old.ack_emulation and old._qos is not None:
            old._qos._flush()
            tags = list(old._qos._delivered)
            _restore(channel, tags)
            old._qos._delivered.clear()
            count += len(tags)
    return count


def _restore(channel: Any, tags: list[str]) -> None:
    """Put claimed messages back into their lists, the first of them first again.

    Relies on the Redis `Channel`: `unacked_key`, `unacked_index_key`, `conn_or_acquire` and
    `_do_restore_message`.
    """
    if not tags:
        return
    with channel.conn_or_acquire() as client:
        # What another worker has taken over meanwhile (visibility time-out) is no longer ours.
        with client.pipeline(transaction=False) as pipe:
            for tag in tags:
                pipe.hget(channel.unacked_key, tag)
            claims = pipe.execute()
        with client.pipeline(transaction=True) as pipe:
            for tag, claim in reversed(list(zip(tags, claims, strict=True))):
                if claim is not None:
                    payload, exchange, routing_key = loads(bytes_to_str(claim))
                    # Messages are taken from the right end; kombu calls the other one leftmost.
                    channel._do_restore_message(payload, exchange, routing_key, pipe)
                    pipe.hdel(channel.unacked_key, tag)
                    pipe.zrem(channel.unacked_index_key, tag)
            pipe.execute()


def redis_client(channel: Any) -> Any:
    """Give a client on a Redis channel's connections that takes keys as they are.

    kombu's own client adds `global_keyprefix` to the keys of some commands and not of others.
    Relies on the Redis `Channel.pool`.
    """
    from redis import Redis  # noqa: PLC0415 - only where the broker is Redis

    return Redis(connection_pool=channel.pool)


def redis_lists(channel: Any, queue: str) -> list[str]:
    """Name the lists that hold a queue's messages, by priority, as the server knows them.

    Relies on the Redis `Channel`: `global_keyprefix`, `priority_steps` and `_q_for_pri`.
    """
    prefix = channel.global_keyprefix
    return [f"{prefix}{channel._q_for_pri(queue, step)}" for step in channel.priority_steps]


def redis_depths(channel: Any, queues: list[str]) -> dict[str, int]:
    """Count the messages that wait in each of many queues, in one round trip."""
    counted = [queue for queue in queues for _ in channel.priority_steps]
    depths = dict.fromkeys(queues, 0)
    with redis_client(channel).pipeline(transaction=False) as pipe:
        for queue in queues:
            for key in redis_lists(channel, queue):
                pipe.llen(key)
        for queue, length in zip(counted, pipe.execute(), strict=True):
            depths[queue] += length
    return depths


def redis_heads(channel: Any, queues: list[str]) -> list[tuple[str, bytes]]:
    """Read the message that is taken next from each list of many queues, in one round trip."""
    lists = [(queue, key) for queue in queues for key in redis_lists(channel, queue)]
    with redis_client(channel).pipeline(transaction=False) as pipe:
        for _, key in lists:
            pipe.lindex(key, -1)  # the end from which kombu's Redis transport takes
        heads = pipe.execute()
    return [
        (queue, head) for (queue, _), head in zip(lists, heads, strict=True) if head is not None
    ]


def redis_list(channel: Any, queue: str, payload: Any) -> str:
    """Name the list into which a message of its priority goes.

    Relies on the Redis `Channel`: `global_keyprefix`, `_get_message_priority`, `_q_for_pri`.
    """
    priority = channel._get_message_priority(payload, reverse=False)
    return f"{channel.global_keyprefix}{channel._q_for_pri(queue, priority)}"


def redis_unacknowledged(channel: Any) -> str:
    """Name the hash of messages that were fetched and not acknowledged, by delivery tag.

    Relies on the Redis `Channel`: `global_keyprefix`, `unacked_key`.
    """
    return f"{channel.global_keyprefix}{channel.unacked_key}"
