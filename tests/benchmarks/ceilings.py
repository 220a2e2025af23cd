"""How soon a task above its ceiling of memory is gone: `python -m tests.benchmarks.ceilings`.

A worker with ten slots runs nine tasks that sleep and one that takes memory until it is told, or
killed because it does not listen. Measured is the time from the ceiling, by the task's own books,
until the task's memory is free: until its process is gone, or its error left the body.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

import click
import psutil

from celery_budget.embedded import RedisServer
from tests.budgets import Budgets, publish

_MIB = 2**20
_CEILING_MIB = 150
_NEIGHBOURS = 9


def measure(server: RedisServer, directory: Path, rounds: int, *, is_deaf: bool) -> list[float]:
    """Let tasks go beyond the ceiling one after the other.

    Args:
        server: For messages and results.
        directory: For files of this measurement alone.
        rounds: How many tasks.
        is_deaf: Whether they have to be killed; the grace is zero then.

    Returns:
        Seconds from the ceiling to the end, of each.
    """
    ceiling = {"memory": f"{_CEILING_MIB}MiB", "grace": "0s" if is_deaf else "5s"}
    budgets = Budgets(server, directory, {"ceilings": {"task:*.overflow": ceiling}})
    try:
        budgets.start(slots=_NEIGHBOURS + 1)
        sender = budgets.sender()
        gate = directory / "gate"
        ids = publish(sender.wait, [("n", str(gate), number) for number in range(_NEIGHBOURS)])
        _wait(lambda: len(budgets.times("started", "n")) == _NEIGHBOURS)
        times = [
            _overflow(budgets, sender, f"{number}", is_deaf=is_deaf) for number in range(rounds)
        ]
        gate.touch()
        _wait(lambda: all(budgets.meta(each) is not None for each in ids))
        if any((budgets.meta(each) or {})["status"] != "SUCCESS" for each in ids):
            raise RuntimeError("a neighbour has not finished")
    finally:
        budgets.close()
    return times


def _overflow(budgets: Budgets, sender: object, key: str, *, is_deaf: bool) -> float:
    publish(sender.overflow, [(key, _CEILING_MIB * _MIB, is_deaf)])  # type: ignore[attr-defined]
    _wait(lambda: budgets.times("crossed", key) != [])
    (crossed,) = budgets.journal.entries("crossed", key=key)
    if not is_deaf:
        _wait(lambda: budgets.times("left", key) != [])
        return float(budgets.times("left", key)[0] - crossed["at"])
    while True:
        try:
            if psutil.Process(crossed["pid"]).status() == psutil.STATUS_ZOMBIE:
                break
        except psutil.NoSuchProcess:
            break
        time.sleep(0.001)
    return time.time() - float(crossed["at"])


def _wait(condition: object) -> None:
    give_up = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        if time.monotonic() > give_up:
            raise TimeoutError
        time.sleep(0.002)


@click.command()
@click.option("--rounds", default=20, help="Tasks of each kind.")
def main(rounds: int) -> None:
    """Measure both kinds of end."""
    with RedisServer() as server, tempfile.TemporaryDirectory() as scratch:
        for name, is_deaf in (("told, and ends", False), ("killed", True)):
            directory = Path(scratch) / name[:4]
            directory.mkdir()
            times = sorted(measure(server, directory, rounds, is_deaf=is_deaf))
            print(f"{name}: median {median(times) * 1e3:.0f} ms, most {times[-1] * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
