"""What many tenants cost: `python -m tests.benchmarks.tenants`.

Each tenant has a budget of its own. All of them work once, then a few go on. Measured are the time
that an exchange keeps Redis busy, by Redis's own books, the time that the worker needs for a task
against that with ten tenants, and what is left in memory of those that are idle.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from statistics import median
from time import perf_counter, time
from typing import Any

import click
from redis import Redis
from rich.console import Console
from rich.table import Table

from celery_budget.core.accounts import Accounts
from celery_budget.core.decisions import Start
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.exchange import Report
from celery_budget.core.groups import FORGOTTEN_S
from celery_budget.core.ticket import Ticket
from celery_budget.embedded import RedisServer
from celery_budget.policy.load import load
from celery_budget.stores.redis.connect import connect
from celery_budget.stores.redis.ledger import RedisLedger
from celery_budget.worker.calendar import calendar_window
from celery_budget.worker.leases import LEASE_S

_POLICY = {"budgets": {"tenant:*": {"usd": {"limit": "1000/1d"}}}}
_MICROS = 1_000_000
_SLOTS = 8
_LATE_US = 150_000

#: Tasks between two exchanges: what a worker of 1,000 tasks a second runs in a tick.
_TASKS = 50


@dataclass(frozen=True, slots=True)
class Cost:
    """What one number of tenants costs.

    Attributes:
        cycle_us: The worker's time for one task.
        exchanges_us: Time that each exchange kept Redis busy.
        lines: Most accounts in one of them.
    """

    cycle_us: float
    exchanges_us: list[int]
    lines: int


class Worker:
    """Books and dispatcher of one worker, and its place at the ledger."""

    def __init__(self, ledger: RedisLedger) -> None:
        self.policy = load(_POLICY)
        self.accounts = Accounts(self.policy, {}, calendar_window, lease_s=LEASE_S)
        self.dispatcher = Dispatcher(self.policy.bands, _SLOTS, accounts=self.accounts)
        self.lines = 0
        self._ledger = ledger
        self._epoch = ""
        self._reports = count(1)
        self._tickets = count()

    def run(self, tenants: list[str], now: float) -> int:
        """Offer a task of each tenant and run what may start; tell how many did."""
        name = self.policy.default_band
        for tenant in tenants:
            ticket = Ticket(f"id-{next(self._tickets)}", "task", name, tenant, published=now)
            ticket.cost = (("usd", 10_000),)
            self.dispatcher.offer(ticket, now)
        started = 0
        while isinstance(decision := self.dispatcher.decide(now), Start):
            self.dispatcher.ended(decision.ticket, now, usage={"usd": 10_000})
            started += 1
        return started

    def exchange(self, now: float) -> None:
        """Tell the ledger, and hear what it grants."""
        lines = self.accounts.lines(now, int(now * _MICROS), _SLOTS)
        self.lines = max(self.lines, len(lines))
        report = Report("bench:1:1", next(self._reports), self._epoch, _LATE_US, lines)
        answer = self._ledger.exchange(report)
        self._epoch = answer.epoch
        self.dispatcher.wake(self.accounts.heard(lines, answer, now))

    def settle(self, now: float) -> None:
        """Exchange until nothing waits that the ledger could grant."""
        while self.dispatcher.held_total:
            self.exchange(now)
            self.run([], now)


def measure(client: Any, worker: Worker, known: int, active: int, batches: int) -> Cost:
    """Let all tenants work once, then let some of them go on.

    Args:
        client: Of the server with the ledger.
        worker: A new one.
        known: Tenants in all.
        active: Those that go on; each works in turn.
        batches: Ticks.
    """
    names = [f"tenant-{number}" for number in range(known)]
    for first in range(0, known, 2_000):
        worker.run(names[first : first + 2_000], time())
        worker.settle(time())
    worker.lines = 0
    client.slowlog_reset()
    turn = started = 0
    spent_s = 0.0
    for _ in range(batches):
        batch = [names[(turn + place) % active] for place in range(_TASKS)]
        turn += _TASKS
        now = time()
        begun = perf_counter()
        started += worker.run(batch, now)
        told = perf_counter()
        worker.exchange(now)
        heard = perf_counter()
        started += worker.run([], now)
        spent_s += perf_counter() - heard + told - begun
    slow = client.slowlog_get(4 * batches)
    exchanges = [each["duration"] for each in slow if each["command"].startswith(b"EVALSHA")]
    return Cost(spent_s / started * _MICROS, exchanges, worker.lines)


@click.command()
@click.option("--tenants", default=100_000, help="All of them.")
@click.option("--active", default=1_000, help="Those that go on.")
@click.option("--batches", default=400, help="Ticks measured of each.")
def main(tenants: int, active: int, batches: int) -> None:
    """Compare ten tenants with many."""
    table = Table()
    for column in ("tenants", "active", "us a task", "exchange ms, median", "most", "accounts"):
        table.add_column(column, justify="right")
    with RedisServer() as server, Redis.from_url(server.url) as client:
        client.config_set("slowlog-log-slower-than", 0)
        client.config_set("slowlog-max-len", 10 * batches)
        for known, going in ((10, 10), (tenants, active)):
            client.flushdb()
            empty = client.info("memory")["used_memory"]
            ledger = RedisLedger(connect(server.url), f"bench{known}", int(LEASE_S * _MICROS))
            worker = Worker(ledger)
            cost = measure(client, worker, known, going, batches)
            table.add_row(
                f"{known:,}",
                f"{going:,}",
                f"{cost.cycle_us:.1f}",
                f"{median(cost.exchanges_us) / 1e3:.2f}",
                f"{max(cost.exchanges_us) / 1e3:.2f}",
                str(cost.lines),
            )
        bytes_each = (client.info("memory")["used_memory"] - empty) / tenants
        before = len(worker.accounts.allowances)
        later = time() + 2 * FORGOTTEN_S
        for tick in range(400):
            worker.exchange(later + tick)
        after = len(worker.accounts.allowances)
    console = Console()
    console.print(table)
    console.print(f"Redis keeps {bytes_each:.0f} bytes for a tenant until its window ends.")
    console.print(f"The worker's allowances: {before:,}, and {after:,} when all have been idle.")


if __name__ == "__main__":
    main()
