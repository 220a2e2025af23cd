"""How fast a simulation runs: `python -m tests.benchmarks.world`.

A hundred thousand tasks of three bands, a thousand a second, on four workers of thirty-two slots
that share budgets and throttle the lesser bands; on the virtual clock, with the code that decides
in a real worker.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random

import click

from celery_budget.policy.load import load
from celery_budget.simulate.job import Job
from celery_budget.simulate.world import World

_POLICY = {
    "default_band": "optional",
    "bands": {
        "critical": {"preempts": True, "latency_target": "100ms"},
        "important": {"weight": 4},
        "optional": {"min_share": 0.05},
    },
    "tasks": {"pay": {"band": "critical"}, "report": {"band": "important"}},
    "budgets": {"fleet": {"starts": "100000/1s"}, "band:*": {"slots": 200}},
}
_WORKERS, _SLOTS = 4, 32
_PER_SECOND, _LENGTH_S, _TENANTS = 1_000, 0.1, 50


def _jobs(world: World, count: int) -> Iterator[Job]:
    chance = Random(3)
    at = world.clock.now
    for _ in range(count):
        at += chance.expovariate(_PER_SECOND)
        task = chance.choice(("pay", "report", "report", "other", "other"))
        tenant = f"t{chance.randrange(_TENANTS)}"
        yield world.job(task, chance.expovariate(1 / _LENGTH_S), at=at, tenant=tenant)


@click.command()
@click.option("--tasks", default=100_000)
def main(tasks: int) -> None:
    """Simulate them all."""
    world = World(load(_POLICY), seed=1)
    for number in range(_WORKERS):
        world.add_worker(f"w{number}", _SLOTS)
    world.arrive(_jobs(world, tasks))
    begun = time.monotonic()
    world.clock.run(tasks / _PER_SECOND + 60)
    took_s = time.monotonic() - begun
    click.echo(
        f"{len(world.runs)} tasks in {took_s:.1f} s: {len(world.runs) / took_s:.0f} a second"
    )


if __name__ == "__main__":
    main()
