"""Urgent tasks that compute beside lesser ones that do: how long they take.

`python -m tests.benchmarks.processors [--broker rabbitmq]`. One worker with three slots for each
processor, and a backlog of optional tasks that compute for a second and may be frozen; twice a
second comes a critical one that computes for 100 ms. With and without `cpu` in `[pressure]`,
alternating.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console
from rich.table import Table

from celery_budget.embedded import RabbitServer, RedisServer
from tests.benchmarks.report import percentile
from tests.benchmarks.variants import BrokerName
from tests.fleet import Fleet
from tests.servers import Broker, own_database

_SLOTS_EACH = 3
_CRITICAL_S, _EVERY_S, _OPTIONAL_S = 0.1, 0.5, 1.0
#: Left out at the beginning, as nothing is known of the tasks yet, and measured then, seconds.
_BEFORE_S, _MEASURED_S = 5.0, 20.0


def _policy(*, is_on: bool) -> dict[str, Any]:
    return {
        "default_band": "optional",
        "bands": {"critical": {"preempts": True}, "optional": {"preempt": ["freeze"]}},
        "preemption": {"spare": 1},
        "pressure": {"cpu": "100%"} if is_on else {},
    }


def measure(fleet: Fleet, *, is_on: bool) -> list[float]:
    """Let one worker compute.

    Returns:
        The median and the 95th percentile of how long critical tasks took, ms; of how long they
        waited, ms; and how many optional tasks ended a second.
    """
    policy = _policy(is_on=is_on)
    processors = len(os.sched_getaffinity(0))
    fleet.start(concurrency=_SLOTS_EACH * processors, policy=policy)
    sender = fleet.sender(policy=policy)
    open_gate = fleet.gate()
    open_gate.touch()
    whole_s = _BEFORE_S + _MEASURED_S
    for number in range(int(1.5 * processors * whole_s / _OPTIONAL_S)):
        sender.burn.apply_async(("optional", str(open_gate), _OPTIONAL_S, number), band="optional")
    published: list[float] = []
    begun = time.monotonic()
    while time.monotonic() < begun + whole_s:
        published.append(time.time())
        number = len(published) - 1
        arguments = ("critical", str(open_gate), _CRITICAL_S, number)
        sender.burn.apply_async(arguments, band="critical")
        time.sleep(max(0.0, begun + len(published) * _EVERY_S - time.monotonic()))
    time.sleep(1.0)  # what came last ends
    first, last = published[0] + _BEFORE_S, published[-1]
    starts = {e["number"]: e["at"] for e in fleet.journal.entries("started", key="critical")}
    ends = {e["number"]: e["at"] for e in fleet.journal.entries("ended", key="critical")}
    seen = [number for number in ends if first <= published[number] < last]
    took = [1e3 * (ends[number] - starts[number]) for number in seen]
    waits = [1e3 * (starts[number] - published[number]) for number in seen]
    done = [e for e in fleet.journal.entries("ended", key="optional") if first <= e["at"] < last]
    return [
        percentile(took, 0.5),
        percentile(took, 0.95),
        percentile(waits, 0.5),
        percentile(waits, 0.95),
        len(done) / (last - first),
    ]


@click.command()
@click.option("--broker", type=click.Choice(get_args(BrokerName)), default="redis")
@click.option("--rounds", default=3, help="How often each is measured.")
def main(broker: BrokerName, rounds: int) -> None:
    """Measure both, one after the other."""
    table = Table()
    columns = ("cpu", "took p50, ms", "p95", "waited p50, ms", "p95", "optional a second")
    for column in columns:
        table.add_column(column, justify="right")
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        url = redis.url if broker == "redis" else stack.enter_context(RabbitServer()).url
        for turn in range(2 * rounds):
            is_on = turn % 2 == 1
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            where = Broker(broker, own_database(url) if broker == "redis" else url)
            fleet = Fleet(where, own_database(redis.url), directory)
            try:
                found = measure(fleet, is_on=is_on)
            finally:
                fleet.close()
            table.add_row("100%" if is_on else "none", *(f"{each:.1f}" for each in found))
    Console().print(table)


if __name__ == "__main__":
    main()
