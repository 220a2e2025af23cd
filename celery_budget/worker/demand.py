"""What a worker's windows ask for: the dispatcher's demand, within Celery's own limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery_budget.core.dispatcher import Dispatcher
    from celery_budget.core.member import Demand

    Ask = Callable[[str], Demand]


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

    def __call__(self, band: str) -> Demand:
        """Tell the demand for a band."""
        wanted, ahead, held = self._dispatcher.demand(band)
        return max(wanted, self._most_slots - self._dispatcher.slots), ahead, held


class FairDemand:
    """The demand of a band with lanes over Redis, in which few messages are fetched ahead.

    With a backlog in a lane these are mostly of its tenant, and each of them has the next slot that
    becomes free before somebody else's message is asked for. So there are none while less than one
    is due for each slot, with tasks of more than 50 ms: these then start a fetch later, which is
    2 % of their time at most. Over AMQP the empty lanes are open at that time too, so that others'
    messages come beside. Measured with tests/benchmarks/lanes (2026-11): the p95 of the others was
    2.9 times as long with the look-ahead as without a backlog, and 1.9 times without it.

    Args:
        dispatcher: Tells the demand with all of the look-ahead.
        has_lanes: Tells whether a band has lanes.
    """

    def __init__(self, dispatcher: Dispatcher, has_lanes: Callable[[str], bool]) -> None:
        self._dispatcher = dispatcher
        self._has_lanes = has_lanes

    def __call__(self, band: str) -> Demand:
        """Tell the demand for a band."""
        wanted, ahead, held = self._dispatcher.demand(band)
        if 0 < ahead < self._dispatcher.slots and self._has_lanes(band):
            return wanted - ahead, 0, held
        return wanted, ahead, held


class LimitedDemand:
    """The demand of a worker that may park only so many messages (`worker_eta_task_limit`).

    Any message may turn out to have an ETA, and a prefetch count stays when what it was meant for
    has started. So, as in Celery, what is parked and what a band holds count together. Several
    bands may each ask for what is left of the limit.

    Args:
        ask: Tells the demand without the limit.
        limit: Most parked messages.
        parked: Counts them.
    """

    def __init__(self, ask: Ask, limit: int, parked: Callable[[], int]) -> None:
        self._ask = ask
        self._limit = limit
        self._parked = parked

    def __call__(self, band: str) -> Demand:
        """Tell the demand for a band."""
        wanted, ahead, held = self._ask(band)
        if wanted <= held and not ahead:
            # Not while slots are full: on Celery 5.6 counting takes time in proportion to the
            # limit.
            return wanted, ahead, held
        left = max(0, self._limit - self._parked())
        return min(wanted, left), min(ahead, left), held
