"""`budget top`: bands, budgets and workers, live."""

from __future__ import annotations

import time

import click

from celery_budget.cli.connect import connected, timeout_option


@click.command()
@click.option(
    "--interval",
    "-i",
    type=click.FloatRange(min=0.2),
    default=1.0,
    show_default=True,
    help="Seconds between two looks, beside the time that the answers take.",
)
@click.option("--count", "-n", type=click.IntRange(min=1), help="Look so often and end.")
@timeout_option
@click.pass_context
def top(ctx: click.Context, interval: float, count: int | None, timeout: float) -> None:
    """Show bands, budgets and workers until Ctrl-C."""
    # Rich takes 40 ms to load, and Celery loads this module's package in every worker.
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    from celery_budget.cli.fleet import tabulate  # noqa: PLC0415

    console = Console(no_color=bool(ctx.obj.no_color), highlight=False)
    with connected(ctx, timeout) as client, Live(console=console, auto_refresh=False) as live:
        looked = 0
        try:
            while True:
                live.update(tabulate(client.fleet(), client.accounts()), refresh=True)
                looked += 1
                if looked == count:
                    return
                time.sleep(interval)
        except KeyboardInterrupt:
            return
