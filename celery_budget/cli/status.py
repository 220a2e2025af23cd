"""`budget status`: one task, or all bands and workers."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from celery_budget.cli.connect import WRONG, connected, json_option, timeout_option
from celery_budget.client import State

if TYPE_CHECKING:
    from celery_budget.client.fleet import Fleet
    from celery_budget.client.status import Status


@click.command()
@click.argument("task_id", required=False)
@json_option
@timeout_option
@click.pass_context
def status(ctx: click.Context, task_id: str | None, *, as_json: bool, timeout: float) -> None:
    """Tell where the task TASK_ID is, or what all bands and workers are doing.

    Exit status 1: nobody knows the task, or no worker answered.
    """
    if task_id is None:
        with connected(ctx, timeout) as client:
            fleet = client.fleet()
        if as_json:
            click.echo(json.dumps(_described(fleet), indent=2))
        else:
            _print_fleet(fleet, is_plain=bool(ctx.obj.no_color))
        ctx.exit(0 if fleet.workers else WRONG)
    with connected(ctx, timeout) as client:
        found = client.status(task_id)
    if as_json:
        click.echo(json.dumps({**asdict(found), "explanation": found.explanation}, indent=2))
    else:
        _print_task(found)
    ctx.exit(WRONG if found.state is State.UNKNOWN else 0)


def _print_task(found: Status) -> None:
    name = f" ({found.task})" if found.task else ""
    doubt = "" if found.is_certain else ", probably"
    click.echo(f"{found.task_id}{name}: {found.state}{doubt}")
    click.echo(found.explanation)


def _described(fleet: Fleet) -> dict[str, object]:
    return {
        "slots": fleet.slots,
        "bands": [
            {
                "name": band,
                "queues": list(fleet.queues[band]),
                "queued": fleet.depth(band),
                **asdict(fleet.load(band)),
            }
            for band in fleet.bands
        ],
        "other_queues": fleet.other_depths,
        "workers": [{"name": name, **asdict(worker)} for name, worker in fleet.workers.items()],
    }


def _print_fleet(fleet: Fleet, *, is_plain: bool) -> None:
    # Rich takes 40 ms to load, and Celery loads this module's package in every worker.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(no_color=is_plain, highlight=False)
    if fleet.bands:
        bands = Table(title="Bands, most urgent first", title_justify="left")
        bands.add_column("band", overflow="fold")
        bands.add_column("queues", overflow="fold")
        for column in ("queued", "held", "running"):
            bands.add_column(column, justify="right")
        for name in fleet.bands:
            load = fleet.load(name)
            queues = Text(" ".join(fleet.queues[name]))
            counts = (fleet.depth(name), load.held, load.running)
            bands.add_row(Text(name), queues, *map(str, counts))
        console.print(bands)
    for queue, depth in fleet.other_depths.items():
        console.print(Text(f"queue {queue}, of no band: {depth} queued"), soft_wrap=True)
    if not fleet.workers:
        console.print(Text("No worker answered: is one running?"), soft_wrap=True)
        return
    workers = Table(title="Workers: running + held", title_justify="left")
    workers.add_column("worker", overflow="fold")
    workers.add_column("slots", justify="right")
    for name in fleet.bands:
        workers.add_column(name, justify="right")
    workers.add_column("note", overflow="fold")
    for name, worker in fleet.workers.items():
        loads = [worker.bands.get(band) for band in fleet.bands]
        workers.add_row(
            Text(name),
            "-" if worker.slots is None else str(worker.slots),
            *("-" if load is None else f"{load.running} + {load.held}" for load in loads),
            Text(worker.note),
        )
    console.print(workers)
