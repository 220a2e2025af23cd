"""Durations, amounts of resources and shares as people write them, and back.

Inside, an amount is an integer of its resource's own unit; this is the one place where
text, floats and decimals become such integers. Pure: no clock. Called by the policy loader,
by the options of a call and by the CLI.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from math import isfinite

from celery_budget.errors import AmountError, DurationError

#: Resources that mean something to us; any other name is a custom one that tasks charge.
BUILT_IN = ("starts", "slots", "cpu", "memory", "io", "network", "runtime")

#: Units of one whole start, slot, second, dollar, token: amounts are counted in millionths.
#: Bytes are the exception, they are whole as they are.
WHOLE = 1_000_000

#: The largest amount. Amounts pass through the doubles of Lua, which count by ones up to here.
LARGEST = 2**53 - 1

#: The longest duration anybody may name. A bound keeps `now + duration` a date that the
#: header may carry, and a slip such as "250000d" from looking like a plan.
MAX_SECONDS = 100 * 365 * 86_400.0

_SECONDS_PER_UNIT = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_ORDER = tuple(_SECONDS_PER_UNIT)
_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_MAX_TEXT = 64
_MAX_SHOWN = 40
_MICROS = 1_000_000

_TIMES = frozenset({"cpu", "runtime"})
_BYTES = frozenset({"memory", "io", "network"})
_MICROS_PER_UNIT = {unit: round(size * _MICROS) for unit, size in _SECONDS_PER_UNIT.items()}
_BYTES_PER_UNIT = {
    "B": 1,
    **{f"{prefix}B": 1_000**power for power, prefix in enumerate("kMGTP", 1)},
    **{f"{prefix}iB": 1_024**power for power, prefix in enumerate("KMGTP", 1)},
    "": 1,  # last: of two texts of one length, the one with a unit is written
}
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")


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
    return _format_micros(round(value * _MICROS))


def amount(resource: str, value: str | float | Decimal | timedelta) -> int:
    """Read an amount of a resource as units.

    Exact: what is finer than one unit is refused rather than rounded, so that ten thousand
    small amounts add up to what their authors think they do.

    Args:
        resource: Decides the form and the unit. `cpu` and `runtime` take durations, their
            unit is a microsecond. `memory`, `io` and `network` take bytes, plain or with a
            unit such as MiB or MB, their unit is a byte. Every other resource takes a plain
            decimal number, its unit is a millionth.
        value: "3s", "200MiB", "5.00", or a number of seconds, bytes or wholes; a timedelta
            for the durations.

    Returns:
        Units, 0 to `LARGEST`.

    Raises:
        AmountError: Unreadable, negative, finer than a unit, or larger than `LARGEST`.

    .. versionadded:: 0.1
    """
    if isinstance(value, str):
        units = _units(resource, value)
    elif isinstance(value, timedelta) and resource in _TIMES:
        units = value // timedelta(microseconds=1)
    elif isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise _refusal(resource, value, f"write for example {_example(resource)}")
    else:
        units = _counted(resource, value)
    if units < 0:
        raise _refusal(resource, value, "it is negative")
    if units > LARGEST:
        raise _refusal(resource, value, _too_large(resource))
    return units


def format_amount(resource: str, units: int) -> str:
    """Write units as the shortest text that reads well and that `amount` reads back exactly.

    Args:
        resource: As for `amount`.
        units: Below zero, as a debt is, gets a minus sign; only then `amount` refuses it.
    """
    if resource in _TIMES:
        return _format_micros(units)
    sign = "-" if units < 0 else ""
    if resource not in _BYTES:
        return f"{sign}{_decimal(abs(units), WHOLE)}"
    thousandths = abs(units) * 1_000
    texts = [
        f"{_decimal(thousandths // size, 1_000)}{unit}"
        for unit, size in _BYTES_PER_UNIT.items()
        if unit != "B" and thousandths % size == 0
    ]
    return f"{sign}{min(texts, key=len)}"


def share(value: str | float) -> float:
    """Read a share of something: "80%" or 0.8.

    Returns:
        More than 0, at most 1.

    Raises:
        AmountError: Neither a percentage nor a number, or out of bounds.

    .. versionadded:: 0.1
    """
    number: float
    if isinstance(value, str):
        found = _PERCENT.fullmatch(value.strip()) if len(value) <= _MAX_TEXT else None
        if found is None:
            raise AmountError("a share", _shown(value), 'write a percentage such as "80%"')
        number = float(found[1]) / 100
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise AmountError("a share", _shown(value), 'write for example "80%" or 0.8')
    else:
        number = value
    if not 0 < number <= 1:
        raise AmountError("a share", _shown(value), "it must be more than 0 and at most 100%")
    return float(number)


def _units(resource: str, text: str) -> int:
    stripped = text.strip()
    if not stripped:
        raise _refusal(resource, text, f"it is empty; write for example {_example(resource)}")
    if len(stripped) > _MAX_TEXT:
        raise _refusal(resource, text, f"it is longer than {_MAX_TEXT} characters")
    if stripped.startswith("-"):
        raise _refusal(resource, text, "it is negative")
    if resource in _TIMES:
        try:
            parts = [
                (number, _MICROS_PER_UNIT[unit or "s"]) for number, unit in _parts(text, stripped)
            ]
        except DurationError as error:
            raise _refusal(resource, text, error.problem) from error
    elif resource in _BYTES:
        parts = [_size(resource, text, stripped)]
    elif _NUMBER.fullmatch(stripped):
        parts = [(stripped, WHOLE)]
    else:
        raise _refusal(resource, text, 'write a plain number such as "5.00"')
    total = 0
    for number, size in parts:
        total += _whole(resource, text, Decimal(number), size)
    return total


def _size(resource: str, text: str, stripped: str) -> tuple[str, int]:
    found = _SIZE.fullmatch(stripped)
    if found is None:
        raise _refusal(resource, text, f"write for example {_example(resource)}")
    number, unit = found.groups()
    if unit not in _BYTES_PER_UNIT:
        letter = unit[:1].upper()
        if letter in "KMGTP" and unit[1:].lower() in ("", "b", "ib"):
            decimal = "kB" if letter == "K" else f"{letter}B"
            hint = (
                f"write {letter}iB ({_BYTES_PER_UNIT[f'{letter}iB']:,} bytes) "
                f"or {decimal} ({_BYTES_PER_UNIT[decimal]:,} bytes)"
            )
        else:
            hint = f"use {', '.join(filter(None, _BYTES_PER_UNIT))}"
        raise _refusal(resource, text, f'"{unit}" is not a unit; {hint}')
    return number, _BYTES_PER_UNIT[unit]


def _counted(resource: str, value: float | Decimal) -> int:
    if not isinstance(value, int) and not Decimal(value).is_finite():
        raise _refusal(resource, value, "it is not a finite number")
    if value < 0:
        raise _refusal(resource, value, "it is negative")
    if value > LARGEST:  # before it is multiplied: it may have a million digits
        raise _refusal(resource, value, _too_large(resource))
    # The digits that people see: 0.1 means a tenth, not the double next to it. The repr is
    # float's own, as that of numpy's subclass is no number.
    exact = Decimal(float.__repr__(value)) if isinstance(value, float) else Decimal(value)
    return _whole(resource, value, exact, 1 if resource in _BYTES else WHOLE)


def _whole(resource: str, value: object, number: Decimal, size: int) -> int:
    """Multiply exactly, whatever the precision of the thread's decimal context."""
    exponent = number.as_tuple().exponent
    rest = 1
    units = 0
    if isinstance(exponent, int) and exponent >= -_MAX_TEXT:
        numerator, denominator = number.as_integer_ratio()
        units, rest = divmod(numerator * size, denominator)
    if rest:
        unit = "byte" if resource in _BYTES else "millionth"
        raise _refusal(resource, value, f"it is finer than a {unit}")
    return units


def _too_large(resource: str) -> str:
    return f"the largest possible is {format_amount(resource, LARGEST)}"


def _example(resource: str) -> str:
    if resource in _TIMES:
        return '"3s"'
    return '"200MiB"' if resource in _BYTES else '"5.00"'


def _refusal(resource: str, value: object, problem: str) -> AmountError:
    return AmountError(f"an amount of {resource}", _shown(value), problem)


def _format_micros(value: int) -> str:
    sign = "-" if value < 0 else ""
    micros = abs(value)
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
    for number, unit in _parts(text, stripped):
        total += float(number) * _SECONDS_PER_UNIT[unit or "s"]
    return total


def _parts(text: str, stripped: str) -> Iterator[tuple[str, str]]:
    """Give a duration's numbers and units; the unit of a bare number is "".

    Args:
        text: As written, for messages.
        stripped: Without spaces around it; neither empty nor negative nor overlong.
    """
    position = 0
    last = -1
    while position < len(stripped):
        part = _PART.match(stripped, position)
        if part is None:
            found = _shown(stripped[position:])
            raise DurationError(
                _shown(text), f"a number was expected at {found}; write for example '1h30m'"
            )
        number, unit = part.groups()
        if not unit:
            if part.end() != len(stripped) or position:
                raise DurationError(_shown(text), f"the unit after {number} is missing")
            yield number, unit
            return
        if unit not in _SECONDS_PER_UNIT:
            raise DurationError(
                _shown(text), f'"{unit}" is not a unit; use {", ".join(reversed(_ORDER))}'
            )
        order = _ORDER.index(unit)
        if order <= last:
            raise DurationError(_shown(text), f"write each unit once, largest first, not {unit}")
        last = order
        yield number, unit
        position = part.end()


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
        return _cut(repr(value if len(value) <= _MAX_SHOWN else value[: _MAX_SHOWN - 1] + "…"))
    if isinstance(value, int | float | timedelta):
        return repr(value)
    return f"a {type(value).__name__}"


def _cut(shown: str) -> str:
    # What is not printable takes up to ten characters when it is written as an escape.
    most = 2 * _MAX_SHOWN
    return shown if len(shown) <= most else f"{shown[: most - 2]}…{shown[-1]}"
