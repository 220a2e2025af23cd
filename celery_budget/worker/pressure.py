"""Pressure on a worker's node: looked at in a thread of its own, and told to the dispatcher.

Reading the memory of processes takes milliseconds, for which the loop has no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from threading import Event, Thread
from time import time
from typing import TYPE_CHECKING

import psutil
from celery.utils.log import get_logger

from celery_budget.core.pressure import Sample
from celery_budget.units import format_amount
from celery_budget.worker.tree import ProcessTree

if TYPE_CHECKING:
    from celery_budget.core.dispatcher import Dispatcher
    from celery_budget.core.processors import Use
    from celery_budget.core.ticket import Ticket
    from celery_budget.worker.channels import Channels
    from celery_budget.worker.intake import Held
    from celery_budget.worker.node import NodeGauge
    from celery_budget.worker.processors import ProcessorGauge

logger = get_logger(__name__)

#: Between two looks, seconds. A task that takes all it can get fills some gigabytes in that time;
#: a look takes 1 ms and 0.1 ms for each child (two shared cores, 2026-11).
PERIOD_S = 0.5


class NodeWatch:
    """Looks at the node of one worker.

    Args:
        gauge: Reads what the kernel tells.
        running: Gives what runs now, from any thread.
        has_children: Whether each task runs in a process of its own, so that its memory is known.
        processors: Reads who keeps them busy; None where nobody wants to know.
    """

    def __init__(
        self,
        gauge: NodeGauge,
        running: Callable[[], Iterable[Held]],
        *,
        has_children: bool,
        processors: ProcessorGauge | None = None,
    ) -> None:
        self._gauge = gauge
        self._processors = processors
        self._running = running
        self._has_children = has_children
        self._base = 0
        self._found: tuple[Sample, dict[Ticket, int], Use | None] | None = None
        self._wake: Callable[[], None] | None = None
        self._is_closed = Event()
        self._thread: Thread | None = None
        self._was_pressed = False

    def open(self, wake: Callable[[], None]) -> None:
        """Begin, or go on after a reconnect.

        Args:
            wake: Makes the loop call `poll`; from any thread.
        """
        self._wake = wake
        if self._thread is None:
            # Children are forked from this process, and begin with about what it has.
            self._base = int(psutil.Process().memory_info().rss) if self._has_children else 0
            self._look()  # before anything starts
            self._thread = Thread(target=self._watch, name="celery-budget node", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End for good."""
        self._is_closed.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self) -> None:
        while not self._is_closed.wait(PERIOD_S):
            self._look()
            if self._wake is not None:
                self._wake()

    def _look(self) -> None:
        memory = self._gauge.memory()
        sample = Sample(memory.used, memory.limit, self._gauge.stall(), self._base)
        pids: dict[Ticket, int] = {}
        if self._has_children:
            pids = {
                held: held.request.worker_pid
                for held in self._running()
                if held.request.worker_pid is not None
            }
        use = None if self._processors is None else self._processors.look(pids)
        self._found = sample, self._using(pids), use

    def _using(self, pids: Mapping[Ticket, int]) -> dict[Ticket, int]:
        """Tell what running tasks take beside what their children had before, bytes."""
        using: dict[Ticket, int] = {}
        for ticket, pid in pids.items():
            taken = ProcessTree(pid).total_bytes()
            if taken is not None:
                using[ticket] = max(0, taken - self._base)
        return using

    @property
    def has_found(self) -> bool:
        """Whether `poll` has something to tell."""
        return self._found is not None

    def poll(self, dispatcher: Dispatcher, channels: Channels | None) -> None:
        """Tell the dispatcher what the last look told; in the loop.

        Args:
            dispatcher: Of the worker.
            channels: Of its bands, if they have windows.
        """
        found, self._found = self._found, None
        if found is None:
            return
        sample, using, use = found
        dispatcher.look(sample, using, time(), use)
        is_pressed = dispatcher.is_pressed
        if is_pressed == self._was_pressed:
            return
        self._was_pressed = is_pressed
        if channels is not None:
            # Before anything goes back: RabbitMQ would send it here again.
            channels.changed()
        told = (_rounded(sample.used), _rounded(sample.limit), 100 * sample.stall)
        if is_pressed:
            logger.warning(
                "This node is under pressure: %s of %s in use, all work stalled for %.0f %% of the "
                "time. Tasks of lesser bands start on other nodes until that is over.",
                *told,
            )
        else:
            logger.info(
                "This node is under pressure no more: %s of %s in use, stalls %.0f %%.", *told
            )


def _rounded(units: int) -> str:
    return format_amount("memory", units >> 20 << 20)
