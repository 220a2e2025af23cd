"""The forecast of one worker: what it counts of arrivals, and what it expects of the fleet's.

Each band of which slots may be kept by forecast has a season. What ends here is counted and told
in tallies; what the store answers is what the whole fleet has counted. Without a store a worker
goes by what it has counted itself. Pure: the worker carries the tallies.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from celery_budget.core.season import (
    BIN_S,
    REST,
    SEEN,
    WEEK,
    WEEKS,
    Row,
    Rows,
    Season,
    bin_of,
)
from celery_budget.core.staffing import needed
from celery_budget.core.tally import MOST_COUNT, MOST_ENTRIES, Entry, Recent, Tally, add
from celery_budget.units import LARGEST

#: A task type is told by its name while at least this part of a band's arrivals is of it: of
#: others it does not matter how long they take.
NAMED = 1 / 16

#: Task types of a band that are told apart before that.
MOST_SEEN = 1_000

#: Entries that wait to be told, when the store is away for long. Of what is more than that the
#: types are not told apart, and then it is left out.
MOST_UNTOLD = 4_096

_MICROS = 1_000_000


class Forecast:
    """What one worker knows of arrivals.

    Attributes:
        seasons: By band.
        until: Up to when arrivals are counted, Unix seconds; 0.0: nothing was heard yet.
    """

    __slots__ = (
        "_crews",
        "_number",
        "_seen",
        "_taken",
        "_under_way",
        "_untold",
        "_weeks",
        "seasons",
        "until",
    )

    def __init__(self, bands: Iterable[str]) -> None:
        self.seasons: dict[str, Season] = {band: Season() for band in bands}
        self.until = 0.0
        #: By band: the week at whose beginning or later the weeks before were read.
        self._weeks: dict[str, int] = {}
        self._crews: dict[str, Mapping[str, int]] = {}
        #: Bands of which this worker gets messages.
        self._taken: tuple[str, ...] = ()
        #: Arrivals and microseconds by band, task type and bin.
        self._untold: dict[tuple[str, str, int], list[int]] = {}
        self._seen: dict[str, dict[str, int]] = {}
        self._under_way: Tally | None = None
        self._number = 0

    def amend(self, bands: Iterable[str]) -> None:
        """Go on with other bands; what was counted of those that stay counts on."""
        wanted = dict.fromkeys(bands)
        if wanted.keys() == self.seasons.keys():
            return
        self.seasons = {band: self.seasons.get(band) or Season() for band in wanted}
        self._untold = {key: told for key, told in self._untold.items() if key[0] in wanted}
        self._weeks = {band: week for band, week in self._weeks.items() if band in wanted}

    def observe(
        self, band: str, task: str, published: float, served_s: float, now: float, *, is_whole: bool
    ) -> None:
        """Count an execution that has ended.

        Args:
            band: In which it ran.
            task: Its type.
            published: When it was, Unix seconds; 0.0: nobody said.
            served_s: For how long it occupied a slot, seconds.
            now: Unix seconds.
            is_whole: False when it made room, and another one is to do the rest: that one will
                count as the arrival.
        """
        number = bin_of(min(published, now) if published else now)
        # What waited for that long tells nothing of any week that counts.
        if number // WEEK < bin_of(now) // WEEK - WEEKS:
            return
        told = self._told(band, self._named(band, task), number)
        if told is not None:
            told[0] = min(MOST_COUNT, told[0] + is_whole)
            told[1] = min(LARGEST, told[1] + int(served_s * _MICROS))

    def _told(self, band: str, task: str, number: int) -> list[int] | None:
        found = self._untold.get((band, task, number))
        if found is None:
            left = MOST_UNTOLD - len(self._untold)
            if left <= MOST_UNTOLD // 2:
                task = REST
                found = self._untold.get((band, task, number))
            if found is None and left > 0:
                found = self._untold[band, task, number] = [0, 0]
        return found

    def _named(self, band: str, task: str) -> str:
        """Give the name under which a task type is counted."""
        seen = self._seen.setdefault(band, {REST: 0})
        if len(seen) > MOST_SEEN:
            seen.clear()
            seen[REST] = 0
        seen[REST] += 1
        seen[task] = count = seen.get(task, 0) + 1
        return task if count >= NAMED * seen[REST] else REST

    def tally(self, worker: str, slots: int, now: float, bands: Container[str]) -> Tally | None:
        """Write the next tally, or the last one again as long as `heard` was not called for it.

        Args:
            worker: A name that no other process has, nor had.
            slots: Of the worker.
            now: Unix seconds.
            bands: Of which it gets messages.

        Returns:
            None when no band has a season.
        """
        under_way = self._under_way
        if under_way is not None:
            return under_way
        self._taken = known = tuple(band for band in self.seasons if band in bands)
        if not known:
            return None
        number = bin_of(now)
        entries = [Entry(band, SEEN, number, 1, 0) for band in known]
        for key, told in list(self._untold.items()):
            if len(entries) >= MOST_ENTRIES:
                break
            # What is of later waits for the clock, which was set back.
            if key[0] in known and key[2] <= number:
                del self._untold[key]
                if key[2] // WEEK >= number // WEEK - WEEKS:
                    entries.append(Entry(*key, *told))
        self._number += 1
        # A pool that is about to grow may have none yet.
        tally = Tally(worker, self._number, max(1, slots), now, number, known, tuple(entries))
        self._under_way = tally
        return tally

    def lacks(self, tally: Tally) -> bool:
        """Tell whether the weeks before are not known of a band that a tally names."""
        week = tally.bin // WEEK
        return any(self._weeks.get(band) != week for band in tally.bands)

    def heard(self, tally: Tally, recent: Mapping[str, Recent]) -> None:
        """Take what the fleet has counted, the answer to a tally."""
        self._under_way = None
        is_next = bin_of(self.until) != tally.bin
        self.until = tally.at
        for band, counted in recent.items():
            season = self.seasons.get(band)
            if season is not None:
                self._crews[band] = counted.crew
                week, first = divmod(counted.first, WEEK)
                _replace(season.weeks.setdefault(week, {}), first, counted.rows)
                season.changed(is_next=is_next)

    def remember(self, weeks: Mapping[str, Mapping[int, Rows]], newest: int) -> None:
        """Take all that the fleet has counted of some bands in the weeks before, and in this one.

        Args:
            weeks: Rows by band and number of the week.
            newest: Number of the week that it is now.
        """
        for band, season in self.seasons.items():
            if band in weeks:
                self._weeks[band] = newest
                season.remember(weeks[band], newest)

    def keep(self, slots: int, now: float, bands: Container[str]) -> None:
        """Go by what was counted here, as there is no store; the arguments are those of `tally`."""
        while True:
            tally = self.tally("", slots, now, bands)
            if tally is None:
                return
            self._under_way = None
            self.until = now
            week = tally.bin // WEEK
            for entry in tally.entries:
                weeks = self.seasons[entry.band].weeks
                add(weeks.setdefault(entry.bin // WEEK, {}), entry)
            for season in self.seasons.values():
                season.remember({}, week)
            if len(tally.entries) < MOST_ENTRIES:
                return

    def crew(self, band: str) -> Mapping[str, int]:
        """Tell which workers take part in a band, and the slots of each."""
        return self._crews.get(band, {})

    def needed(self, band: str, now: float, lead_s: float) -> int:
        """Tell how many slots of the fleet a band will need at most, from now on for some time.

        None of those of a worker that gets no messages of the band.

        Args:
            band: Its name.
            now: Unix seconds.
            lead_s: How far to look ahead, seconds.
        """
        season = self.seasons.get(band)
        if season is None or not self.until or band not in self._taken:
            return 0
        return max(
            slots_of(season, number, self.until)
            for number in range(bin_of(now), bin_of(now + lead_s) + 1)
        )


def slots_of(season: Season, number: int, until: float) -> int:
    """Tell how many slots a band needs in a bin.

    Args:
        season: Of the band.
        number: Of the bin.
        until: Up to when executions that ended are counted, Unix seconds.
    """
    service_s = season.service_s(number)
    # What runs now is not counted yet.
    return needed(season.forecast(number, until - service_s) / BIN_S * service_s)


def _replace(known: Rows, first: int, rows: Rows) -> None:
    """Let rows of a week end as the store's do."""
    for task, row in rows.items():
        kept = known.setdefault(task, Row())
        kept.busy_us = row.busy_us
        kept.counts.extend([0] * (first - len(kept.counts)))
        kept.counts[first:] = row.counts
