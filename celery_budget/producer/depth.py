"""How many messages wait in a queue, as its broker tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kombu import Connection, Queue


def depth(connection: Connection, queue: Queue) -> int:
    """Count the messages that wait in a queue; one that does not exist has 0.

    Args:
        connection: Of the caller's own; it is asked in a channel of its own, as RabbitMQ closes
            that in which a queue was asked for that does not exist.
        queue: As it was declared.
    """
    with connection.channel() as channel:
        try:
            declared = queue(channel).queue_declare(passive=True)
        except connection.channel_errors:
            return 0
    return int(declared.message_count)
