"""`budget status`: one task, or all bands and workers."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from celery_budget.cli.connect import WRONG, connected, json_option, timeout_option
from celery_budget.client import State

if TYPE_CHECKING:
    from celery_budget.client import AccountStatus
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
            fleet, accounts = client.fleet(), client.accounts()
        if as_json:
            click.echo(json.dumps(_described(fleet, accounts), indent=2))
        else:
            _print_fleet(fleet, accounts, is_plain=bool(ctx.obj.no_color))
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


def _described(fleet: Fleet, accounts: list[AccountStatus]) -> dict[str, object]:
    return {
        "slots": fleet.slots,
        "wanted_slots": fleet.wanted_slots,
        "wanted_workers": fleet.wanted_workers,
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
        "accounts": [asdict(account) for account in accounts],
        "workers": [{"name": name, **asdict(worker)} for name, worker in fleet.workers.items()],
    }


def _print_fleet(fleet: Fleet, accounts: list[AccountStatus], *, is_plain: bool) -> None:
    # Rich takes 40 ms to load, and Celery loads this module's package in every worker.
    from rich.console import Console  # noqa: PLC0415

    from celery_budget.cli.fleet import tabulate  # noqa: PLC0415

    Console(no_color=is_plain, highlight=False).print(tabulate(fleet, accounts))
