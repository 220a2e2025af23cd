"""A node that is filled: how soon lesser work stops there, and what becomes of the rest.

`python -m tests.benchmarks.pressure [--broker rabbitmq]`. Two workers with four slots; the node of
the first has 500 MiB. Critical tasks come each 100 ms and optional ones of 50 ms each 40 ms. Then
an optional task that may be evicted takes 600 MiB and keeps them. It is the first worker that gets
it, as the second starts a moment later.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread
from typing import Any, get_args

import click
from rich.console import Console
from rich.table import Table

from celery_budget.embedded import RabbitServer, RedisServer
from tests.benchmarks.report import percentile
from tests.benchmarks.variants import BrokerName
from tests.fleet import Fleet
from tests.servers import Broker, own_database

_NODE, _TAKES_MIB = "500MiB", 600
_CRITICAL_S, _OPTIONAL_S, _LENGTH_S = 0.1, 0.04, 0.05
#: How long tasks come before the large one, and after it has begun, seconds.
_BEFORE_S, _AFTER_S = 5.0, 8.0
_POLICY: dict[str, Any] = {
    "default_band": "optional",
    "bands": {"critical": {"preempts": True}, "optional": {"preempt": ["evict"]}},
    "pressure": {},
}


class _Stream(Thread):
    """Publishes tasks at regular times until it is told to stop."""

    def __init__(self, fleet: Fleet, band: str, every_s: float, length_s: float) -> None:
        super().__init__()
        self.published: list[float] = []
        self.is_over = Event()
        self._sender = fleet.sender(policy=_POLICY)
        self._band = band
        self._every_s = every_s
        self._length_s = length_s

    def run(self) -> None:
        """Publish."""
        begun = time.monotonic()
        while not self.is_over.wait(
            max(0.0, begun + len(self.published) * self._every_s - time.monotonic())
        ):
            number = len(self.published)
            self.published.append(time.time())
            self._sender.pause.apply_async((self._band, self._length_s, number), band=self._band)


def measure(fleet: Fleet) -> list[str]:
    """Fill the node once.

    Returns:
        Seconds from the memory being taken to the last optional start on the node; the 99th
        percentile of critical waits before and after, ms; how many critical tasks ran on the node
        after; how often the large task began and ended.
    """
    fleet.settings["budget_state_url"] = fleet.results
    small = fleet.start(concurrency=4, policy=_POLICY, settings={"budget_node_memory": _NODE})
    sender = fleet.sender(policy=_POLICY)
    streams = [
        _Stream(fleet, "critical", _CRITICAL_S, 0.0),
        _Stream(fleet, "optional", _OPTIONAL_S, _LENGTH_S),
    ]
    for stream in streams:
        stream.start()
    gate = fleet.gate()
    time.sleep(_BEFORE_S)
    large = sender.fill.apply_async(("large", _TAKES_MIB, str(gate)), band="optional").id
    _wait(lambda: fleet.journal.count("started", key="large") == 1)
    began = fleet.journal.entries("started", key="large")[0]["at"]
    fleet.start(concurrency=4, policy=_POLICY)
    time.sleep(max(0.0, began + _AFTER_S - time.time()))
    for stream in streams:
        stream.is_over.set()
        stream.join()
    gate.touch()
    fleet.outcome(large)
    if "is evicted as its node" not in small.log:
        raise RuntimeError("the large task was not evicted for its memory")
    pids = {entry["pid"] for entry in _starts(fleet, "optional", 0.0, began)}
    pids |= {entry["pid"] for entry in _starts(fleet, "critical", 0.0, began)}
    last = max(e["at"] for e in _starts(fleet, "optional", began, began + 5) if e["pid"] in pids)
    waits = [
        [
            1e3 * (entry["at"] - streams[0].published[entry["number"]])
            for entry in _starts(fleet, "critical", *stretch)
        ]
        for stretch in ((began - _BEFORE_S + 1, began), (began, began + _AFTER_S))
    ]
    there = sum(e["pid"] in pids for e in _starts(fleet, "critical", began + 2, began + 5))
    return [
        f"{last - began:.2f}",
        *(f"{percentile(each, 0.99):.0f}" for each in waits),
        str(there),
        str(fleet.journal.count("started", key="large")),
        str(fleet.journal.count("ended", key="large")),
    ]


def _starts(fleet: Fleet, band: str, begin: float, end: float) -> list[dict[str, Any]]:
    entries = fleet.journal.entries("started", key=band)
    return [entry for entry in entries if begin <= entry["at"] < end]


def _wait(condition: Any) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError
        time.sleep(0.002)


@click.command()
@click.option("--broker", type=click.Choice(get_args(BrokerName)), default="redis")
@click.option("--rounds", default=3, help="How often the node is filled.")
def main(broker: BrokerName, rounds: int) -> None:
    """Fill the node some times."""
    table = Table()
    for column in (
        "last optional start there after, s",
        "critical p99 before, ms",
        "after, ms",
        "critical there, from 2 to 5 s",
        "large began",
        "ended",
    ):
        table.add_column(column, justify="right")
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        url = redis.url if broker == "redis" else stack.enter_context(RabbitServer()).url
        for _ in range(rounds):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            where = Broker(broker, own_database(url) if broker == "redis" else url)
            fleet = Fleet(where, own_database(redis.url), directory)
            try:
                table.add_row(*measure(fleet))
            finally:
                fleet.close()
    Console().print(table)


if __name__ == "__main__":
    main()
