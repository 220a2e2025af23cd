"""How soon a fleet follows an operator: `python -m tests.benchmarks.live`.

Five workers under load; policies are applied, tasks and tenants paused, in turn. Measured is the
time until every worker has said that it follows. It includes asking them, which takes 0.2 s or a
multiple of it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import click

from celery_budget.client import Operator
from celery_budget.embedded import RedisServer
from tests.budgets import Budgets, publish

_WORKERS = 5
_BACKLOG = 3_000


def _policy(limit: int) -> dict[str, object]:
    return {"budgets": {"task:*.note": {"starts": {"limit": f"{limit}/1s", "burst": "1"}}}}


def measure(server: RedisServer, directory: Path, changes: int) -> list[float]:
    """Change something again and again.

    Args:
        server: For messages, results and the ledger.
        directory: For files of this measurement alone.
        changes: How often.

    Returns:
        Seconds until all workers followed, of each change.

    Raises:
        RuntimeError: A worker did not follow.
    """
    budgets = Budgets(server, directory, _policy(20))
    try:
        budgets.start(_WORKERS)
        sender = budgets.sender()
        operator = Operator(sender.app)
        publish(sender.note, [("n", number) for number in range(_BACKLOG)])
        times = []
        for number in range(changes):
            if number % 2:
                changed = operator.apply(_policy(20 + number))
            else:
                changed = operator.pause(f"tenant:{number}")
            if changed.problems or len(changed.followers) < _WORKERS:
                raise RuntimeError(f"not all follow: {changed}")
            times.append(changed.after_s)
    finally:
        budgets.close()
    return times


@click.command()
@click.option("--changes", default=20, help="How many.")
def main(changes: int) -> None:
    """Measure and tell."""
    with RedisServer() as server, tempfile.TemporaryDirectory() as scratch:
        times = measure(server, Path(scratch), changes)
    click.echo(f"median {median(times):.2f} s, most {max(times):.2f} s", err=True)


if __name__ == "__main__":
    main()
