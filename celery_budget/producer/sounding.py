"""How many messages wait in queues, as their broker tells over one connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from kombu import Connection, Queue


class Sounding:
    """Asks a broker for the depths of queues, in one channel as far as that stays open.

    Args:
        connection: Of the caller's own.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel: Any = None

    @property
    def channel(self) -> Any:
        """The channel in which it asks."""
        if self._channel is None:
            self._channel = self._connection.channel()
        return self._channel

    def depth(self, queue: Queue) -> int:
        """Count the messages that wait in a queue; one that does not exist has 0.

        Args:
            queue: As it was declared.
        """
        try:
            declared = queue(self.channel).queue_declare(passive=True)
        except self._connection.channel_errors:
            # RabbitMQ closes a channel in which a queue was asked for that does not exist.
            self.close()
            return 0
        return int(declared.message_count)

    def close(self) -> None:
        """Close the channel; it may be asked again, in another one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
