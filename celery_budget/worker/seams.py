"""Every undocumented attribute of Celery, kombu and py-amqp that the package touches.

Nothing else in the package reaches past a documented interface. Each function names what it
relies on; `tests/compat/test_seams.py` fails when a release moves one of them.
Holds for celery 5.6 and 5.7, kombu 5.6 and 5.7, py-amqp 5.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from socket import MSG_DONTWAIT
from struct import Struct
from typing import Any

from amqp import spec
from amqp.exceptions import UnexpectedFrame
from amqp.transport import TCPTransport
from celery.worker import state
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

#: Celery's step that asks the other workers, by name: a sender has no use for loading it.
MINGLE = "celery.worker.consumer.mingle.Mingle"

#: Head of an AMQP frame: type, channel, size of what follows; and the octet that ends a frame.
FRAME_HEAD = Struct(">BHI")
FRAME_END = 0xCE

#: Most bytes taken from a socket at once: some hundred messages of ordinary size.
BULK_BYTES = 65_536

#: Field of the answer to Celery's `hello` that carries the moves a worker knows of.
MINGLED = "budget_moves"


def process_task(consumer: Any) -> Callable[[Any], object]:
    """Find the worker's own way into the pool, without the pool semaphore in front of it.

    The dispatcher already bounds what is submitted to the number of slots. Waiting for the
    semaphore as well would only hide whether a request reached the pool.
    Relies on `WorkController._process_task` and `_process_task_sem`.
    """
    controller = consumer.controller
    if consumer.on_task_request == getattr(controller, "_process_task_sem", None):
        process: Callable[[Any], object] = controller._process_task
        return process
    given: Callable[[Any], object] = consumer.on_task_request
    return given


def most_slots(consumer: Any) -> int:
    """Tell how many slots the autoscaler may make of the pool; 0 without an autoscaler.

    Relies on `WorkController.autoscale` and `max_concurrency` (set by the Pool bootstep).
    """
    controller = consumer.controller
    if getattr(controller, "autoscale", None):
        return int(controller.max_concurrency or 0)
    return 0


def newest_greenlet(pool: Any) -> Any:
    """Find the greenlet of the last submission; eventlet's pool does not return it.

    Relies on `TaskPool._pool_map` of the gevent and eventlet pools, in order of submission.
    """
    return next(reversed(pool._pool_map.values()))


def flush(pool: Any) -> None:
    """Let the prefork pool drop what no child has taken, and nothing that a child runs.

    Celery 5.6.0 drops all: nobody is told of their ends, and no slot becomes free again.
    Relies on `TaskPool._pool`, `Pool._cache` and the jobs' `_job`, `_accepted` and `ready`.
    """
    cache = pool._pool._cache
    running = [job for job in list(cache.values()) if job._accepted]
    pool.flush()
    for job in running:
        if not job.ready():
            cache[job._job] = job


def forget(request: Any) -> None:
    """Take a request that will not run here out of the worker's own books.

    Relies on `celery.worker.state.task_ready`, which Celery calls when a task has ended.
    """
    state.task_ready(request)


def revoked_ids() -> Any:
    """Give the worker's set of revoked task ids. Relies on `celery.worker.state.revoked`."""
    return state.revoked


def scheduled(consumer: Any) -> list[Any]:
    """List the requests that wait for their ETA, as `celery inspect scheduled` does.

    Relies on the arguments of the timer's entries being the requests.
    """
    return [
        entry.entry.args[0]
        for entry in list(consumer.timer.schedule.queue)
        if entry.entry.args and hasattr(entry.entry.args[0], "request_dict")
    ]


def parked(consumer: Any) -> int:
    """Count the requests that wait for their ETA.

    Relies on `celery.worker.state.scheduled_requests` of Celery 5.7; 5.6 has only the timer.
    """
    known = getattr(state, "scheduled_requests", None)
    return len(scheduled(consumer)) if known is None else len(known)


def rate_limited(consumer: Any) -> list[Any]:
    """List the requests that wait for their task's rate limit.

    Celery counts them nowhere else. Relies on `Consumer.task_buckets` and on the buckets'
    `contents` of requests and tokens.
    """
    return [
        request
        for bucket in list(consumer.task_buckets.values())
        if bucket is not None
        for request, _tokens in list(bucket.contents)
    ]


def fetched(task_id: str) -> tuple[Any, bool] | None:
    """Find a request that Celery has fetched, and tell whether it is running.

    Relies on `celery.worker.state.requests` and `active_requests`.
    """
    request = state.requests.get(task_id)
    return None if request is None else (request, request in state.active_requests)


def is_accepted(request: Any) -> bool:
    """Tell whether the pool has said that a request runs and not yet that it has ended.

    Relies on `celery.worker.state.active_requests`.
    """
    return request in state.active_requests


def on_mingle(consumer: Any, learn: Callable[[list[Any]], object]) -> None:
    """Let a worker that starts learn, before it takes a message, what the others tell it.

    Celery's mingle asks each of them for its revoked ids at that moment; what our `hello` adds to
    the answer under `MINGLED` is given to `learn`. Without mingle nothing is learned, and
    nothing of revokes either.
    Relies on `Blueprint.steps` and on `Mingle.sync_with_node`, called with an answer's fields.
    """
    mingle = consumer.blueprint.steps.get(MINGLE)
    if mingle is None:
        return
    sync = mingle.sync_with_node

    def sync_with_node(consumer: Any, **answer: Any) -> None:
        told = answer.pop(MINGLED, None)
        sync(consumer, **answer)
        if told:
            learn(told)

    mingle.sync_with_node = sync_with_node


def persistence(consumer: Any) -> Any:
    """Give the worker's open state database (`--statedb`), or None without one.

    Relies on `WorkController._persistence`, made by the StateDB bootstep.
    """
    holder = getattr(consumer.controller, "_persistence", None)
    return None if holder is None else holder.db


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


def read_in_bulk(connection: Any, hub: Any) -> None:
    """Let the event loop take all that an AMQP connection has in one read.

    py-amqp takes each message off the socket in nine reads and each of its three frames under a
    time-out of its own, and kombu tries once more to learn that nothing is left: together 12 % of
    the main process's time on tasks that do nothing. Frames go where py-amqp sends them. What
    is left of an incomplete one stays in its own buffer, so that its blocking reads go on from
    there. A TLS socket has a buffer of its own, of which the poll knows nothing: it stays as it is.
    Relies on `Connection.transport`, `on_inbound_frame`, `TCPTransport.sock` and `_read_buffer`.
    """
    transport = connection.transport
    if not isinstance(transport, TCPTransport):
        return
    receive, on_frame = transport.sock.recv, connection.on_inbound_frame
    head, end_octet = FRAME_HEAD.unpack_from, FRAME_END

    def read() -> None:
        try:
            data = receive(BULK_BYTES, MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            transport.connected = False
            raise
        if not data:
            transport.connected = False
            raise ConnectionResetError("the broker closed the connection")
        transport._read_buffer += data
        # Looked at anew after each frame: what it brought may have made py-amqp wait for more.
        while len(buffer := transport._read_buffer) >= FRAME_HEAD.size:
            kind, channel, size = head(buffer)
            end = FRAME_HEAD.size + size
            if len(buffer) <= end:
                return
            if buffer[end] != end_octet:
                raise UnexpectedFrame(f"a frame ends in {buffer[end]:#04x}, not {end_octet:#04x}")
            transport._read_buffer = buffer[end + 1 :]
            on_frame((kind, channel, buffer[FRAME_HEAD.size : end]))

    hub.add_reader(transport.sock, read)


def send_prefetch(channel: Any, count: int) -> None:
    """Set the prefetch count for consumers that start from here on, without waiting.

    `Channel.basic_qos` waits for the broker's answer and would stop the event loop for a round
    trip; the answer carries nothing and py-amqp drops it when nobody waits.
    Relies on `Channel.send_method` and `amqp.spec`.
    """
    channel.send_method(spec.Basic.Qos, "lBb", (0, count, False))


def send_consume(consumer: Any) -> list[str]:
    """Start consuming from all queues of a kombu consumer without waiting; give the tags.

    Relies on `kombu.Consumer._basic_consume` (its public `consume` waits for the last answer).
    """
    return [consumer._basic_consume(queue, nowait=True) for queue in consumer.queues]


def send_cancel(consumer: Any, tags: Iterable[str]) -> None:
    """Ask the broker to end these consumers, without waiting.

    Messages on their way still find their callback, because py-amqp drops it only when the
    broker's answer arrives. Relies on `Channel.send_method` and `kombu.Consumer._active_tags`.
    """
    for tag in tags:
        consumer.channel.send_method(spec.Basic.Cancel, "sb", (tag, False))
    consumer._active_tags.clear()


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
