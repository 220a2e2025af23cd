"""What a worker tells the fleet of arrivals, every few seconds, and what it hears: values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from celery_budget.core.season import REST, SEEN, WEEK, WEEKS, Row, Rows
from celery_budget.units import LARGEST

#: Entries of one tally: bounds the time for which it keeps the store busy, and leaves as many as
#: there may be bands beside those that say that somebody counts. On Redis 128 take 0.8 ms in a
#: fleet of 200 workers, and the usual few 0.2 ms (two shared cores, 2026-11).
MOST_ENTRIES = 128

#: Task types of a band that have a row of their own in a week; the others share one.
MOST_TYPES = 8

#: The largest count of a row: four bytes on Redis.
MOST_COUNT = 2**32 - 1

#: A worker that has told nothing for so long takes no part any more, seconds: four tallies.
CREW_S = 20

#: Bands of one tally, as many as a policy may have.
_MOST_BANDS = 64


class Entry(NamedTuple):
    """What has come of one task type in one bin.

    Attributes:
        band: Its name.
        task: Task type, or `REST` or `SEEN`.
        bin: In which they were published; see `season.bin_of`.
        arrivals: How many.
        busy_us: For how long they occupied slots, microseconds.
    """

    band: str
    task: str
    bin: int
    arrivals: int
    busy_us: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What a worker has counted since its last tally.

    Raises:
        ValueError: An entry is there twice, there are too many, or a number is not what it may be.

    Attributes:
        worker: A name that no other process has, nor had.
        number: 1 for its first tally; the same again when it is repeated, unchanged.
        slots: Of the worker.
        at: When it was written, Unix seconds.
        bin: In which that is.
        bands: Of which it starts tasks, and wants to hear.
        entries: What it has counted, of these bands.
    """

    worker: str
    number: int
    slots: int
    at: float
    bin: int
    bands: tuple[str, ...]
    entries: tuple[Entry, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < len(set(self.bands)) == len(self.bands) <= _MOST_BANDS:
            raise ValueError(f"a tally names 1 to {_MOST_BANDS} bands, each once")
        if len(self.entries) > MOST_ENTRIES:
            raise ValueError(f"a tally has at most {MOST_ENTRIES} entries, not {len(self.entries)}")
        if len({entry[:3] for entry in self.entries}) < len(self.entries):
            raise ValueError("a tally names each task once a bin")
        if not 0 < self.number <= LARGEST or not 0 < self.slots <= LARGEST:
            raise ValueError(f"impossible number {self.number} or slots {self.slots}")
        for entry in self.entries:
            if (
                entry.band not in self.bands
                or not self.bin // WEEK - WEEKS <= entry.bin // WEEK <= self.bin // WEEK
                or not 0 <= entry.arrivals <= MOST_COUNT
                or not 0 <= entry.busy_us <= LARGEST
            ):
                raise ValueError(f"impossible {entry}")


class Recent(NamedTuple):
    """What the fleet has counted of one band in the last hours.

    Attributes:
        crew: Slots of each worker that takes part, by name.
        first: The bin with which the rows begin; all bins are of one week.
        rows: By task type.
    """

    crew: dict[str, int]
    first: int
    rows: Rows


def add(rows: Rows, entry: Entry) -> None:
    """Add an entry to the rows of its week; Redis does the same in `lua/count.lua`."""
    task = entry.task
    if task not in rows and len(rows.keys() - {REST, SEEN}) >= MOST_TYPES and task != SEEN:
        task = REST
    row = rows.setdefault(task, Row())
    row.busy_us = min(LARGEST, row.busy_us + entry.busy_us)
    if entry.arrivals:
        place = entry.bin % WEEK
        row.counts.extend([0] * (place + 1 - len(row.counts)))
        row.counts[place] = min(MOST_COUNT, row.counts[place] + entry.arrivals)
