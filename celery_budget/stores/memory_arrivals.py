"""The fleet's arrivals in memory: the reference that the others are compared with, and for tests.

One process only. Nothing here decides; `core/tally.py` says how counts add up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from celery_budget.core.season import RECENT, WEEK, WEEKS, Row, Rows
from celery_budget.core.tally import CREW_S, Recent, Tally, add

#: A week of which nothing was counted for so long is forgotten, microseconds: 8 weeks, more than a
#: season looks back.
IDLE_US = 8 * 7 * 86_400_000_000

#: So long after a worker's last tally it may still be repeated.
REPEATED_US = 3_600_000_000

_CREW_US = CREW_S * 1_000_000


@dataclass(slots=True)
class _Kept:
    at: int
    rows: Rows = field(default_factory=dict)


class MemoryArrivals:
    """Counts in a dict, each tally under a lock.

    Args:
        clock: Gives microseconds.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._lock = Lock()
        self.clear()

    def clear(self) -> None:
        """Lose everything, as a server does that keeps nothing on disk."""
        #: By band and week, in the order of their times.
        self._kept: OrderedDict[tuple[str, int], _Kept] = OrderedDict()
        self._numbers: OrderedDict[str, tuple[int, int]] = OrderedDict()
        #: Of each band: slots of each worker, and when it told them.
        self._crews: dict[str, dict[str, tuple[int, int]]] = {}

    def count(self, tally: Tally) -> dict[str, Recent]:
        """Take a tally in; see `ArrivalStore.count`."""
        with self._lock:
            now = self._clock()
            self._forget(now)
            last, _ = self._numbers.get(tally.worker, (0, 0))
            if tally.number > last:
                self._numbers[tally.worker] = tally.number, now
                self._numbers.move_to_end(tally.worker)
                for entry in tally.entries:
                    key = entry.band, entry.bin // WEEK
                    kept = self._kept.setdefault(key, _Kept(now))
                    kept.at = now
                    self._kept.move_to_end(key)
                    add(kept.rows, entry)
            return {band: self._recent(band, tally, now) for band in tally.bands}

    def _recent(self, band: str, tally: Tally, now: int) -> Recent:
        crew = self._crews.setdefault(band, {})
        crew[tally.worker] = tally.slots, now
        for worker, (_, told) in list(crew.items()):
            if told <= now - _CREW_US:
                del crew[worker]
        week, place = divmod(tally.bin, WEEK)
        first = max(0, place - RECENT)
        kept = self._kept.get((band, week))
        rows = {} if kept is None else kept.rows
        return Recent(
            {worker: slots for worker, (slots, _) in crew.items()},
            week * WEEK + first,
            {task: Row(row.busy_us, row.counts[first:]) for task, row in rows.items()},
        )

    def _forget(self, now: int) -> None:
        while self._kept and next(iter(self._kept.values())).at <= now - IDLE_US:
            self._kept.popitem(last=False)
        while self._numbers and next(iter(self._numbers.values()))[1] <= now - REPEATED_US:
            self._numbers.popitem(last=False)

    def weeks(self, band: str, newest: int) -> dict[int, Rows]:
        """Look weeks up; see `ArrivalStore.weeks`."""
        with self._lock:
            self._forget(self._clock())
            return {
                week: {task: Row(row.busy_us, row.counts.copy()) for task, row in kept.rows.items()}
                for week in range(newest - WEEKS, newest + 1)
                if (kept := self._kept.get((band, week))) is not None
            }
