"""What the ledger costs a task: `python -m tests.benchmarks.ledger_traffic`.

First a worker at full speed under three budgets: how many calls of ours reach Redis for each task.
Then an idle worker that gets a task now and then: how long from publishing to the body, without
budgets, with allowance at hand, and for a tenant that is met for the first time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import click
from redis import Redis
from rich.console import Console
from rich.table import Table

from celery_budget.embedded import RedisServer
from tests.benchmarks.runner import Pool, start_run
from tests.benchmarks.variants import THREE_BUDGETS
from tests.budgets import Budgets

_POOL = Pool("prefork", 2)
_TIMEOUT_S = 300.0
_EVERY_S = 0.03
_BUDGETS = {
    "fleet": {"starts": "100000/1s"},
    "task:*": {"slots": 1_000},
    "tenant:*": {"usd": "1000/1d"},
}


def calls_per_task(server: RedisServer, tasks: int) -> tuple[float, float]:
    """Tell the calls of the ledger for each task, and the tasks a second meanwhile."""
    with Redis.from_url(server.url) as client, start_run(server.url, THREE_BUDGETS) as run:
        run.publish("noop", tasks, bands=("important",))
        client.config_resetstat()
        worker = run.start_worker(_POOL)
        run.wait_for(worker, 1, timeout_s=_TIMEOUT_S)
        begun = time.monotonic()
        before = run.progress()
        run.wait_for(worker, tasks, timeout_s=_TIMEOUT_S)
        rate = (tasks - before) / (time.monotonic() - begun)
        stats = client.info("commandstats")
    # kombu calls no script; the first call of a script is EVAL.
    calls = sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))
    return calls / tasks, rate


class Waits:
    """A worker of the budgets app, and how long single tasks wait for it."""

    def __init__(
        self, server: RedisServer, directory: Path, policy: Mapping[str, object], place: int
    ) -> None:
        directory.mkdir()
        databases = (40 + 3 * place, 41 + 3 * place, 42 + 3 * place)
        self.budgets = Budgets(server, directory, policy, databases=databases)
        self.budgets.start()
        self.note = self.budgets.sender().note
        self.published: dict[str, list[float]] = {}

    def publish(self, key: str, tenant: str) -> None:
        """Publish one task, and remember when."""
        times = self.published.setdefault(key, [])
        times.append(time.time())
        self.note.apply_async((key, len(times) - 1), tenant=tenant, cost={"usd": "0.01"})

    def waits_ms(self, key: str) -> list[float]:
        """Tell how long each waited, in ascending order; the first ten warm up."""
        begun = {
            each["number"]: each["at"] for each in self.budgets.journal.entries("ran", key=key)
        }
        times = self.published[key]
        return sorted(1e3 * (begun[n] - at) for n, at in enumerate(times) if n >= 10)


@click.command()
@click.option("--tasks", default=10_000, help="At full speed.")
@click.option("--singles", default=500, help="Single tasks of each kind.")
def main(tasks: int, singles: int) -> None:
    """Measure both."""
    console = Console()
    with RedisServer() as server, tempfile.TemporaryDirectory() as scratch:
        calls, rate = calls_per_task(server, tasks)
        console.print(f"{calls:.4f} calls of the ledger for each task, at {rate:.0f} tasks/s")
        bands = {"default_band": "only", "bands": {"only": {"queues": ["celery"]}}}
        without = Waits(server, Path(scratch) / "without", bands, 0)
        budgets = Waits(server, Path(scratch) / "with", {**bands, "budgets": _BUDGETS}, 1)
        kinds = (
            ("without budgets", without, "same"),
            ("allowance at hand", budgets, "same"),
            ("a new tenant", budgets, ""),
        )
        try:
            for number in range(singles):
                for key, waits, tenant in kinds:
                    waits.publish(key, tenant or f"tenant-{number}")
                    time.sleep(_EVERY_S)
            time.sleep(2)
            table = Table()
            for column in ("from publishing to the body, ms", "p50", "p95", "p99"):
                table.add_column(column, justify="right")
            for key, waits, _ in kinds:
                found = waits.waits_ms(key)
                parts = (found[int(part * len(found))] for part in (0.5, 0.95, 0.99))
                table.add_row(key, *(f"{each:.1f}" for each in parts))
            console.print(table)
        finally:
            for waits in (without, budgets):
                for worker in waits.budgets.workers:
                    worker.kill()


if __name__ == "__main__":
    main()
