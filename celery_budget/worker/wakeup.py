"""How a worker's loop is woken, with an event loop and without one."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from celery.worker.state import maybe_shutdown

if TYPE_CHECKING:
    from celery.worker.consumer import Consumer

    from celery_budget.worker.pump import Pump

#: Longest wait in one turn of a loop without a hub while the worker is busy, seconds. Such a loop
#: cannot be woken by a slot that becomes free; 20 ms is little beside the waiting that greenlets
#: are used for, and costs 50 empty polls a second.
SLICE_S = 0.02


class WakePipe:
    """Wakes the event loop from a timer or another thread.

    The hub sleeps in poll even when a timer or a callback has just given it work for its next
    turn; only a readable file descriptor ends that.
    """

    def __init__(self, hub: Any, awake: Callable[[], None]) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._awake = awake
        self._hub = hub

    def register(self) -> None:
        """Let the loop watch the pipe; again after each connection loss, which resets the hub."""
        self._hub.add_reader(self._reader, self._drain)

    def wake(self) -> None:
        """Make the loop call `awake`; from any thread."""
        try:
            os.write(self._writer, b"\0")
        except BlockingIOError:
            return  # the pipe is full of earlier calls: the loop will wake

    def _drain(self) -> None:
        try:
            while os.read(self._reader, 4096):
                pass
        except BlockingIOError:
            self._awake()

    def close(self) -> None:
        """Give the file descriptors back."""
        self._hub.remove(self._reader)
        os.close(self._reader)
        os.close(self._writer)


class SlicedConnection:
    """A connection whose waits end early while the worker is busy.

    Celery's loop for pools without a hub waits two seconds for a message; a slot that becomes
    free meanwhile must open its band's window before that.
    """

    def __init__(self, connection: Any, consumer: Consumer, pump: Pump) -> None:
        self._connection = connection
        self._consumer = consumer
        self._pump = pump

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def drain_events(self, timeout: float) -> None:
        """Take messages for `timeout` seconds, in slices while the worker is busy.

        Goes on after a message: Celery's loop spends 100 ms between two calls on another
        connection, too long for a slot to stay empty.
        """
        end = monotonic() + timeout
        while True:
            maybe_shutdown()
            self._consumer.perform_pending_operations()
            left = end - monotonic()
            if left <= 0:
                raise TimeoutError
            try:
                self._connection.drain_events(
                    timeout=min(SLICE_S, left) if self._pump.is_busy else left
                )
            except TimeoutError:
                continue
