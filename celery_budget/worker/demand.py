"""What a worker's windows ask for: the dispatcher's demand, within Celery's own limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery_budget.core.dispatcher import Dispatcher


class WorkerDemand:
    """The dispatcher's demand for a pool that may still grow, or a worker that may fetch no more.

    Args:
        dispatcher: Counts with the slots there are.
        most_slots: How many there may be: an autoscaled pool grows only when more is reserved
            than fits.
        is_full: Whether `worker_eta_task_limit` is reached.
    """

    def __init__(
        self, dispatcher: Dispatcher, most_slots: Callable[[], int], is_full: Callable[[], bool]
    ) -> None:
        self._dispatcher = dispatcher
        self._most_slots = most_slots
        self._is_full = is_full
        self.held = dispatcher.held
        self.look_ahead = dispatcher.look_ahead

    def window(self, band: str) -> int:
        """Tell how many more messages of a band the worker could use."""
        if self._is_full():
            return 0
        dispatcher = self._dispatcher
        growth = self._most_slots() - dispatcher.slots
        room = dispatcher.window(band)
        if growth <= 0:
            return room
        return max(room, growth - dispatcher.held(band))
