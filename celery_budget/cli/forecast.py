"""`budget forecast`: what is expected to arrive, and how far such forecasts were off."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from celery_budget.cli.connect import json_option, opened, reach_broker, timeout_option
from celery_budget.units import format_seconds

if TYPE_CHECKING:
    from rich.table import Table

    from celery_budget.client import Outlook

#: From nothing to the most of the day.
_BARS = "▁▂▃▄▅▆▇█"

#: Quarters of an hour for each bar.
_BINS = 4


@click.command()
@json_option
@timeout_option
@click.pass_context
def forecast(ctx: click.Context, *, as_json: bool, timeout: float) -> None:
    """Show what is expected to arrive, of each band with `reserve_most`.

    Arrivals are counted by all workers together and kept with the ledger. Where each worker goes by
    its own count (memory://, or no ledger), the workers are asked.

    Exit status 1: the ledger cannot be read.
    """
    with opened(ctx, timeout) as client:
        if client.asks_for_forecasts:
            reach_broker(ctx)
        found = client.forecast()
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=2))
    elif found:
        # Rich takes 40 ms to load, and Celery loads this module's package in every worker.
        from rich.console import Console  # noqa: PLC0415

        console = Console(no_color=bool(ctx.obj.no_color), highlight=False)
        console.print(tabulate(found))
    else:
        click.echo("Nothing is forecast: give a band `reserve_most` in the policy.")


def tabulate(found: Sequence[Outlook]) -> Table:
    """Lay out a line for each band, and for each worker that counts alone."""
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415

    table = Table(title="Expected arrivals, most urgent band first", title_justify="left")
    table.add_column("band", overflow="fold")
    for column in ("counted for", "a second", "slots", "off by", "of late"):
        table.add_column(column, justify="right")
    table.add_column("next 24 hours", no_wrap=True)
    table.add_column("most (UTC)", overflow="fold")
    for each in found:
        name = f"{each.band} on {each.worker}" if each.worker else each.band
        peak = max(each.bins, key=lambda ahead: ahead.slots)
        table.add_row(
            Text(name),
            format_seconds(each.history_s) if each.history_s else "-",
            f"{each.bins[0].per_s:.3g}",
            str(each.bins[0].slots),
            "-" if each.error is None else f"{each.error:.0%}",
            f"{each.factor:.0%}",
            _line([ahead.per_s for ahead in each.bins]),
            f"{peak.slots} slots at {datetime.fromtimestamp(peak.at, UTC):%H:%M}",
        )
    return table


def _line(rates: Sequence[float]) -> str:
    """Draw a bar for each hour, the most of it."""
    most = max(rates)
    hours = [max(rates[first : first + _BINS]) for first in range(0, len(rates), _BINS)]
    return "".join(_BARS[round((len(_BARS) - 1) * hour / most)] if most else " " for hour in hours)
