"""Reads what a budget allows and for how long: `limit`, `burst` and `time_zone`.

Called by `policy/budgets.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo, available_timezones

from celery_budget.errors import AmountError
from celery_budget.policy.budget import Window
from celery_budget.policy.costs import read_amount
from celery_budget.policy.names import closest
from celery_budget.policy.problems import Problems, join, quote
from celery_budget.policy.table import Table
from celery_budget.units import LARGEST, MAX_SECONDS, WHOLE, amount, format_amount

#: Windows of this length or longer turn: people who write "5.00/1d" mean the sum of a day,
#: and look at it as one. Shorter windows are rates, and a rate that comes in one go at the
#: start of each minute is a burst sixty times an hour.
TURNS_FROM_US = 3_600 * 1_000_000

#: What can be saved up where nothing else is said: this part of the limit.
DEFAULT_BURST = 10

CALENDAR = ("day", "week", "month")

#: Held while a task runs, so that a window has no meaning, and what to write instead.
CAPACITIES = {
    "slots": "write the number alone, or starts for how many may start in a time",
    "memory": "write the amount alone: it is what all running tasks hold together",
}

#: Counted in wholes: less than one whole would never let anything start.
_WHOLES = frozenset({"starts", "slots"})


@dataclass(frozen=True, slots=True)
class Limit:
    """What a budget allows.

    Attributes:
        units: For each window, or held at once; > 0.
        window: None for a capacity.
        burst: Units on top of it in any window.
    """

    units: int
    window: Window | None
    burst: int


def read_limit(resource: str, table: Table, place: str, problems: Problems) -> Limit:
    """Read what a budget allows, noting what is wrong with it.

    Args:
        resource: Of the budget.
        table: The budget's; it has a limit.
        place: Of the limit, for messages.
        problems: Gets every mistake.

    Returns:
        The limit, or one unit held at once in place of one that was refused.
    """
    before = len(problems)
    raw = table.raw("limit")
    text, slash, length = raw.partition("/") if isinstance(raw, str) else (raw, "", "")
    units = read_amount(resource, text, place, problems) or 0
    if units == 0 and len(problems) == before:
        problems.add(place, "must be more than zero", "leave the budget out for no limit")
    window = None
    if slash and resource in CAPACITIES:
        problems.add(place, f"{resource} has no window", CAPACITIES[resource])
    elif slash:
        window = _window(length, place, problems)
    elif resource not in CAPACITIES and len(problems) == before:
        example = "50/1s" if resource == "starts" else f"{format_amount(resource, units)}/1d"
        problems.add(place, f"{resource} needs a window", f'write for example "{example}"')
    is_sound = len(problems) == before
    window = _placed(window, table, problems, is_sound=is_sound)
    said = None
    if "burst" in table:
        said = read_amount(resource, table.raw("burst"), join(table.path, "burst"), problems)
    if not is_sound:
        return Limit(1, None, 0)
    burst = _burst(resource, units, window, said, table, problems)
    if units + burst > LARGEST:
        problems.add(
            place, f"limit and burst together are at most {format_amount(resource, LARGEST)}"
        )
    if resource in _WHOLES and units + burst < WHOLE:
        problems.add(place, f"{resource} below 1 would never let a task start")
    return Limit(units, window, burst)


def _window(text: str, place: str, problems: Problems) -> Window | None:
    stripped = text.strip()
    if stripped in CALENDAR:
        return Window(length_us=0, calendar=stripped, turns=True)
    if stripped.isalpha():
        hint = closest(stripped, CALENDAR) or f'write for example "1m", or {", ".join(CALENDAR)}'
        problems.add(place, f"{quote(stripped)} is not a window", hint)
        return None
    try:
        length_us = amount("runtime", stripped)
    except AmountError as error:
        problems.add(place, f"{error.value} is not a window: {error.problem}")
        return None
    if not 0 < length_us <= MAX_SECONDS * WHOLE:
        problems.add(place, "the window must be longer than zero and at most 100 years")
        return None
    return Window(length_us=length_us, turns=length_us >= TURNS_FROM_US)


def _placed(
    window: Window | None, table: Table, problems: Problems, *, is_sound: bool
) -> Window | None:
    """Give a calendar window its time zone."""
    zone = table.text("time_zone")
    if zone is None:
        return window
    path = join(table.path, "time_zone")
    if not _is_zone(zone):
        problems.add(
            path,
            f"{quote(zone)} is not a time zone",
            closest(zone, available_timezones()) or 'write for example "Europe/Berlin"',
        )
    elif window is not None and window.calendar:
        return replace(window, time_zone=zone)
    elif is_sound:
        problems.add(path, f"only windows of a {', a '.join(CALENDAR)} begin somewhere")
    return window


def _is_zone(name: str) -> bool:
    if name == "UTC":  # the default must not need the system's data
        return True
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: a folder of the data, such as Europe
        return False
    return True


def _burst(
    resource: str,
    units: int,
    window: Window | None,
    said: int | None,
    table: Table,
    problems: Problems,
) -> int:
    path = join(table.path, "burst")
    if window is None:
        if "burst" in table:
            problems.add(path, "what is held at once has no burst", "raise the limit")
        return 0
    if window.turns:
        return said or 0
    least = WHOLE if resource in _WHOLES else 1
    if said is None:
        return max(units // DEFAULT_BURST, least)
    if said < least:
        problems.add(
            path,
            f"nothing could be saved up to start with; at least {format_amount(resource, least)}",
        )
    return said
