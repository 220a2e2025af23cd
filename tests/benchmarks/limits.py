"""How exactly limits hold for a fleet: `python -m tests.benchmarks.limits`.

Three workers with two slots each, one ledger. First `starts = "50/1s"` with a backlog: how many
start, and how many in the fullest second. Then `slots = 3` while one worker after the other is
killed with SIGKILL and started again: how many bodies overlap, by their own records, and how soon
what a dead worker held is used again. Last `usd = "5/1d"` with costs that are known when a task has
ended: what is spent in all, and what the account says of it.
"""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Mapping
from math import inf
from pathlib import Path
from random import Random

import click

from celery_budget.core.reporting import LEASE_S
from celery_budget.embedded import RedisServer
from tests.budgets import MILLION, Budgets, most_at_once, most_within, publish

_WORKERS, _SLOTS = 3, 2
_RATE, _HELD = 50, 3
_SERVICE_S = 0.1
_DOLLARS = 5
_KILLED_EVERY_S = 5.0


def _fleet(server: RedisServer, directory: Path, budget: Mapping[str, object]) -> Budgets:
    directory.mkdir()
    budgets = Budgets(server, directory, {"budgets": {"task:*": budget}})
    budgets.start(_WORKERS, slots=_SLOTS)
    return budgets


def measure_rate(server: RedisServer, directory: Path, seconds: float) -> tuple[int, int]:
    """Tell how many tasks started in so many seconds, and in the fullest second."""
    budgets = _fleet(server, directory, {"starts": f"{_RATE}/1s"})
    try:
        calls = [("n", number) for number in range(int(_RATE * seconds * 1.2))]
        publish(budgets.sender().note, calls)
        time.sleep(seconds + 5)  # the measurement itself
        times = budgets.times("ran", "n")
    finally:
        budgets.close()
    # The first two seconds are for three workers to hear of one another.
    begin = times[0] + 2
    return sum(begin <= at < begin + seconds for at in times), most_within(times, 1.0)


def measure_slots(
    server: RedisServer, directory: Path, seconds: float
) -> tuple[int, float, list[float]]:
    """Tell the most at once, the part of three slots that was used, and what kills cost.

    Args:
        server: For messages and the ledger.
        directory: For files of this measurement alone.
        seconds: How long it lasts.

    Returns:
        The last: for each kill that hit running tasks, seconds until what they held was used again.
    """
    budgets = _fleet(server, directory, {"slots": _HELD})
    kills: list[float] = []
    try:
        lasts_s = seconds + 2 * LEASE_S
        calls = [("p", _SERVICE_S, number) for number in range(int(lasts_s * _HELD / _SERVICE_S))]
        publish(budgets.sender().pause, calls)
        begun = time.monotonic()
        while time.monotonic() < begun + seconds:
            time.sleep(_KILLED_EVERY_S)
            victim = budgets.workers[-_WORKERS]
            kills.append(time.time())
            victim.send(signal.SIGKILL)
            budgets.spawn(slots=_SLOTS)
        time.sleep(begun + lasts_s - time.monotonic())
        stopped = time.time()
    finally:
        for worker in budgets.workers:
            worker.kill()
    ended = {entry["number"]: entry["at"] for entry in budgets.journal.entries("ended")}
    runs = []
    killed = []
    for entry in budgets.journal.entries("started"):
        begin = entry["at"]
        if entry["number"] in ended:
            runs.append((begin, ended[entry["number"]]))
        else:
            killed.append((begin, min((kill for kill in kills if kill > begin), default=stopped)))
    used = sum(end - begin for begin, end in runs) / (_HELD * (stopped - min(runs)[0]))
    losses = [end for _, end in killed]
    returns = [_returned(kill, runs, losses) - kill for kill in kills if kill in losses]
    return most_at_once(runs + killed), used, returns


def _returned(kill: float, runs: list[tuple[float, float]], losses: list[float]) -> float:
    """Tell when as many ran as the tasks of later kills left over.

    Args:
        kill: When a worker was killed.
        runs: Begin and end of what ended.
        losses: When each of the other tasks was killed.
    """
    for at in sorted(begin for begin, _ in runs if begin > kill):
        running = sum(begin <= at < end for begin, end in runs)
        if running + sum(kill < each <= at for each in losses) >= _HELD:
            return at
    return inf


def measure_spending(server: RedisServer, directory: Path) -> tuple[float, float, float]:
    """Tell what was spent, how much of that by the last six tasks, and the account's balance.

    Costs are not declared; they are between 0.01 and 0.50 dollars, charged at the end of a task.
    """
    budgets = _fleet(server, directory, {"usd": f"{_DOLLARS}/1d"})
    chance = Random(1)
    costs = [chance.randint(1, 50) for _ in range(20 * _DOLLARS)]
    try:
        calls = [("s", f"0.{cents:02d}", number, _SERVICE_S) for number, cents in enumerate(costs)]
        publish(budgets.sender().pay, calls)
        name = "task:tests.apps.budgets.pay usd"
        idle_since = time.monotonic()
        while time.monotonic() < idle_since + 2 * LEASE_S:
            accounts = budgets.accounts()
            if name not in accounts or accounts[name].leased:
                idle_since = time.monotonic()
            time.sleep(0.2)  # the measurement itself
        paid = [costs[entry["number"]] / 100 for entry in budgets.journal.entries("paid")]
    finally:
        budgets.close()
    return sum(paid), sum(paid[-_WORKERS * _SLOTS :]), accounts[name].balance / MILLION


@click.command()
@click.option("--seconds", default=30.0, help="Of each measurement.")
def main(seconds: float) -> None:
    """Measure all three."""
    with RedisServer() as server, tempfile.TemporaryDirectory() as scratch:
        count, most = measure_rate(server, Path(scratch) / "rate", seconds)
        wanted = _RATE * seconds
        text = f"starts: {count} in {seconds:.0f} s, {count / wanted:.1%} of {wanted:.0f}"
        click.echo(f"{text}; at most {most} in one second, {_RATE + _RATE // 10} allowed", err=True)
        at_once, used, returns = measure_slots(server, Path(scratch) / "slots", seconds)
        text = f"slots: at most {at_once} at once of {_HELD}, {used:.0%} of them used"
        waits = ", ".join(f"{each:.1f}" for each in returns)
        text = f"{text}; what the dead held was used again after {waits} s"
        click.echo(f"{text} (lease {LEASE_S:.0f} s)", err=True)
        spent, last, balance = measure_spending(server, Path(scratch) / "spending")
        text = (
            f"dollars: {spent:.2f} spent of {_DOLLARS}, of which {last:.2f} by the last six tasks"
        )
        click.echo(f"{text}; the account has {balance:.2f}", err=True)


if __name__ == "__main__":
    main()
