"""`python -m tests.benchmarks`: measure celery-budget against stock Celery on this machine."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import click
from rich.console import Console

from celery_budget.embedded import RabbitServer, RedisServer
from tests.benchmarks.decision_time import measure_decisions
from tests.benchmarks.memory import compare_memory
from tests.benchmarks.overload import compare_overload
from tests.benchmarks.preemption import compare_preemption
from tests.benchmarks.report import Report, document, tabulate
from tests.benchmarks.throughput import compare_throughput
from tests.benchmarks.variants import BrokerName

_Compare = Callable[[dict[BrokerName, str], int, Callable[[str], None]], Report]

#: Each benchmark with the rounds it makes unless told otherwise.
_BENCHMARKS: dict[str, tuple[_Compare, int]] = {
    "throughput": (compare_throughput, 5),
    "overload": (compare_overload, 2),
    "preemption": (compare_preemption, 2),
    "memory": (compare_memory, 3),
}


@click.command()
@click.argument("name", type=click.Choice([*_BENCHMARKS, "decision", "all"]), default="all")
@click.option("--broker", type=click.Choice(get_args(BrokerName)), help="Only this one.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all numbers there.")
@click.option("--pairs", type=click.IntRange(min=1), help="Alternating rounds of each comparison.")
def main(name: str, broker: BrokerName | None, file: Path | None, pairs: int | None) -> None:
    """Measure one benchmark, or all, against stock Celery in alternating runs."""
    console = Console()
    brokers: tuple[BrokerName, ...] = (broker,) if broker else get_args(BrokerName)
    reports = []
    machine = _machine()
    if name in ("decision", "all"):
        console.log("decision")
        reports.append(measure_decisions())
        console.print(tabulate(reports[-1]))
    with ExitStack() as servers:
        urls: dict[BrokerName, str] = {}
        for each in brokers if name in (*_BENCHMARKS, "all") else ():
            server = RedisServer() if each == "redis" else RabbitServer()
            servers.enter_context(server)
            urls[each] = server.url
            machine[f"{each} server"] = server.origin
        for benchmark, (compare, rounds) in _BENCHMARKS.items():
            if name in (benchmark, "all"):
                report = compare(urls, pairs or rounds, console.log)
                console.print(tabulate(report))
                reports.append(report)
    if file is not None:
        file.write_text(json.dumps(document(reports, machine), indent=2) + "\n")


def _machine() -> dict[str, object]:
    """Tell what a reader needs to judge the numbers."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("celery", "kombu", "redis", "amqp")},
    }


if __name__ == "__main__":
    main()
