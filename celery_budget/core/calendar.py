"""Calendar windows: the day, week or month that holds at a moment, in a time zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from celery_budget.policy.budget import Window

_MICROS = 1_000_000
_EPOCH = date(1970, 1, 1).toordinal()
_MONDAY = date(1970, 1, 5).toordinal()
_WEEK = 7


class CalendarWindow(NamedTuple):
    """A day, week or month.

    Attributes:
        number: Counted from any fixed one of its kind.
        begins: Microseconds since 1970.
        ends: The same.
    """

    number: int
    begins: int
    ends: int


Calendar = Callable[[Window, int], CalendarWindow]


def calendar_window(window: Window, now_us: int) -> CalendarWindow:
    """Find the calendar window that holds.

    Args:
        window: Of a kind "day", "week" or "month".
        now_us: Microseconds since 1970.
    """
    day = datetime.fromtimestamp(now_us / _MICROS, UTC).astimezone(_zone(window.time_zone)).date()
    if window.calendar == "day":
        number, first, after = day.toordinal() - _EPOCH, day, day + timedelta(days=1)
    elif window.calendar == "week":
        first = day - timedelta(days=day.weekday())
        number, after = (first.toordinal() - _MONDAY) // _WEEK, first + timedelta(days=_WEEK)
    else:
        first = day.replace(day=1)
        number = (first.year - 1970) * 12 + first.month - 1
        after = (first + timedelta(days=31)).replace(day=1)
    return CalendarWindow(number, _begins(first, window), _begins(after, window))


def _begins(day: date, window: Window) -> int:
    midnight = datetime(day.year, day.month, day.day, tzinfo=_zone(window.time_zone))
    return int(midnight.timestamp()) * _MICROS


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
