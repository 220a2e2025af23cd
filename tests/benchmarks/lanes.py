"""What a tenant's enormous backlog costs the others: `python -m tests.benchmarks.lanes`.

Twenty tenants in one band. Nineteen send tasks at random moments, so that the workers are busy for
three quarters of the time; the twentieth sends nothing, or has a hundred thousand tasks waiting
before the others begin. The same with lanes and, for comparison, without. Stretches with and
without the backlog alternate; each has workers and queues of its own.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import ModuleType
from typing import get_args

import click
from kombu.serialization import dumps
from kombu.utils.uuid import uuid
from rich.console import Console
from rich.table import Table

from celery_budget.embedded import RabbitServer, RedisServer
from tests.benchmarks.report import percentile
from tests.benchmarks.variants import BrokerName
from tests.budgets import Budgets
from tests.servers import Broker

_WORKERS, _SLOTS = 2, 4
_LANES = 8
_ELEPHANT = "elephant"
#: Of ordinary names; and one whose two lanes are the elephant's: one in 28 is so unlucky.
_OTHERS = (*(f"tenant-{number}" for number in range(18)), "tenant-87")

#: How long each task takes, seconds, and how many the others send together in a second: 75 % of
#: what eight slots can do.
_TASK_S, _RATE = 0.1, 60.0


@dataclass
class Stretch:
    """What one stretch showed.

    Attributes:
        lanes: Of the band.
        backlog: The elephant's tasks that waited when it began.
        left: Those of them that waited when it was over.
        waits_ms: Of each of the others: how long each task waited.
    """

    lanes: int
    backlog: int
    left: int = 0
    waits_ms: dict[str, list[float]] = field(default_factory=dict)

    @property
    def all_ms(self) -> list[float]:
        """Waits of all of the others."""
        return [wait for waits in self.waits_ms.values() for wait in waits]


def _policy(lanes: int) -> dict[str, object]:
    return {"bands": {"optional": {"lanes": lanes}}}


def _publish(sender: ModuleType, tenant: str, count: int) -> None:
    """Publish a backlog quickly: one message, with another id and a lane of its own each time."""
    amqp, task = sender.app.amqp, sender.pause
    band = amqp.policy().bands[0]
    arguments = (tenant, _TASK_S, 0)
    routed = amqp.router.route({"tenant": tenant}, task.name, arguments, {}, task)
    message = amqp.as_task_v2("", task.name, arguments, {})
    content_type, encoding, body = dumps(message.body, "json")
    with sender.app.connection_for_write() as connection, connection.channel() as channel:
        for queue in amqp.queues.values():
            queue(channel).declare()
        is_redis = connection.transport.driver_type == "redis"
        pipe = channel.client.pipeline(transaction=False) if is_redis else None
        for number in range(count):
            lane = band.queues[0]
            if band.lanes > 1:
                lane, _declare = amqp.lanes.destination(lane, band.lanes, tenant)
            name = uuid()
            headers = {**message.headers, **routed["headers"], "id": name, "root_id": name}
            prepared = channel.prepare_message(
                body,
                content_type=content_type,
                content_encoding=encoding,
                headers=headers,
                properties={"correlation_id": name, "delivery_mode": 2},
            )
            if pipe is None:
                channel.basic_publish(prepared, exchange="", routing_key=lane)
                continue
            channel._inplace_augment_message(prepared, "", lane)
            pipe.lpush(lane, json.dumps(prepared))
            if number % 500 == 499 or number == count - 1:
                pipe.execute()


def measure(budgets: Budgets, stretch: Stretch, seconds: float, seed: int) -> None:
    """Let workers run through one stretch."""
    sender = budgets.sender()
    _publish(sender, _ELEPHANT, stretch.backlog)
    workers = budgets.start(_WORKERS, slots=_SLOTS)
    chance = Random(seed)
    published: dict[tuple[str, int], float] = {}
    begun = at = time.time() + 2
    with sender.app.producer_pool.acquire(block=True) as producer:
        while (at := at + chance.expovariate(_RATE)) < begun + seconds:
            time.sleep(max(0.0, at - time.time()))
            tenant, number = chance.choice(_OTHERS), len(published)
            published[tenant, number] = time.time()
            arguments = (tenant, _TASK_S, number)
            sender.pause.apply_async(arguments, tenant=tenant, producer=producer)
    give_up = time.monotonic() + seconds
    ends: dict[tuple[str, int], float] = {}
    while len(ends) < len(published) and time.monotonic() < give_up:
        time.sleep(0.2)
        ends = {
            (entry["key"], entry["number"]): entry["at"]
            for entry in budgets.journal.entries("started")
            if entry["key"] != _ELEPHANT
        }
    over = time.time()
    stretch.left = stretch.backlog - budgets.journal.count("started", key=_ELEPHANT)
    for worker in workers:
        worker.kill()
    for call, at in published.items():
        # What has not started waits still.
        wait_ms = 1e3 * (ends.get(call, over) - at)
        stretch.waits_ms.setdefault(call[0], []).append(wait_ms)


def tabulate(stretches: Sequence[Stretch]) -> Table:
    """Lay out what the stretches showed, and how the waits compare."""
    table = Table(
        caption="Waits of the nineteen others, ms; of the unlucky tenant, and of the worst."
    )
    for column in (
        "lanes",
        "backlog",
        "left",
        "tasks",
        "p50",
        "p95",
        "p99",
        "unlucky p95",
        "worst p95",
    ):
        table.add_column(column, justify="right")
    for each in stretches:
        worst = max(percentile(waits, 0.95) for waits in each.waits_ms.values())
        unlucky = percentile(each.waits_ms[_OTHERS[-1]], 0.95)
        waits = [f"{percentile(each.all_ms, part):.0f}" for part in (0.5, 0.95, 0.99)]
        table.add_row(
            "-" if each.lanes == 1 else str(each.lanes),
            f"{each.backlog:,}",
            f"{each.left:,}",
            str(len(each.all_ms)),
            *waits,
            f"{unlucky:.0f}",
            f"{worst:.0f}",
        )
    return table


def ratio(stretches: Sequence[Stretch], lanes: int) -> float:
    """Tell how many times as long the others wait with the backlog as without, at p95."""
    waits: list[list[float]] = [[], []]
    for each in stretches:
        if each.lanes == lanes:
            waits[each.backlog > 0] += each.all_ms
    without, behind = (percentile(each, 0.95) for each in waits)
    return behind / without


@click.command()
@click.option("--broker", type=click.Choice(get_args(BrokerName)), default="redis")
@click.option("--backlog", default=100_000, help="The elephant's tasks.")
@click.option("--seconds", default=20.0, help="Length of each stretch.")
@click.option("--pairs", default=2, help="Stretches without and with the backlog.")
def main(broker: BrokerName, backlog: int, seconds: float, pairs: int) -> None:
    """Measure all, and print a table."""
    runs = [(_LANES, count, seconds) for _ in range(pairs) for count in (0, backlog)]
    # One pair without lanes, short and with less of the backlog: it is enough to bury everybody.
    runs += [(1, count, seconds / 3) for count in (0, backlog // 50)]
    stretches = []
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for number, (lanes, count, length) in enumerate(runs):
            directory = scratch / str(number)
            directory.mkdir()
            with ExitStack() as servers:
                own = None
                if broker == "rabbitmq":
                    rabbit = servers.enter_context(RabbitServer())
                    own = Broker("rabbitmq", rabbit.url)
                budgets = Budgets(redis, directory, _policy(lanes), own)
                stretches.append(Stretch(lanes, count))
                measure(budgets, stretches[-1], length, seed=number // 2)
    Console(width=140).print(tabulate(stretches))
    for lanes in (_LANES, 1):
        click.echo(f"{broker}, {lanes} lanes: {ratio(stretches, lanes):.1f} times at p95")


if __name__ == "__main__":
    main()
