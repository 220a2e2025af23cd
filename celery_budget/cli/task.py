"""`budget move`, `promote`, `demote` and `cancel`: what an operator does with one task."""

from __future__ import annotations

import click

from celery_budget.cli.connect import WRONG, connected, timeout_option
from celery_budget.client import Moved


@click.command()
@click.argument("task_id")
@click.argument("band")
@timeout_option
@click.pass_context
def move(ctx: click.Context, task_id: str, band: str, timeout: float) -> None:
    """Let the waiting task TASK_ID wait in BAND."""
    with connected(ctx, timeout) as client:
        _tell(client.move(task_id, band))


@click.command()
@click.argument("task_id")
@timeout_option
@click.pass_context
def promote(ctx: click.Context, task_id: str, timeout: float) -> None:
    """Let the waiting task TASK_ID wait in the next more urgent band."""
    with connected(ctx, timeout) as client:
        _tell(client.promote(task_id))


@click.command()
@click.argument("task_id")
@timeout_option
@click.pass_context
def demote(ctx: click.Context, task_id: str, timeout: float) -> None:
    """Let the waiting task TASK_ID wait in the next less urgent band."""
    with connected(ctx, timeout) as client:
        _tell(client.demote(task_id))


@click.command()
@click.argument("task_id")
@timeout_option
@click.pass_context
def cancel(ctx: click.Context, task_id: str, timeout: float) -> None:
    """Keep the waiting task TASK_ID from starting; one that runs goes on."""
    with connected(ctx, timeout) as client:
        cancelled = client.cancel(task_id)
    if not cancelled.workers:
        click.echo("No worker answered. Only running workers remember a cancel: start one first.")
        ctx.exit(WRONG)
    if cancelled.running_on is not None:
        click.echo(
            f"{task_id} runs on {cancelled.running_on} and goes on. "
            f"To end it: celery -A APP control terminate SIGTERM {task_id}"
        )
        ctx.exit(WRONG)
    count = len(cancelled.workers)
    workers = "1 worker" if count == 1 else f"{count} workers"
    if cancelled.dropped:
        click.echo(f"{task_id} was held and is dropped; {workers} will not start it.")
    else:
        click.echo(f"{task_id} is dropped when it reaches a worker; {workers} will not start it.")


def _tell(moved: Moved) -> None:
    before = f" (was {moved.previous})" if moved.previous else ""
    click.echo(f"{moved.task_id} waits in band {moved.band} now{before}, at {moved.place}.")
