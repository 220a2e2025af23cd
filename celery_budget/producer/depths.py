"""How many messages wait in queues: asked in the background, while somebody publishes there.

Publishing never waits for it. The thread has a connection of its own, begins with the first
publish that wants to know, and ends when nobody has asked for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Event, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING

from celery.utils.log import get_logger

if TYPE_CHECKING:
    from celery import Celery
    from kombu import Connection, Queue

logger = get_logger(__name__)

#: How often the queues are asked, seconds. A task that is sent between two answers counts at once
#: in the process that sent it; what others send is seen a second late, which is short against a
#: backlog worth avoiding. 64 lanes took 8 ms on Redis and 12 ms on RabbitMQ (2026-11, loopback).
EVERY_S = 1.0

#: The asking takes at most this part of the thread's time, however slow the broker is.
PART = 0.05

#: Nobody has published for so long: the thread ends, and its connection with it.
IDLE_S = 30.0

#: Queues that one line of the log names.
MOST_NAMED = 8

#: Longest time between two tries while the broker cannot be asked.
LONGEST_S = 30.0


class Depths:
    """The depths of some queues, as they were a moment ago.

    Args:
        app: Whose broker is asked.

    Attributes:
        seen: Messages in each queue at the latest look; a queue that was never seen is missing.
        looks: How many looks there were.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._lock = Lock()
        self._thread: Thread | None = None
        self._queues: dict[str, Queue] = {}
        self._wanted_at = 0.0
        self._failures = 0
        self.seen: Mapping[str, int] = {}
        self.looks = 0

    def watch(self, queues: Iterable[Queue]) -> None:
        """Somebody publishes to some of these queues: look at them from now on."""
        self._wanted_at = monotonic()
        for queue in queues:
            if queue.name not in self._queues:
                self._queues = {**self._queues, queue.name: queue}
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    name = "celery-budget depths"
                    self._thread = Thread(target=self._run, name=name, daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        pause = Event()
        while not self._is_over():
            connection = self._app.connection_for_write()
            try:
                with connection:
                    self._look(connection, pause)
            except connection.connection_errors + connection.channel_errors as error:
                self._failures += 1
                self._tell(error)
                pause.wait(min(LONGEST_S, 2.0 ** min(self._failures, 10)))

    def _look(self, connection: Connection, pause: Event) -> None:
        """Look again and again, until nobody wants to know or the broker does not answer."""
        channel = connection.channel()
        declared: set[str] = set()
        while not self._is_over(keeps=True):
            begun = monotonic()
            seen = {}
            for name, queue in self._queues.items():
                bound = queue(channel)
                if name not in declared:
                    # All of them, so that a worker that looks for lanes finds no gap.
                    bound.declare()
                    declared.add(name)
                # Not passively: over Redis an empty queue does not exist.
                seen[name] = bound.queue_declare().message_count
            self.seen = seen
            self.looks += 1
            self._failures = 0
            pause.wait(max(EVERY_S, (monotonic() - begun) / PART))

    def _is_over(self, *, keeps: bool = False) -> bool:
        """Tell whether nobody wants to know any more, and let the next one begin anew."""
        with self._lock:
            if monotonic() - self._wanted_at < IDLE_S:
                return False
            if not keeps:
                self._thread = None
            return True

    def _tell(self, error: Exception) -> None:
        """Warn of failures, and not of each."""
        if is_news(self._failures):
            logger.warning(
                "The depths of %s cannot be read (failure %d): %r. Publishing goes on by what is "
                "known of them.",
                ", ".join(sorted(self._queues)[:MOST_NAMED]),
                self._failures,
                error,
            )


def is_news(failures: int) -> bool:
    """Tell whether to warn of a failure: of the first in a row, the tenth, the hundredth and so on.

    Args:
        failures: Which in its row it is.
    """
    return str(failures).strip("0") == "1"
