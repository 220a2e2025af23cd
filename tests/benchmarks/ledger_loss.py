"""What a fleet does without its ledger: `python -m tests.benchmarks.ledger_loss`.

Two workers under load in three bands, one for each `on_ledger_loss`. The ledger's Redis, which is
not that of the messages, is stopped for a while and goes on. Measured are the waits of the open
band before and meanwhile, what each band ran, and what the accounts say in the end.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from types import ModuleType

import click
from redis import Redis
from rich.console import Console
from rich.table import Table

from celery_budget.embedded import RedisServer
from celery_budget.stores.redis.connect import connect
from celery_budget.stores.redis.ledger import RedisLedger
from tests.budgets import MILLION, Budgets, publish

_BANDS = ("open", "local", "closed")
_WORKERS, _SLOTS = 2, 3
_EVERY_S = 0.05
_SERVICE_S = 0.01

#: Starts a second of the bands that wait: a fraction of what the slots could run.
_LIMIT = 20
_POLICY = {
    "default_band": "open",
    "bands": {
        "open": {"on_ledger_loss": "open", "preempts": True, "reserve": 1},
        "local": {"on_ledger_loss": "local"},
        "closed": {"on_ledger_loss": "closed"},
    },
    "budgets": {
        "band:open": {"usd": "100000/1d"},
        "band:local": {"starts": f"{_LIMIT}/1s", "usd": "100000/1d"},
        "band:closed": {"starts": f"{_LIMIT}/1s", "usd": "100000/1d"},
    },
}


class Stream:
    """Publishes a task of the open band now and then, and remembers when."""

    def __init__(self, sender: ModuleType) -> None:
        self.published: list[float] = []
        self._sender = sender
        self._end = Event()
        self._thread = Thread(target=self._publish)
        self._thread.start()

    def _publish(self) -> None:
        pay = self._sender.pay
        with self._sender.app.producer_pool.acquire(block=True) as producer:
            while not self._end.wait(_EVERY_S):
                arguments = ("open", "1", len(self.published), _SERVICE_S)
                self.published.append(time.time())
                pay.apply_async(arguments, band="open", cost={"usd": "1"}, producer=producer)

    def end(self) -> None:
        """Publish no more."""
        self._end.set()
        self._thread.join()


def _wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(what)
        time.sleep(0.05)


def _p99_ms(waits: list[float]) -> float:
    return sorted(waits)[int(0.99 * len(waits))] * 1e3


@click.command()
@click.option("--before", default=20.0, help="Seconds with the ledger.")
@click.option("--away", default=60.0, help="Seconds without it.")
def main(before: float, away: float) -> None:
    """Measure one loss."""
    with RedisServer() as broker, RedisServer() as server, tempfile.TemporaryDirectory() as scratch:
        with Redis.from_url(server.url) as client:
            pid = int(client.info("server")["process_id"])
        budgets = Budgets(broker, Path(scratch), _POLICY, budget_ledger_url=server.url)
        try:
            _measure(budgets, server.url, pid, before, away)
        finally:
            os.kill(pid, signal.SIGCONT)
            for worker in budgets.workers:
                worker.kill()


def _measure(budgets: Budgets, url: str, pid: int, before: float, away: float) -> None:
    budgets.start(_WORKERS, slots=_SLOTS)
    sender = budgets.sender()
    backlog = int(3 * _LIMIT * (before + away))
    for band in ("local", "closed"):
        calls = [(band, "1", number, _SERVICE_S) for number in range(backlog)]
        publish(sender.pay, calls, band=band, cost={"usd": "1"})
    stream = Stream(sender)
    time.sleep(before)  # the measurement itself
    os.kill(pid, signal.SIGSTOP)
    lost = time.time()
    time.sleep(away)
    os.kill(pid, signal.SIGCONT)
    back = time.time()
    time.sleep(10)
    stream.end()
    paid = budgets.journal.entries("paid")
    waits = {
        entry["number"]: entry["at"] - _SERVICE_S - stream.published[entry["number"]]
        for entry in paid
        if entry["key"] == "open"
    }
    # The first seconds are for start-up, and those of the lease change nothing yet.
    early = [
        wait
        for number, wait in waits.items()
        if stream.published[0] + 5 < stream.published[number] < lost
    ]
    meanwhile = [wait for number, wait in waits.items() if lost < stream.published[number] < back]
    for worker in budgets.workers:
        worker.stop()
    paid = budgets.journal.entries("paid")
    with connect(url) as client:
        accounts = RedisLedger(client, "default", 5 * MILLION).accounts()
    table = Table()
    for column in ("band", "in the loss", "of them after 6 s", "allowed then", "ran", "accounts"):
        table.add_column(column, justify="right")
    allowed = {"open": "any", "local": str(round(_LIMIT * (back - lost))), "closed": "0"}
    for band in _BANDS:
        times = [entry["at"] for entry in paid if entry["key"] == band]
        table.add_row(
            band,
            str(sum(lost < at < back for at in times)),
            str(sum(lost + 6 < at < back for at in times)),
            allowed[band],
            str(len(times)),
            str(accounts[f"band:{band} usd"].spent // MILLION),
        )
    console = Console()
    console.print(table)
    console.print(
        f"Waits of the open band: p99 {_p99_ms(early):.1f} ms of {len(early)} before, "
        f"{_p99_ms(meanwhile):.1f} ms of {len(meanwhile)} without the ledger."
    )


if __name__ == "__main__":
    main()
