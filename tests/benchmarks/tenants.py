"""What many tenants cost: `python -m tests.benchmarks.tenants`.

Each tenant has a budget of its own. All of them work once, then a few go on. Measured are the time
that an exchange keeps Redis busy, by Redis's own books, the time that the worker needs for a task
against that with ten tenants, and what is left in memory of those that are idle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from operator import truediv
from statistics import median
from time import perf_counter, time
from typing import Any

import click
from redis import Redis
from rich.console import Console
from rich.table import Table

from celery_budget.core.accounts import Accounts
from celery_budget.core.calendar import calendar_window
from celery_budget.core.decisions import Start
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.exchange import Report
from celery_budget.core.groups import FORGOTTEN_S
from celery_budget.core.reporting import LATE_US, LEASE_S, LEAST_S, TICK_S
from celery_budget.core.ticket import Ticket
from celery_budget.embedded import RedisServer
from celery_budget.policy.load import load
from celery_budget.stores.redis.connect import connect
from celery_budget.stores.redis.ledger import RedisLedger

_POLICY = {"budgets": {"tenant:*": {"usd": {"limit": "1000/1d"}}}}
_MICROS = 1_000_000
_SLOTS = 8

#: Tasks between two exchanges: what a worker of 1,000 tasks a second runs in a tick.
_TASKS = 50


@dataclass(slots=True)
class Cost:
    """What one number of tenants costs.

    Attributes:
        decision_us: Time of one decision, that a task starts or waits for a grant, of each tick.
        decided_us: Time of the decisions for one task, of each tick.
        cycle_us: All of the worker's time for one task, of each tick.
        exchange_us: Time that each exchange kept Redis busy.
        lines: Most accounts in one of them.
    """

    decision_us: list[float] = field(default_factory=list)
    decided_us: list[float] = field(default_factory=list)
    cycle_us: list[float] = field(default_factory=list)
    exchange_us: list[int] = field(default_factory=list)
    lines: int = 0


class Worker:
    """Books and dispatcher of one worker, and its place at the ledger."""

    def __init__(self, ledger: RedisLedger) -> None:
        self.policy = load(_POLICY)
        self.accounts = Accounts(self.policy, {}, calendar_window, lease_s=LEASE_S)
        self.dispatcher = Dispatcher(self.policy.bands, _SLOTS, accounts=self.accounts)
        self.lines = 0
        self.decided_s = 0.0
        self._ledger = ledger
        self._epoch = ""
        self._reports = count(1)
        self._tickets = count()

    def run(self, tenants: Sequence[str], now: float) -> int:
        """Offer a task of each tenant and run what may start; tell how many did."""
        name = self.policy.default_band
        for tenant in tenants:
            ticket = Ticket(f"id-{next(self._tickets)}", "task", name, tenant, published=now)
            ticket.cost = (("usd", 10_000),)
            self.dispatcher.offer(ticket, now)
        started = 0
        while True:
            begun = perf_counter()
            decision = self.dispatcher.decide(now)
            self.decided_s += perf_counter() - begun
            if not isinstance(decision, Start):
                return started
            self.dispatcher.ended(decision.ticket, now, usage={"usd": 10_000})
            started += 1

    def exchange(self, now: float) -> None:
        """Tell the ledger, and hear what it grants."""
        lines = self.accounts.lines(now, int(now * _MICROS), _SLOTS)
        self.lines = max(self.lines, len(lines))
        report = Report("bench:1:1", next(self._reports), self._epoch, LATE_US, lines)
        answer = self._ledger.exchange(report)
        self._epoch = answer.epoch
        self.dispatcher.wake(self.accounts.heard(lines, answer, now), now)


class Tenants:
    """Some tenants, of whom a few go on when all have worked once."""

    def __init__(self, url: str, known: int, active: int) -> None:
        self.known, self.active = known, active
        self.now = time()
        self.worker = Worker(RedisLedger(connect(url), f"bench{known}", int(LEASE_S * _MICROS)))
        self.cost = Cost()
        self._names = [f"tenant-{number}" for number in range(known)]
        self._turn = 0

    def begin(self) -> None:
        """Let all of them work once."""
        for first in range(0, self.known, 2_000):
            self.worker.run(self._names[first : first + 2_000], self.now)
            self.settle()
        self.worker.lines = 0

    def settle(self) -> None:
        """Exchange until nothing waits that the ledger could grant, and all is told."""
        worker = self.worker
        while worker.dispatcher.held_total or worker.accounts.is_urgent:
            self.now += LEAST_S
            worker.exchange(self.now)
            worker.run((), self.now)

    def tick(self, client: Any) -> None:
        """Let those that go on have some tasks, each in turn."""
        worker = self.worker
        batch = [self._names[(self._turn + place) % self.active] for place in range(_TASKS)]
        self._turn += _TASKS
        client.slowlog_reset()
        worker.decided_s = 0.0
        # A tick takes less than that here, as the worker does nothing else.
        self.now = now = self.now + TICK_S
        begun = perf_counter()
        started = worker.run(batch, now)
        told = perf_counter()
        # Tickets of one tenant wait together, by one decision.
        waiting = len({ticket.tenant for ticket in worker.dispatcher.listed(_TASKS)})
        worker.exchange(now)
        heard = perf_counter()
        started += worker.run((), now)
        spent_s = perf_counter() - heard + told - begun
        self.cost.decision_us.append(worker.decided_s / (started + waiting) * _MICROS)
        self.cost.decided_us.append(worker.decided_s / started * _MICROS)
        self.cost.cycle_us.append(spent_s / started * _MICROS)
        self.cost.exchange_us += [
            each["duration"]
            for each in client.slowlog_get(10)
            if each["command"].startswith(b"EVALSHA")
        ]
        self.cost.lines = worker.lines


@click.command()
@click.option("--tenants", default=100_000, help="All of them.")
@click.option("--active", default=1_000, help="Those that go on.")
@click.option("--ticks", default=400, help="Measured of each; they alternate.")
def main(tenants: int, active: int, ticks: int) -> None:
    """Compare ten tenants with many."""
    with RedisServer() as server, Redis.from_url(server.url) as client:
        client.config_set("slowlog-log-slower-than", 0)
        empty = client.info("memory")["used_memory"]
        few, many = Tenants(server.url, 10, 10), Tenants(server.url, tenants, active)
        for each in (few, many):
            each.begin()
        bytes_each = (client.info("memory")["used_memory"] - empty) / tenants
        for _ in range(ticks):
            for each in (few, many):
                each.tick(client)
        before = len(many.worker.accounts.allowances)
        later = many.now + 2 * FORGOTTEN_S
        for tick in range(400):
            many.worker.exchange(later + tick)
        after = len(many.worker.accounts.allowances)
    show(few, many)
    click.echo(f"Redis keeps {bytes_each:.0f} bytes for a tenant until its window ends.")
    click.echo(f"The worker's allowances: {before:,}, and {after:,} when all have been idle.")


def show(few: Tenants, many: Tenants) -> None:
    """Print medians over all ticks, and how many compare to few, tick by tick."""
    table = Table(caption="Microseconds, but for exchanges.")
    for column in (
        *("tenants", "active", "a decision", "decisions of a task", "all of a task"),
        *("exchange, ms", "most", "accounts"),
    ):
        table.add_column(column, justify="right")
    for each in (few, many):
        cost = each.cost
        table.add_row(
            f"{each.known:,}",
            f"{each.active:,}",
            f"{median(cost.decision_us):.1f}",
            f"{median(cost.decided_us):.1f}",
            f"{median(cost.cycle_us):.1f}",
            f"{median(cost.exchange_us) / 1e3:.2f}",
            f"{max(cost.exchange_us) / 1e3:.2f}",
            str(cost.lines),
        )
    ratios = [
        f"{median(map(truediv, theirs, ours)):.2f}"
        for theirs, ours in (
            (many.cost.decision_us, few.cost.decision_us),
            (many.cost.decided_us, few.cost.decided_us),
            (many.cost.cycle_us, few.cost.cycle_us),
        )
    ]
    table.add_row("ratio", "", *ratios)
    Console().print(table)


if __name__ == "__main__":
    main()
