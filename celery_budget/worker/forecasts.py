"""Forecasts: when a worker tells the fleet what has arrived, and when it sets its reserves.

Tallies go with the reports of `leases.py`, in its thread. Nothing waits for them: one that is not
heard is told again. Without a ledger the worker goes by what it has counted itself.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from time import time
from typing import TYPE_CHECKING, NamedTuple

from celery.utils.log import get_logger

from celery_budget.core.season import WEEK, Rows
from celery_budget.core.tally import Recent, Tally
from celery_budget.errors import LedgerUnavailable

if TYPE_CHECKING:
    from celery_budget.core.dispatcher import Dispatcher
    from celery_budget.stores.protocols import ArrivalStore

logger = get_logger(__name__)

#: Between two tallies, and between two looks at the reserves, seconds: a small part of what is
#: looked ahead at least.
TALLY_S = 5.0


class Asked(NamedTuple):
    """What goes to the store: a tally, and whether the weeks before are wanted too."""

    tally: Tally
    wants_weeks: bool


class Told(NamedTuple):
    """What became of it.

    Attributes:
        tally: As asked.
        recent: What was counted of late, by band; or why nobody knows.
        weeks: What was counted in the weeks before, by band; None: was not asked for.
    """

    tally: Tally
    recent: Mapping[str, Recent] | LedgerUnavailable
    weeks: Mapping[str, Mapping[int, Rows]] | None = None


class Forecasts:
    """The reserves of one worker as time goes by, and what they are made of.

    Args:
        store: Only the thread of the leases calls it; None: there is none.
        dispatcher: Gives the worker's own.
        worker: A name that no other process has, nor had.
        bands: Gives the bands of which the worker gets messages.
    """

    def __init__(
        self,
        store: ArrivalStore | None,
        dispatcher: Callable[[], Dispatcher],
        worker: str,
        bands: Callable[[], Container[str]],
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._worker = worker
        self._bands = bands
        self._told_at = self._looked = -TALLY_S
        self._told_unheard = False

    def due(self, now: float, *, is_last: bool = False) -> Asked | None:
        """Give what should go with a report, if something should.

        Args:
            now: Seconds, monotonic.
            is_last: Whether the worker ends.
        """
        dispatcher = self._dispatcher()
        forecast = dispatcher.forecast
        if not forecast.seasons or (now < self._told_at + TALLY_S and not is_last):
            return None
        self._told_at = now
        tally = forecast.tally(self._worker, dispatcher.slots, time(), self._bands())
        return None if tally is None else Asked(tally, forecast.lacks(tally))

    def carry(self, asked: Asked) -> Told:
        """Wait for the store; in a thread of its own."""
        store = self._store
        assert store is not None
        tally = asked.tally
        weeks = None
        try:
            recent = store.count(tally)
            if asked.wants_weeks:
                weeks = {band: store.weeks(band, tally.bin // WEEK) for band in tally.bands}
        except LedgerUnavailable as error:
            return Told(tally, error)
        return Told(tally, recent, weeks)

    def take_in(self, told: Told, *, is_ledger_there: bool) -> None:
        """Use what the fleet has counted.

        Args:
            told: What became of the tally.
            is_ledger_there: Whether the report that it went with was answered.
        """
        if isinstance(told.recent, LedgerUnavailable):
            # A ledger that is away is told of already.
            if is_ledger_there and not self._told_unheard:
                self._told_unheard = True
                logger.warning("%s. Forecasts go by what this worker heard before.", told.recent)
            return
        self._told_unheard = False
        forecast = self._dispatcher().forecast
        if told.weeks is not None:
            forecast.remember(told.weeks, told.tally.bin // WEEK)
        forecast.heard(told.tally, told.recent)
        self._foresee()

    def look(self, now: float) -> None:
        """Let the reserves follow the time, now and then.

        Args:
            now: Seconds, monotonic.
        """
        dispatcher = self._dispatcher()
        if now < self._looked + TALLY_S or not dispatcher.forecast.seasons:
            return
        self._looked = now
        if self._store is None:
            dispatcher.forecast.keep(dispatcher.slots, time(), self._bands())
        self._foresee()

    def _foresee(self) -> None:
        dispatcher = self._dispatcher()
        if dispatcher.foresee(self._worker, time()):
            kept = (f"{dispatcher.reserve(b)} for {b}" for b in dispatcher.forecast.seasons)
            logger.info("Slots kept from now on, as the forecast says: %s.", ", ".join(kept))
