"""A season: how many tasks of one band arrive at which time of the week, newer weeks first.

The week is cut into bins. What a bin is expected to bring is reckoned from the same bin of the
weeks before; where these tell little, from the same time of the days before; and at first from the
mean. How the last hours differ from that corrects the hours to come. Pure: what was counted comes
in as rows, and the store that keeps these only adds. Formulas: docs/explanation/forecast.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

#: Length of a bin, seconds. With bins of an hour 20 of 45 spikes of 12 to 20 minutes had enough
#: slots, with these all, and with five minutes nearly twice the error for three times the memory
#: (`python -m tests.benchmarks.forecast --bins`, 2026-11).
BIN_S = 900

#: Bins of an hour, a day and a week. Weeks begin on Monday, 0:00 UTC.
HOUR = 3_600 // BIN_S
DAY = 86_400 // BIN_S
WEEK = 7 * DAY

#: 1970 began on a Thursday: the first Monday, seconds.
_MONDAY_S = 4 * 86_400

#: Weeks before that count, and how much each counts of the one after it. A change of habits is
#: followed for the most part within two weeks; with 0.8 the error is the same, with 0.25 larger.
WEEKS = 5
FADE = 0.5

#: Arrivals that what is told by less (days, the mean) is worth beside what is told by more. From
#: 0.1 to 10 it makes no difference with forty in a bin, and one is enough for a first spike to be
#: expected the next day.
PRIOR = 1.0

#: Bins before that correct what is expected next, how much each counts of the one after it, and
#: arrivals that the season is worth beside them. Where days differ by 30 %, forecasts are off by
#: 8 to 11 % so, by 18 to 31 % without a correction, and by 9 to 13 % with 0.5 or with 100
#: (`python -m tests.benchmarks.forecast --weights`, 2026-11).
RECENT = 12
NEXT = 0.85
WORTH = 30.0

#: How much of the correction is left a bin later: half after some two hours, as a busy morning says
#: little of the evening.
LASTS = 0.92

#: The correction is between one by this and this, so that neither a flood nor a holiday makes the
#: season forgotten.
MOST = 4.0

#: The row of task types that have none of their own, and the row that tells in which bins somebody
#: counted at all. No task has such names.
REST, SEEN = "", " "


def bin_of(at: float) -> int:
    """Tell which bin a time is in, counted from the first Monday of 1970.

    Args:
        at: Unix seconds.
    """
    return int((at - _MONDAY_S) // BIN_S)


def begin_of(number: int) -> float:
    """Tell when a bin begins, Unix seconds."""
    return float(number * BIN_S + _MONDAY_S)


@dataclass(slots=True)
class Row:
    """What came of one task type in one week.

    Attributes:
        busy_us: For how long its executions occupied slots, microseconds.
        counts: Arrivals in each bin, up to the last one that had any.
    """

    busy_us: int = 0
    counts: list[int] = field(default_factory=list)


#: Of one band and week: a row by task type.
Rows = dict[str, Row]

_NONE: Sequence[int] = ()


class Season:
    """What is known of the arrivals of one band.

    Attributes:
        weeks: Rows by number of the week; who changes them calls `changed`.
    """

    __slots__ = ("_expected", "_factors", "_means", "_totals", "weeks")

    def __init__(self) -> None:
        self.weeks: dict[int, Rows] = {}
        self._totals: dict[int, list[int]] = {}
        self._expected: dict[tuple[int, str | None], float] = {}
        self._means: dict[tuple[int, str | None], float] = {}
        self._factors: dict[float, float] = {}

    def changed(self, *, is_next: bool = True) -> None:
        """Reckon anew from what the rows say now.

        Args:
            is_next: Whether another bin has begun: what is expected need not follow each arrival.
        """
        self._totals.clear()
        self._factors.clear()
        if is_next:
            self._expected.clear()
            self._means.clear()

    def remember(self, weeks: Mapping[int, Rows], newest: int) -> None:
        """Take rows of weeks in the place of those known, and drop what is too old.

        A week that begins next is kept: the clock may have been set back over its beginning.

        Args:
            weeks: By number.
            newest: Number of the week that it is now.
        """
        self.weeks.update(weeks)
        known = range(newest - WEEKS, newest + 2)
        self.weeks = {week: rows for week, rows in self.weeks.items() if week in known}
        self.changed()

    @property
    def tasks(self) -> list[str]:
        """Task types with a row, and the rest."""
        return sorted({task for rows in self.weeks.values() for task in rows} - {SEEN})

    def arrived(self, number: int, task: str | None = None) -> int:
        """Tell how many came in a bin; of all types, or of one."""
        week, place = divmod(number, WEEK)
        counts = self._counts(week, task)
        return counts[place] if place < len(counts) else 0

    def is_seen(self, number: int) -> bool:
        """Tell whether somebody counted in a bin: if not, that nothing came means nothing."""
        return self.arrived(number, SEEN) > 0 or self.arrived(number) > 0

    def _counts(self, week: int, task: str | None) -> Sequence[int]:
        if task is not None:
            row = self.weeks.get(week, {}).get(task)
            return _NONE if row is None else row.counts
        total = self._totals.get(week)
        if total is None:
            rows = [r.counts for t, r in self.weeks.get(week, {}).items() if t != SEEN]
            total = [0] * max(map(len, rows), default=0)
            for counts in rows:
                for place, count in enumerate(counts):
                    total[place] += count
            self._totals[week] = total
        return total

    def expected(self, number: int, task: str | None = None) -> float:
        """Tell how many should come in a bin, by what came before it in its season.

        Args:
            number: Of the bin. Nothing of it or later is looked at.
            task: Only this type.
        """
        known = self._expected.get((number, task))
        if known is None:
            days = [(number - back * DAY, 1.0) for back in range(1, 8)]
            weeks = [(number - back * WEEK, FADE ** (back - 1)) for back in range(1, WEEKS + 1)]
            known = self._mean(number - number % HOUR, task)
            for bins in (days, weeks):
                known = _informed(known, *self._sum(bins, task))
            self._expected[number, task] = known
        return known

    def _mean(self, number: int, task: str | None) -> float:
        """Tell what came in a bin of the day before another one, on average."""
        known = self._means.get((number, task))
        if known is None:
            arrivals, seen = self._sum(((n, 1.0) for n in range(number - DAY, number)), task)
            known = self._means[number, task] = arrivals / seen if seen else 0.0
        return known

    def _sum(self, bins: Iterable[tuple[int, float]], task: str | None) -> tuple[float, float]:
        """Add up what came, and in how many bins somebody counted, each by its weight."""
        arrivals = seen = 0.0
        for number, weight in bins:
            if self.is_seen(number):
                arrivals += weight * self.arrived(number, task)
                seen += weight
        return arrivals, seen

    def factor(self, until: float) -> float:
        """Tell how many times as many came of late as were expected.

        Args:
            until: Up to when all that came is counted, Unix seconds.
        """
        factor = self._factors.get(until)
        if factor is None:
            came = should = WORTH
            last = bin_of(until)
            for back in range(1, RECENT + 1):
                if self.is_seen(last - back):
                    came += NEXT**back * self.arrived(last - back)
                    should += NEXT**back * self.expected(last - back)
            factor = came / should
            part = (until - begin_of(last)) / BIN_S
            if part:
                # Only what is more: a spike may begin a few minutes late.
                came, should = came + self.arrived(last), should + part * self.expected(last)
                factor = max(factor, came / should)
            factor = self._factors[until] = min(MOST, max(1 / MOST, factor))
        return factor

    def forecast(self, number: int, until: float) -> float:
        """Tell how many are going to come in a bin.

        Args:
            number: Of the bin; nothing that came in it or later is looked at, unless it has begun.
            until: Up to when all that came is counted, Unix seconds.
        """
        ahead = max(0, number - bin_of(until))
        return self.expected(number) * (1 + (self.factor(until) - 1) * LASTS**ahead)

    def service_s(self, number: int) -> float:
        """Tell for how long an arrival of a bin is going to occupy a slot on average, seconds.

        By its mixture of task types; 0 when nothing of the band has ended.
        """
        came = busy_s = 0.0
        for task in self.tasks:
            mean_s = self._mean_s(task)
            if mean_s is not None:
                expected = self.expected(number, task)
                came += expected
                busy_s += expected * mean_s
        return busy_s / came if came else 0.0

    def _mean_s(self, task: str) -> float | None:
        newest = max(self.weeks)
        ended = busy_us = 0.0
        for week, rows in self.weeks.items():
            row = rows.get(task)
            if row is not None:
                weight = FADE ** (newest - week)
                ended += weight * sum(row.counts)
                busy_us += weight * row.busy_us
        return busy_us / ended / 1e6 if ended else None


def _informed(prior: float, arrivals: float, seen: float) -> float:
    """Correct a mean by what was seen: the mean of a gamma prior's posterior for Poisson counts.

    Args:
        prior: Mean of a bin, which weighs as much as `PRIOR` arrivals.
        arrivals: That were seen.
        seen: In so many bins.
    """
    if not seen:
        return prior
    if not prior:
        return arrivals / seen
    return (PRIOR + arrivals) / (PRIOR / prior + seen)
