"""Calendar windows in time zones, over summer time, leap years and the ends of months."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from celery_budget.core.calendar import CalendarWindow, calendar_window
from celery_budget.policy.budget import Window

HOUR_US = 3_600_000_000


def micros(text: str) -> int:
    """Read a time with its offset as microseconds since 1970."""
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


def window(kind: str, at: str, zone: str = "Europe/Berlin") -> CalendarWindow:
    """Find the window that holds at a time."""
    return calendar_window(Window(0, kind, zone, turns=True), micros(at))


@pytest.mark.parametrize(
    ("at", "hours"),
    [
        ("2026-03-28T12:00+01:00", 24),
        ("2026-03-29T12:00+02:00", 23),
        ("2026-10-25T12:00+01:00", 25),
    ],
)
def test_a_day_is_as_long_as_the_clocks_say(at: str, hours: int) -> None:
    """Days on which summer time begins or ends have 23 and 25 hours."""
    found = window("day", at)

    assert hours * HOUR_US == found.ends - found.begins


def test_a_day_begins_at_midnight_there() -> None:
    """Not at midnight UTC."""
    assert micros("2026-07-01T00:00+02:00") == window("day", "2026-07-01T00:00+02:00").begins
    assert micros("2026-06-30T00:00+02:00") == window("day", "2026-06-30T23:59:59+02:00").begins
    assert micros("2026-06-30T00:00+00:00") == window("day", "2026-07-01T01:59+02:00", "UTC").begins


def test_the_hour_that_comes_twice_is_one_day() -> None:
    """02:30 on the 25th of October is there in summer time and again in winter time."""
    assert window("day", "2026-10-25T02:30+02:00") == window("day", "2026-10-25T02:30+01:00")


@pytest.mark.parametrize(
    ("at", "begins", "ends"),
    [
        ("2024-02-29T23:59+01:00", "2024-02-01T00:00+01:00", "2024-03-01T00:00+01:00"),
        ("2026-02-28T23:59+01:00", "2026-02-01T00:00+01:00", "2026-03-01T00:00+01:00"),
        ("2026-03-31T23:59+02:00", "2026-03-01T00:00+01:00", "2026-04-01T00:00+02:00"),
        ("2026-12-31T23:59+01:00", "2026-12-01T00:00+01:00", "2027-01-01T00:00+01:00"),
    ],
)
def test_a_month_ends_where_the_next_begins(at: str, begins: str, ends: str) -> None:
    """Leap years, months with summer time, the end of the year."""
    found = window("month", at)

    assert (micros(begins), micros(ends)) == (found.begins, found.ends)


def test_a_week_begins_on_monday() -> None:
    """Also the one in which a year begins."""
    found = window("week", "2027-01-01T12:00+01:00")

    assert micros("2026-12-28T00:00+01:00") == found.begins
    assert micros("2027-01-04T00:00+01:00") == found.ends


@pytest.mark.parametrize("kind", ["day", "week", "month"])
def test_windows_follow_each_other_without_a_gap(kind: str) -> None:
    """Numbers in a row, so that the ledger can tell how many have begun."""
    windows = [window(kind, "2023-12-15T12:00+01:00")]
    while windows[-1].begins < micros("2025-02-01T00:00+01:00"):
        at = windows[-1].ends
        windows.append(calendar_window(Window(0, kind, "Europe/Berlin", turns=True), at))

    assert all(
        (before.number + 1, before.ends) == (after.number, after.begins)
        for before, after in pairwise(windows)
    )


def test_each_zone_has_its_own_day() -> None:
    """Where midnight is decides, and the number tells which day it is there."""
    at = datetime(2026, 7, 1, 12, tzinfo=UTC).isoformat()

    assert window("day", at, "Pacific/Kiritimati").number == window("day", at).number + 1
