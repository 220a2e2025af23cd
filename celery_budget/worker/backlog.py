"""The backlog: how much waits in the broker for the bands of one worker.

Asked for in a thread with a connection of its own, now and then; only workers whose pool follows
the load have one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from threading import Event, Thread
from typing import TYPE_CHECKING

from celery.utils.log import get_logger

from celery_budget.producer.depth import depth

if TYPE_CHECKING:
    from celery import Celery
    from kombu import Queue

logger = get_logger(__name__)

#: Between two looks, seconds, and after a failure. A look takes 0.3 ms a queue (loopback, 2026-11).
PERIOD_S = 2.0
LOST_S = 10.0


class Backlog:
    """What waits in some queues, as it was a moment ago.

    Args:
        app: Whose broker is asked.
        queues: Gives the queues and the names of their bands; called in the thread.

    Attributes:
        waiting: Messages by name of the band, of the last look.
    """

    def __init__(self, app: Celery, queues: Callable[[], Iterable[tuple[str, Queue]]]) -> None:
        self._app = app
        self._queues = queues
        self._is_closed = Event()
        self._thread: Thread | None = None
        self._told_lost = False
        self.waiting: Mapping[str, int] = {}

    def open(self) -> None:
        """Begin; again after a reconnect changes nothing."""
        if self._thread is None:
            self._thread = Thread(target=self._watch, name="celery-budget backlog", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End for good; a question under way is not waited for."""
        self._is_closed.set()

    def _watch(self) -> None:
        while not self._is_closed.is_set():
            connection = self._app.connection_for_read()
            try:
                with connection:
                    while not self._is_closed.is_set():
                        waiting: dict[str, int] = {}
                        for band, queue in self._queues():
                            waiting[band] = waiting.get(band, 0) + depth(connection, queue)
                        self.waiting = waiting
                        self._told_lost = False
                        self._is_closed.wait(PERIOD_S)
            except connection.connection_errors as error:
                self.waiting = {}
                if not self._told_lost:
                    self._told_lost = True
                    logger.warning(
                        "The depths of queues cannot be read: %r. The pool follows what this "
                        "worker has until they can.",
                        error,
                    )
                self._is_closed.wait(LOST_S)
