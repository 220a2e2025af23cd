"""Asking the running workers: one broadcast, answers until they suffice or time is up.

Called by the client. Knows Celery's remote control and none of our commands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from kombu import Connection

if TYPE_CHECKING:
    from celery import Celery

#: Length of one blocking read on Redis and of the pause after it, seconds: short for a person who
#: waits, and some 25 commands a second for Redis.
POLL_S = 0.02

#: What one worker answered.
Reply = Mapping[str, object]


class _Enough(Exception):  # noqa: N818 - ends a wait, no error
    """Leaves Celery's collecting of answers early."""


class Workers:
    """All workers of an app that listen to remote control.

    Attributes:
        driver: kombu's `driver_type` of the app's broker, e.g. "redis" or "amqp".
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self.driver: str = app.connection_for_write().transport.driver_type

    def ask(
        self,
        command: str,
        arguments: Mapping[str, object],
        timeout: float,
        *,
        is_enough: Callable[[Reply], bool] = lambda _reply: False,
        destination: list[str] | None = None,
    ) -> dict[str, Reply]:
        """Collect the workers' answers to a command, by node name.

        Nobody knows how many workers there are, so a call takes `timeout` unless an answer
        is enough. It ends at the latest after twice `timeout`.

        Args:
            command: Name of the remote control command.
            arguments: Its keyword arguments.
            timeout: Seconds to wait for answers.
            is_enough: Ends the wait when it is true for an answer.
            destination: Node names to ask; None: all.
        """
        answers: dict[str, Reply] = {}
        give_up = monotonic() + timeout

        def collect(body: Mapping[str, Reply]) -> None:
            answers.update(body)
            if any(is_enough(reply) for reply in body.values()) or monotonic() > give_up:
                raise _Enough

        with self._connection() as connection, suppress(_Enough):
            self._app.control.broadcast(
                command,
                arguments=dict(arguments),
                destination=destination,
                connection=connection,
                reply=True,
                timeout=timeout,
                callback=collect,
            )
        return answers

    def tell(self, command: str, arguments: Mapping[str, object]) -> None:
        """Send a command to all workers and wait for no answer."""
        self._app.control.broadcast(command, arguments=dict(arguments), reply=False)

    def _connection(self) -> Connection:
        """Open a connection on which no earlier wait is left over.

        On Redis a wait that was given up goes on as a blocking read, by default for a second. It
        listens for the answers of its own call only, and the next call on that connection would
        miss its answers meanwhile (seen with kombu 5.7).
        """
        options = {"polling_interval": POLL_S} if self.driver == "redis" else {}
        connection: Connection = self._app.connection_for_write(transport_options=options)
        return connection
