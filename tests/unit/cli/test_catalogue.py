"""How the catalogue is laid out for people."""

from __future__ import annotations

from rich.console import Console

from celery_budget.cli.catalogue import tabulate
from celery_budget.client import CatalogueEntry
from celery_budget.core.summary import Calibration, Summary

NONE = Summary(0, 0, 0, 0, 0.0, Calibration.UNSEEN)


def rows(*entries: CatalogueEntry) -> list[list[str]]:
    """Print them, and read the cells of each line."""
    console = Console(width=160)
    with console.capture() as shown:
        console.print(tabulate(entries))
    lines = [line for line in shown.get().splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_amounts_have_no_more_digits_than_are_known() -> None:
    """A p95 of 104,857,123 bytes says that it is exact, and it is not."""
    cpu = Summary(1_200, 1_234_567, 2_000_499, 2_000_499, 0.048, Calibration.GOOD)
    memory = Summary(99, 99_999_999, 104_857_123, 50, 1.0, Calibration.FEW)

    assert [
        ["shop.report", "optional", "cpu", "1200", "1.23s", "2s", "2s", "4.8%", "good"],
        ["", "", "memory", "99", "100MB", "105MB", "50", "100.0%", "few seen"],
    ] == rows(CatalogueEntry("shop.report", "optional", {"cpu": cpu, "memory": memory}))


def test_a_task_type_that_was_not_seen_is_listed_all_the_same() -> None:
    """It may be the reason why somebody looks; and names are no markup."""
    assert [["shop.[red]", "-", "-", "-", "-", "-", "-", "-", "not seen"]] == rows(
        CatalogueEntry("shop.[red]", None, {"cpu": NONE, "usd": NONE})
    )
