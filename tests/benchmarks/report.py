"""The arithmetic of the reports, their table and their JSON; measures nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TypeAlias

from rich.table import Table


@dataclass(frozen=True, slots=True)
class Spread:
    """Several rounds' numbers as their median and their extremes.

    Attributes:
        median: The middle one; the mean of the two in the middle when their count is even.
        low: The smallest.
        high: The largest.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return _digits(self.median)
        return f"{_digits(self.median)} ({_digits(self.low)}-{_digits(self.high)})"


#: One row of a table: column name to a word, a count, a measured number or several rounds' numbers.
Row: TypeAlias = Mapping[str, str | int | float | Spread | None]


@dataclass(frozen=True, slots=True)
class Report:
    """One benchmark's outcome.

    Attributes:
        title: What was measured, with units.
        rows: Column name to cell; all rows have the same columns.
        raw: Every single measurement, for other arithmetic than ours.
    """

    title: str
    rows: Sequence[Row]
    raw: Sequence[Mapping[str, object]] = field(default=())


def percentile(values: Sequence[float], part: float) -> float:
    """Give the smallest value that at least this part of all values does not exceed.

    Nearest rank: always a value that was measured, never one between two. inf in `values` stands
    for what never came and sorts last.

    Args:
        values: In any order; at least one.
        part: 0 < part <= 1, e.g. 0.99.

    Raises:
        ValueError: `values` is empty or `part` is out of range.
    """
    if not values:
        raise ValueError("no values: a percentile needs at least one measurement")
    if not 0 < part <= 1:
        raise ValueError(f"part is {part!r}: give a number above 0 and up to 1, 0.99 for p99")
    # Rounded first: 0.07 * 100 is 7.000000000000001 in binary and would give rank 8.
    rank = math.ceil(round(part * len(values), 9))
    return sorted(values)[rank - 1]


def spread(values: Sequence[float]) -> Spread:
    """Put rounds together as median and extremes.

    Raises:
        ValueError: `values` is empty.
    """
    if not values:
        raise ValueError("no values: a spread needs at least one round")
    return Spread(median(values), min(values), max(values))


def ratios(ours: Sequence[float], stock: Sequence[float]) -> Spread:
    """Compare round by round, then take the median: drift between rounds cancels out.

    Args:
        ours: One number a round.
        stock: The same rounds in the same order; none is 0.

    Raises:
        ValueError: The two have different lengths, or none.
    """
    return spread([mine / theirs for mine, theirs in zip(ours, stock, strict=True)])


def differences(ours: Sequence[float], stock: Sequence[float]) -> Spread:
    """Compare round by round as `ratios` does, by ours minus stock."""
    return spread([mine - theirs for mine, theirs in zip(ours, stock, strict=True)])


def tabulate(report: Report) -> Table:
    """Lay a report out for a terminal."""
    table = Table(title=report.title, title_justify="left")
    for number, name in enumerate(report.rows[0]):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in report.rows:
        table.add_row(*(_text(cell) for cell in row.values()))
    return table


def document(reports: Sequence[Report], machine: Mapping[str, object]) -> dict[str, object]:
    """Make the JSON document of a whole run; infinite numbers become null."""
    return {
        "machine": dict(machine),
        "reports": [_plain(asdict(report)) for report in reports],
    }


def _plain(value: object) -> object:
    """Leave only what JSON knows."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _digits(number: float) -> str:
    """Write three significant digits, without exponents."""
    if not math.isfinite(number):
        return "never"
    if number == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(number))))
    return f"{number:,.{decimals}f}"


def _text(cell: str | float | Spread | None) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return _digits(cell)
    return str(cell)
