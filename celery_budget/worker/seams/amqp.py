"""Undocumented attributes of py-amqp and of kombu's consumers over it.

Holds for kombu 5.6 and 5.7, py-amqp 5.3.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable
from struct import Struct
from typing import Any

from amqp import spec
from amqp.exceptions import RecoverableConnectionError, UnexpectedFrame
from amqp.transport import TCPTransport

#: Head of an AMQP frame: type, channel, size of what follows; and the octet that ends a frame.
FRAME_HEAD = Struct(">BHI")
FRAME_END = 0xCE

#: A whole frame of `basic.ack`: head, class and method, delivery tag, whether all before it, end.
ACKNOWLEDGEMENT = Struct(">BHIHHQBB")

#: Most bytes taken from a socket at once: some hundred messages of ordinary size.
BULK_BYTES = 65_536


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
            data = receive(BULK_BYTES, socket.MSG_DONTWAIT)
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


def send_consume(consumer: Any, queues: Collection[str]) -> dict[str, str]:
    """Start consuming from some queues of a kombu consumer without waiting; give their tags.

    Relies on `kombu.Consumer._basic_consume` (its public `consume` waits for the last answer).
    """
    return {
        queue.name: consumer._basic_consume(queue, nowait=True)
        for queue in consumer.queues
        if queue.name in queues
    }


def send_cancel(consumer: Any, queues: Iterable[str]) -> None:
    """Ask the broker to send no more from these queues, without waiting.

    Messages on their way still find their callback, because py-amqp drops it only when the
    broker's answer arrives. Relies on `Channel.send_method` and `kombu.Consumer._active_tags`.
    """
    for queue in queues:
        tag = consumer._active_tags.pop(queue, None)
        if tag is not None:
            consumer.channel.send_method(spec.Basic.Cancel, "sb", (tag, False))


def acknowledge_directly(channel: Any) -> None:
    """Let a channel send an acknowledgement as the 21 octets it is.

    py-amqp makes a promise, packs bit by bit and copies twice for it: 6 % of the main process's
    time on tasks that do nothing. Only for channels whose frames are all written in one thread:
    py-amqp's own writer takes a lock.
    Relies on `Channel.basic_ack`, `connection`, `channel_id`, and on `Connection.transport` and
    `bytes_sent`, which heartbeats watch.
    """
    connection, number, pack = channel.connection, channel.channel_id, ACKNOWLEDGEMENT.pack
    write = connection.transport.write
    size, method = ACKNOWLEDGEMENT.size - FRAME_HEAD.size - 1, spec.Basic.Ack

    def basic_ack(delivery_tag: int = 0, multiple: bool = False) -> None:
        if channel.connection is None:
            raise RecoverableConnectionError("the channel is closed")
        write(pack(1, number, size, *method, delivery_tag, multiple, FRAME_END))
        connection.bytes_sent += 1

    channel.basic_ack = basic_ack
