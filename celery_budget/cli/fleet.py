"""The fleet as tables: bands, workers and the accounts of budgets.

Rich takes 40 ms to load, and Celery loads the package of this module in every worker: so only the
commands that print import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from celery_budget.client import AccountStatus
    from celery_budget.client.fleet import Fleet

#: Workers that one cell names; more would hide the numbers beside it.
MOST_NAMED = 4


def tabulate(fleet: Fleet, accounts: Sequence[AccountStatus]) -> RenderableType:
    """Lay out what all workers do and what is left of each budget."""
    parts: list[RenderableType] = []
    if fleet.bands:
        parts.append(_bands(fleet))
    parts.extend(
        Text(f"queue {queue}, of no band: {depth} queued", no_wrap=True, overflow="ignore")
        for queue, depth in fleet.other_depths.items()
    )
    if accounts:
        parts.append(_accounts(accounts))
    if fleet.workers:
        parts.append(_workers(fleet))
        wanted = f"What runs and waits now takes {fleet.wanted_slots} slots"
        number = f"{fleet.wanted_workers} workers like the largest one"
        parts.append(Text(f"{wanted}: {number}.", no_wrap=True, overflow="ignore"))
    else:
        parts.append(Text("No worker answered: is one running?", no_wrap=True, overflow="ignore"))
    return Group(*parts)


def _bands(fleet: Fleet) -> Table:
    table = Table(title="Bands, most urgent first", title_justify="left")
    table.add_column("band", overflow="fold")
    table.add_column("queues", overflow="fold")
    for column in ("queued", "held", "running", "frozen", "throttled"):
        table.add_column(column, justify="right")
    for name in fleet.bands:
        load = fleet.load(name)
        queues = Text(" ".join(fleet.queues[name]))
        counts = (fleet.depth(name), load.held, load.running, load.frozen)
        throttled = "-" if load.throttled_to >= 1 else f"to {load.throttled_to:.0%}"
        if load.throttled_by:
            throttled += f", {load.throttled_by}"
        table.add_row(Text(name), queues, *map(str, counts), Text(throttled))
    return table


def _workers(fleet: Fleet) -> Table:
    table = Table(title="Workers: running + held", title_justify="left")
    table.add_column("worker", overflow="fold")
    table.add_column("slots", justify="right")
    for name in fleet.bands:
        table.add_column(name, justify="right")
    table.add_column("note", overflow="fold")
    for name, worker in fleet.workers.items():
        loads = [worker.bands.get(band) for band in fleet.bands]
        table.add_row(
            Text(name),
            "-" if worker.slots is None else str(worker.slots),
            *("-" if load is None else f"{load.running} + {load.held}" for load in loads),
            Text(worker.note),
        )
    return table


def _accounts(accounts: Sequence[AccountStatus]) -> Table:
    table = Table(title="Budgets, by account", title_justify="left")
    table.add_column("account", overflow="fold")
    table.add_column("limit", overflow="fold")
    for column in ("used", "leased", "free", "debt"):
        table.add_column(column, justify="right")
    table.add_column("held by", overflow="fold")
    table.add_column("waited for by", overflow="fold")
    for account in accounts:
        amounts = (account.used, account.leased, account.free, account.debt)
        table.add_row(
            Text(account.name),
            Text(f"{account.text(account.limit)} {account.window}"),
            *(account.text(units) if units else "-" for units in amounts),
            Text(_named(account, account.holders)),
            Text(_named(account, account.waiting)),
        )
    return table


def _named(account: AccountStatus, units: Mapping[str, int]) -> str:
    most = sorted(units.items(), key=lambda item: -item[1])
    named = [f"{worker} {account.text(amount)}" for worker, amount in most[:MOST_NAMED]]
    rest = len(most) - len(named)
    return ", ".join([*named, f"and {rest} more"] if rest else named)
