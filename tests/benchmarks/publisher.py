"""The sender's process: publishes one load with the app under test and leaves its times.

Run as `python -m tests.benchmarks.publisher KIND COUNT SECONDS` by `runner.py`:
`noop` spreads COUNT tasks over the bands named in further arguments, `slow`, `burn` and `march`
send COUNT tasks that wait, compute or take steps for SECONDS each, `urgent` sends COUNT tasks, one
each SECONDS.
"""

from __future__ import annotations

import os
import sys
import time
from itertools import cycle, islice
from pathlib import Path

from tests.benchmarks.apps import app
from tests.benchmarks.records import Published, write_published
from tests.benchmarks.variants import DIRECTORY


def publish_noop(count: int, bands: list[str]) -> None:
    """Publish as fast as the broker takes it, band by band in turn."""
    tasks = [app.tasks[f"noop.{band}"] for band in bands]
    for task in islice(cycle(tasks), count):
        task.apply_async()


def publish_flood(kind: str, count: int, seconds: float) -> None:
    """Publish the flood."""
    task = app.tasks[kind]
    for _ in range(count):
        task.apply_async((time.monotonic(), seconds))


def publish_urgent(count: int, interval: float) -> None:
    """Publish at a steady pace that does not slip when one publish is slow."""
    task = app.tasks["urgent"]
    due = time.monotonic()
    for _ in range(count):
        time.sleep(max(0.0, due - time.monotonic()))
        task.apply_async((time.monotonic(),))
        due += interval


def main(arguments: list[str]) -> None:
    """Publish what the command line asks for."""
    kind, count, seconds, *bands = arguments
    app.set_current()
    app.finalize()
    # Open the connection first: its set-up is no part of the cost of a publish.
    with app.producer_pool.acquire(block=True) as producer:
        producer.connection.ensure_connection()
    begun = time.monotonic()
    if kind == "noop":
        publish_noop(int(count), bands)
    elif kind in ("slow", "burn", "march"):
        publish_flood(kind, int(count), float(seconds))
    else:
        publish_urgent(int(count), float(seconds))
    published = Published(begun, time.monotonic())
    write_published(Path(os.environ[DIRECTORY]), kind, published)


if __name__ == "__main__":
    main(sys.argv[1:])
