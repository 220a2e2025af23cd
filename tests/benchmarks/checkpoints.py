"""How long critical tasks wait for a checkpoint: `python -m tests.benchmarks.checkpoints`.

Two slots full of optional tasks of one second that come to a checkpoint each 20 ms, and a critical
no-op task each 100 ms, as in `overload.py`. Nothing may be frozen: the optional tasks leave, and go
on afterwards. All of them are waited for at the end, and what they did is counted step by step.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import click
from rich.console import Console
from rich.table import Table

from celery_budget.embedded import RabbitServer, RedisServer
from tests.benchmarks.report import percentile
from tests.benchmarks.runner import Pool, start_run
from tests.benchmarks.variants import Variant, three_bands

_SLOTS = 2
_TASK_S = 1.0
_INTERVAL_S = 0.1
#: Start of worker and publisher, and as long again for tasks that leave to end.
_START_S, _TAIL_S = 60.0, 120.0
_APP = Variant("ours, checkpoint", policy=three_bands(preempt=["checkpoint"]))


def measure(url: str, state_url: str, pool: Pool, seconds: int) -> tuple[str, ...]:
    """Do one run; give the cells of its row.

    Args:
        url: The broker's.
        state_url: Of the Redis that keeps the checkpoints.
        pool: Of the worker.
        seconds: How long critical tasks are published.
    """
    urgent = round(seconds / _INTERVAL_S)
    # They last for as long as critical tasks come, which take some of the time.
    optional = round(_SLOTS * seconds / _TASK_S)
    with start_run(url, replace(_APP, state_url=state_url)) as run:
        run.publish("march", optional, _TASK_S)
        worker = run.start_worker(pool)
        run.wait_for(worker, _SLOTS, timeout_s=_START_S)
        run.publish("urgent", urgent, _INTERVAL_S)

        def ended() -> Counter[str]:
            bands = Counter(record.band for record in run.records())
            return Counter({band: count for band, count in bands.items() if band.endswith(":end")})

        worker.wait_until(lambda: len(ended()) >= optional, _TAIL_S, "end of the optional tasks")
        records = run.records()
        bodies = run.progress()
    waits_ms = [1e3 * record.wait_s for record in records if record.band == "critical"]
    steps = Counter(record.band for record in records if record.band != "critical")
    ends = ended_twice = 0
    for band, count in steps.items():
        if band.endswith(":end"):
            ends += 1
            ended_twice += count - 1
    taken = sum(steps.values()) - ends - ended_twice
    once = len(steps) - ends
    return (
        f"{len(waits_ms)}/{urgent}",
        *(f"{percentile(waits_ms, part):.1f}" for part in (0.5, 0.95, 0.99, 1)),
        f"{ends}/{optional}",
        str(ended_twice),
        f"{taken - once}",
        f"{bodies - optional}",
    )


@click.command()
@click.option("--seconds", default=20, show_default=True, help="Length of each run.")
@click.option("--rounds", default=2, show_default=True)
def main(seconds: int, rounds: int) -> None:
    """Measure pools of threads and of processes on Redis and RabbitMQ."""
    table = Table(title=f"Waits for a checkpoint, ms, {_SLOTS} slots, {seconds} s a run")
    for column in (
        *("broker", "pool", "started", "p50", "p95", "p99", "max"),
        *("ended", "ended again", "steps again", "times left"),
    ):
        table.add_column(column, justify="right")
    with RedisServer() as redis, RabbitServer() as rabbitmq:
        for server in (redis, rabbitmq):
            for pool in [Pool("threads", _SLOTS), Pool("prefork", _SLOTS)] * rounds:
                cells = measure(server.url, redis.url, pool, seconds)
                table.add_row(server.url.partition(":")[0], pool.kind, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
