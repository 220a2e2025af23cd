"""How a forecast is laid out for people."""

from __future__ import annotations

from rich.console import Console

from celery_budget.cli.forecast import tabulate
from celery_budget.client import Ahead, Outlook
from celery_budget.core.season import BIN_S, DAY

#: A Monday, 6:15 UTC.
AT = 1_700_460_900.0


def rows(*found: Outlook) -> list[list[str]]:
    """Print them, and read the cells of each line."""
    console = Console(width=160)
    with console.capture() as shown:
        console.print(tabulate(found))
    lines = [line for line in shown.get().splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def day(rates: dict[int, float]) -> tuple[Ahead, ...]:
    """Make the next day, in which something comes in some quarters of an hour."""
    return tuple(
        Ahead(AT + number * BIN_S, rates.get(number, 0.0), round(2 * rates.get(number, 0.0)))
        for number in range(DAY)
    )


def test_a_day_is_a_bar_for_each_hour() -> None:
    """The most of it: a spike of a quarter of an hour must show."""
    known = Outlook("critical", 8.5 * 86_400, 0.3, 0.098, 1.31, 2.0, day({0: 1.234, 9: 4.0, 95: 2}))

    assert [
        [
            "critical",
            "8d12h",
            "1.23",
            "2",
            "10%",
            "131%",
            "▃▁█" + "▁" * 20 + "▅",
            "8 slots at 08:30",
        ]
    ] == rows(known)


def test_what_is_not_known_yet_is_told_as_such() -> None:
    """And which worker it is that goes by its own count; names are no markup."""
    unknown = Outlook("[red]", 0.0, 0.0, None, 1.0, 0.0, day({}), worker="w@host")

    assert [["[red] on w@host", "-", "0", "0", "-", "100%", "", "0 slots at 06:15"]] == rows(
        unknown
    )
