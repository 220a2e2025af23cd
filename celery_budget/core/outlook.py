"""The outlook: what a season lets expect of the hours to come, and how far it was off before."""

from __future__ import annotations

from dataclasses import dataclass

from celery_budget.core.forecast import slots_of
from celery_budget.core.season import BIN_S, DAY, WEEK, Season, begin_of, bin_of


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is expected of a quarter of an hour.

    Attributes:
        at: When it begins, Unix seconds.
        per_s: Arrivals a second.
        slots: Of the fleet that the band needs for them.
    """

    at: float
    per_s: float
    slots: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of the arrivals of one band.

    Attributes:
        band: Its name.
        history_s: For how long arrivals were counted in the weeks that are remembered, seconds.
        mean_per_s: Arrivals a second in the last week, on average over the time counted.
        error: By how much forecasts of a quarter of an hour, made when it began, were off in the
            last week on average, as part of the mean; None before a day was counted.
        factor: How many times as many as usual came of late.
        service_s: For how long an arrival occupies a slot, seconds.
        bins: The next 24 hours, from the current quarter of an hour on.
        worker: That goes by what it has counted alone; "": the whole fleet.
    """

    band: str
    history_s: float
    mean_per_s: float
    error: float | None
    factor: float
    service_s: float
    bins: tuple[Ahead, ...]
    worker: str = ""


def outlook(band: str, season: Season, now: float, until: float, worker: str = "") -> Outlook:
    """Tell what a season lets expect.

    Args:
        band: Whose it is.
        season: Of the band.
        now: Unix seconds.
        until: Up to when arrivals are counted, Unix seconds.
        worker: Whose alone the count is; "": of the fleet.
    """
    current = bin_of(now)
    seen = [number for number in range(current - WEEK, current) if season.is_seen(number)]
    came = sum(season.arrived(number) for number in seen)
    weeks = range(min(season.weeks, default=0), max(season.weeks, default=-1) + 1)
    known = sum(season.is_seen(week * WEEK + place) for week in weeks for place in range(WEEK))
    return Outlook(
        band=band,
        history_s=known * BIN_S,
        mean_per_s=came / len(seen) / BIN_S if seen else 0.0,
        # The first of all has nothing to be foretold by.
        error=error_of(season, seen) if len(seen) > DAY else None,
        factor=season.factor(until),
        service_s=season.service_s(current),
        bins=tuple(
            Ahead(
                begin_of(number),
                season.forecast(number, until) / BIN_S,
                slots_of(season, number, until),
            )
            for number in range(current, current + DAY)
        ),
        worker=worker,
    )


def error_of(season: Season, bins: list[int]) -> float | None:
    """Tell by how much forecasts were off on average, as part of the mean of what came.

    Each is made again from what was known when its bin began, and so never differs from worker to
    worker, nor is anything kept of it.

    Args:
        season: Of the band.
        bins: That are over.
    """
    came = sum(season.arrived(number) for number in bins)
    if not came:
        return None
    off = (abs(season.forecast(n, begin_of(n)) - season.arrived(n)) for n in bins)
    return sum(off) / came
