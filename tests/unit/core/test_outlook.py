"""What is told of a forecast: the hours to come, the error, and how much is known."""

from __future__ import annotations

import pytest

from celery_budget.core.outlook import error_of, outlook
from celery_budget.core.season import BIN_S, DAY, SEEN, WEEK, Row, Season, begin_of

WEEK_NUMBER = 2_800
MONDAY = WEEK_NUMBER * WEEK


def season(*weeks: list[int]) -> Season:
    """Make one of the counts of weeks, the last of which is the current one."""
    made = Season()
    for place, counts in enumerate(weeks, WEEK_NUMBER + 1 - len(weeks)):
        made.weeks[place] = {
            "pay": Row(sum(counts) * 2_000_000, counts),
            SEEN: Row(0, [1] * len(counts)),
        }
    made.changed()
    return made


def test_a_band_of_which_nothing_is_known() -> None:
    """Its line says so."""
    now = begin_of(MONDAY) + 60
    found = outlook("critical", Season(), now, now)

    assert (0, 0.0, None, 1.0) == (
        found.history_s,
        found.mean_per_s,
        found.error,
        found.factor,
    )
    assert [(0.0, 0)] * DAY == [(ahead.per_s, ahead.slots) for ahead in found.bins]


def test_the_day_that_comes_is_told() -> None:
    """In quarters of an hour, from the one that it is."""
    counts = [90] * WEEK
    counts[40] = 900
    now = begin_of(MONDAY + 36) + 400
    found = outlook("critical", season(counts, counts, [90] * 36), now, now - 400, "w")

    assert [begin_of(MONDAY + 36 + number) for number in range(DAY)] == [a.at for a in found.bins]
    assert 900 / BIN_S == pytest.approx(found.bins[4].per_s, rel=0.05)
    assert 90 / BIN_S == pytest.approx(found.bins[5].per_s, rel=0.05)
    assert (1, 5) == (found.bins[5].slots, found.bins[4].slots)
    assert 2.0 == pytest.approx(found.service_s)
    assert "w" == found.worker
    assert (2 * WEEK + 36) * BIN_S == found.history_s


def test_the_error_is_that_of_forecasts_made_before() -> None:
    """A week that is as the one before is foretold; one with a spike that nobody knew is not."""
    even = season([100] * WEEK, [100] * WEEK)
    moved = season([100] * WEEK, [100] * 300 + [1_100] * 4 + [100] * (WEEK - 304))
    bins = list(range(MONDAY, MONDAY + WEEK))
    known, unknown = error_of(even, bins), error_of(moved, bins)

    assert known is not None
    assert unknown is not None
    assert known < 0.001
    assert 4_000 / (WEEK * 100 + 4_000) < unknown < 0.1


def test_no_error_is_told_where_nothing_came_or_little_is_known() -> None:
    """It would be chance."""
    now = begin_of(MONDAY + DAY)
    young = outlook("critical", season([7] * DAY), now, now)
    older = outlook("critical", season([7] * (DAY + 1)), now + BIN_S, now + BIN_S)

    assert (None, None) == (young.error, error_of(season([0] * WEEK), [MONDAY]))
    assert older.error is not None
