"""How soon a busy fleet starts a burst of critical tasks: `python -m tests.benchmarks.burst`.

Three workers of two slots each, all full of optional tasks of one second that may be frozen; then
two hundred critical no-op tasks at once. How long each waits from its publishing, which worker
started it, and how long the optional tasks took that gave way.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import click
import psutil
from rich.console import Console
from rich.table import Table

from celery_budget.embedded import RabbitServer, RedisServer
from tests.benchmarks.report import percentile
from tests.benchmarks.runner import Pool, Run, start_run
from tests.benchmarks.variants import Variant, three_bands

_WORKERS, _SLOTS = 3, 2
_BURST = 200
_TASK_S = 1.0
_START_S, _SETTLE_S = 60.0, 20.0


def _app(spare: int) -> Variant:
    policy = {**three_bands(preempt=["freeze"]), "preemption": {"spare": spare}}
    return replace(Variant("ours, freeze"), policy=policy)


def measure(url: str, spare: int) -> tuple[str, ...]:
    """Do one run; give the cells of its row.

    Args:
        url: The broker's.
        spare: Children of each worker beside its slots.
    """
    with start_run(url, _app(spare)) as run:
        run.publish("slow", 40 * _WORKERS * _SLOTS, _TASK_S)
        workers = [run.start_worker(Pool("prefork", _SLOTS), f"w{n}") for n in range(_WORKERS)]
        run.wait_for(workers[-1], _WORKERS * _SLOTS, timeout_s=_START_S)
        run.publish("urgent", _BURST, 0.0)

        def ended(band: str) -> int:
            return sum(record.band == band for record in run.records())

        workers[0].wait_until(lambda: ended("critical") >= _BURST, _SETTLE_S, "the burst")
        # Those that gave way too, which leave a record when they end.
        least = 2 * _WORKERS * _SLOTS
        workers[0].wait_until(lambda: ended("optional") >= least, _SETTLE_S, "optional tasks")
        places = _places(run, [worker.pid for worker in workers])
        records = run.records()
    waits_ms = [1e3 * record.wait_s for record in records if record.band == "critical"]
    took = [r.ended - r.started for r in records if r.band == "optional"]
    return (
        f"{sum(wait <= 500 for wait in waits_ms)}/{_BURST}",
        *(f"{percentile(waits_ms, part):.0f}" for part in (0.5, 0.95, 1)),
        ", ".join(str(places[n]) for n in range(_WORKERS)),
        f"{max(took):.2f}",
    )


def _places(run: Run, pids: list[int]) -> Counter[int]:
    """Count the critical tasks of each worker: each child leaves a file of its own."""
    counts: Counter[int] = Counter()
    for number, pid in enumerate(pids):
        for child in psutil.Process(pid).children():
            records = run.records(child.pid)
            counts[number] += sum(record.band == "critical" for record in records)
    return counts


@click.command()
@click.option("--rounds", default=3, show_default=True)
def main(rounds: int) -> None:
    """Measure with one and with two spare children, on Redis and RabbitMQ."""
    title = f"A burst of {_BURST}, {_WORKERS} busy workers of {_SLOTS} slots; waits in ms"
    table = Table(title=title)
    for column in (
        *("broker", "spare", "within 500 ms", "p50", "p95", "max"),
        *("by worker", "longest optional, s"),
    ):
        table.add_column(column, justify="right")
    with RedisServer() as redis, RabbitServer() as rabbitmq:
        for server in (redis, rabbitmq):
            for spare in (1, 2) * rounds:
                table.add_row(server.url.partition(":")[0], str(spare), *measure(server.url, spare))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
