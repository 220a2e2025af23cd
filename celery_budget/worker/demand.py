"""What a worker's windows ask for: the dispatcher's demand, within Celery's own limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery_budget.core.dispatcher import Dispatcher
    from celery_budget.worker.window import Demand


class GrowingDemand:
    """The demand of a pool that may grow.

    Celery's autoscaler grows the pool only when more is reserved than fits.

    Args:
        dispatcher: Counts with the slots there are.
        most_slots: How many there may be.
    """

    def __init__(self, dispatcher: Dispatcher, most_slots: int) -> None:
        self._dispatcher = dispatcher
        self._most_slots = most_slots
        self.held = dispatcher.held
        self.look_ahead = dispatcher.look_ahead

    def window(self, band: str) -> int:
        """Tell how many more messages of a band the worker could use."""
        dispatcher = self._dispatcher
        room = dispatcher.window(band)
        growth = self._most_slots - dispatcher.slots
        return max(room, growth - dispatcher.held(band))


class LimitedDemand:
    """The demand of a worker that may park only so many messages (`worker_eta_task_limit`).

    Args:
        demand: Without the limit.
        is_full: Whether the limit is reached.
    """

    def __init__(self, demand: Demand, is_full: Callable[[], bool]) -> None:
        self._demand = demand
        self._is_full = is_full
        self.held = demand.held
        self.look_ahead = demand.look_ahead

    def window(self, band: str) -> int:
        """Tell how many more messages of a band the worker could use."""
        return 0 if self._is_full() else self._demand.window(band)
