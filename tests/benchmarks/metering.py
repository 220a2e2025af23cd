"""`python -m tests.benchmarks.metering`: what metering costs a task, by what is read.

A child of a real prefork pool traces a task that does nothing, through the meter and without,
batch by batch in turn. The last case is not the meter: it is what Celery's two signals around
a task would cost with receivers that do nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

import click
from billiard.pool import Pool
from celery import Celery
from celery.app.trace import build_tracer
from celery.signals import task_postrun, task_prerun
from rich.console import Console
from rich.table import Table

from celery_budget.board import PoolKind, SharedBoard
from celery_budget.child.meter import Meter

_TASKS = 200
_ID = "0f3b2f6e-9f43-4a4e-9d3c-2b6b6a1c9d55"
_CASES = {
    "wall": ("runtime",),
    "wall, cpu": ("cpu",),
    "wall, cpu, io": ("cpu", "io"),
    "wall, cpu, memory": ("cpu", "memory"),
    "all, one charged": ("cpu", "io", "memory", "usd"),
}
_SIGNALS = "two empty signal receivers"

_board = SharedBoard()
_app = Celery("metering", set_as_current=False)


@_app.task(shared=False, ignore_result=True)
def nothing() -> None:
    """Do nothing: all that is left is overhead."""


def _receive(**_: object) -> None:
    """Do nothing."""


def _batch_us(call: Callable[..., object], *head: object) -> float:
    """Time a task, microseconds, as the mean of one batch."""
    begun = perf_counter_ns()
    for _ in range(_TASKS):
        call(*head, _ID, (), {}, {"id": _ID})
    return (perf_counter_ns() - begun) / _TASKS / 1_000


def _measure(batches: int) -> dict[str, tuple[float, float, float]]:
    """Run in the child: plain time of a task, and what each case adds (median, least)."""
    tracer = build_tracer(nothing.name, nothing, app=_app)
    calls: dict[str, tuple[Any, ...]] = {
        name: (Meter(_board, resources, PoolKind.PREFORK).call, 1, tracer)
        for name, resources in _CASES.items()
    }
    calls[_SIGNALS] = (tracer,)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(batches):
        for name, call in calls.items():
            plain = _batch_us(tracer)
            if name == _SIGNALS:
                task_prerun.connect(_receive)
                task_postrun.connect(_receive)
            found[name].append((plain, _batch_us(*call)))
            task_prerun.disconnect(_receive)
            task_postrun.disconnect(_receive)
    return {
        name: (
            median(plain for plain, _ in pairs),
            median(metered - plain for plain, metered in pairs),
            min(metered for _, metered in pairs) - min(plain for plain, _ in pairs),
        )
        for name, pairs in found.items()
    }


@click.command()
@click.option("--batches", type=click.IntRange(min=1), default=100, help="Of 200 tasks, per case.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all numbers there.")
def main(batches: int, file: Path | None) -> None:
    """Measure what metering adds to a task that does nothing."""
    pool = Pool(1)
    try:
        found = pool.apply(_measure, (batches,))
    finally:
        pool.terminate()
    table = Table(title=f"µs added to a task, {batches} batches of {_TASKS} tasks")
    for column in ("read", "task alone, µs", "added, median", "added, least batches"):
        table.add_column(column, justify="left" if column == "read" else "right")
    for name, numbers in found.items():
        table.add_row(name, *(f"{number:.1f}" for number in numbers))
    Console().print(table)
    if file is not None:
        file.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
