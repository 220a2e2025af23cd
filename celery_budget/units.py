"""Amounts as people write them, and back; today that is durations.

Pure: no clock. Called by the policy loader, by the options of a call and by the CLI.
"""

from __future__ import annotations

import re
from datetime import timedelta
from math import isfinite

from celery_budget.errors import DurationError

#: The longest duration anybody may name. A bound keeps `now + duration` a date that the
#: header may carry, and a slip such as "250000d" from looking like a plan.
MAX_SECONDS = 100 * 365 * 86_400.0

_SECONDS_PER_UNIT = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_ORDER = tuple(_SECONDS_PER_UNIT)
_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_MAX_TEXT = 64
_MAX_SHOWN = 40
_MICROS = 1_000_000


def seconds(value: str | float | timedelta) -> float:
    """Read a duration as seconds.

    Args:
        value: "250ms", "2s", "10m", "1h30m", "1d", or a bare number of seconds, as text,
            number or timedelta.

    Raises:
        DurationError: Unreadable, negative, not finite, or longer than 100 years.

    .. versionadded:: 0.1
    """
    if isinstance(value, str):
        result = _parse(value)
    elif isinstance(value, timedelta):
        result = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise DurationError(
            _shown(value), 'write text such as "2s" or "1h30m", or a number of seconds'
        )
    else:
        if value > MAX_SECONDS:  # before float(): a huge int has no float
            raise DurationError(_shown(value), "it is longer than 100 years")
        if value < 0:
            raise DurationError(_shown(value), "it is negative")
        result = float(value)
    if not isfinite(result):
        raise DurationError(_shown(value), "it is not a finite number")
    if result < 0:
        raise DurationError(_shown(value), "it is negative")
    if result > MAX_SECONDS:
        raise DurationError(_shown(value), "it is longer than 100 years")
    return result


def format_seconds(value: float) -> str:
    """Write seconds as the shortest duration that reads well, rounded to a millionth.

    Args:
        value: Seconds; below zero gets a minus sign, inf gives "never".
    """
    if not isfinite(value):
        return "never"
    sign = "-" if value < 0 else ""
    micros = round(abs(value) * _MICROS)
    if micros < _MICROS:
        return f"{sign}{_decimal(micros, 1_000)}ms" if micros else "0s"
    parts = [sign]
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        count, micros = divmod(micros, size * _MICROS)
        if count:
            parts.append(f"{count}{unit}")
    if micros:
        parts.append(f"{_decimal(micros, _MICROS)}s")
    return "".join(parts)


def _parse(text: str) -> float:
    stripped = text.strip()
    if not stripped:
        raise DurationError(_shown(text), 'it is empty; write for example "2s"')
    if len(stripped) > _MAX_TEXT:
        raise DurationError(_shown(text), f"it is longer than {_MAX_TEXT} characters")
    if stripped.startswith("-"):
        raise DurationError(_shown(text), "it is negative")
    total = 0.0
    position = 0
    last = -1
    while position < len(stripped):
        part = _PART.match(stripped, position)
        if part is None:
            raise DurationError(
                _shown(text),
                f"a number was expected at {stripped[position:]!r}; write for example '1h30m'",
            )
        number, unit = part.groups()
        if not unit:
            if part.end() != len(stripped) or position:
                raise DurationError(_shown(text), f"the unit after {number} is missing")
            return float(number)
        if unit not in _SECONDS_PER_UNIT:
            raise DurationError(
                _shown(text), f'"{unit}" is not a unit; use {", ".join(reversed(_ORDER))}'
            )
        order = _ORDER.index(unit)
        if order <= last:
            raise DurationError(_shown(text), f"write each unit once, largest first, not {unit}")
        last = order
        total += float(number) * _SECONDS_PER_UNIT[unit]
        position = part.end()
    return total


def _decimal(amount: int, size: int) -> str:
    whole, rest = divmod(amount, size)
    digits = len(str(size)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0") if rest else str(whole)


def _shown(value: object) -> str:
    # An int of a million digits must not be printed, nor an object whose repr fails.
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and abs(value) > MAX_SECONDS * _MICROS
    ):
        return "a huge number"
    if isinstance(value, str):
        return repr(value if len(value) <= _MAX_SHOWN else value[: _MAX_SHOWN - 1] + "…")
    if isinstance(value, int | float | timedelta):
        return repr(value)
    return f"a {type(value).__name__}"
