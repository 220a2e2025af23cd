"""`budget catalogue`: task types, and what the fleet has learned of what they use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from celery_budget.cli.connect import json_option, opened, reach_broker, timeout_option
from celery_budget.units import format_amount

if TYPE_CHECKING:
    from rich.table import Table

    from celery_budget.client import CatalogueEntry
    from celery_budget.core.summary import Summary

#: Digits shown of what is known within 5 %.
DIGITS = 3


@click.command()
@click.argument("pattern", default="*")
@json_option
@timeout_option
@click.pass_context
def catalogue(ctx: click.Context, pattern: str, *, as_json: bool, timeout: float) -> None:
    """List the task types that match PATTERN, with what their executions use.

    Profiles are learned by all workers together and kept with the ledger. Where each worker keeps
    a ledger of its own (memory://), the workers are asked.

    Exit status 1: the ledger cannot be read.
    """
    with opened(ctx, timeout) as client:
        if client.asks_for_profiles:
            reach_broker(ctx)
        entries = client.catalogue(pattern)
        is_asked = client.asks_for_profiles
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
    elif entries:
        # Rich takes 40 ms to load, and Celery loads this module's package in every worker.
        from rich.console import Console  # noqa: PLC0415

        console = Console(no_color=bool(ctx.obj.no_color), highlight=False)
        console.print(tabulate(entries))
        if is_asked:
            click.echo("Each worker learns by itself (memory://): added up of those that answered.")
    else:
        click.echo(f"No task type matches {pattern!r}.")


def tabulate(entries: Sequence[CatalogueEntry]) -> Table:
    """Lay out a line for each resource that was seen of a task type."""
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415

    table = Table(title="Task types, by name", title_justify="left")
    for column in ("task", "band", "resource"):
        table.add_column(column, overflow="fold")
    for column in ("seen", "p50", "p95", "set aside", "exceeded"):
        table.add_column(column, justify="right")
    table.add_column("estimate")
    for entry in entries:
        name, band = Text(entry.task), Text(entry.band or "-")
        seen = [(resource, known) for resource, known in entry.resources.items() if known.count]
        for resource, known in seen:
            table.add_row(name, band, Text(resource), *_cells(resource, known))
            name = band = Text("")
        if not seen:
            table.add_row(name, band, "-", "-", "-", "-", "-", "-", "not seen")
    return table


def _cells(resource: str, known: Summary) -> list[str]:
    amounts = (known.p50, known.p95, known.aside)
    return [
        str(known.count),
        *(format_amount(resource, int(float(f"{units:.{DIGITS}g}"))) for units in amounts),
        f"{known.exceeded:.1%}",
        known.calibration.value,
    ]
