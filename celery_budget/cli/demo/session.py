"""A whole demo: both runs on one server, with nothing left behind."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import redis
from rich.console import Console

from celery_budget.cli.demo.app import Place, Variant
from celery_budget.cli.demo.figures import Result
from celery_budget.cli.demo.run import run
from celery_budget.cli.demo.screen import TITLES, Screen
from celery_budget.embedded import RedisServer


def compare(console: Console, seconds: float) -> dict[Variant, Result]:
    """Run both variants on one server, one after the other, and show them meanwhile.

    Args:
        console: Where to show them.
        seconds: Length of each run.

    Raises:
        ServerMissing: There is no Redis server to run on.
        ServerFailed: The server or a worker did not start, or ended.
    """
    with _termination_unwinds(), RedisServer() as server:
        kind = "Embedded" if server.is_private else "Named"
        console.print(f"{kind} broker: {server.origin}", highlight=False, soft_wrap=True)
        # On a server that others use too, every key of ours gets a prefix.
        space = "" if server.is_private else f"celery-budget-demo-{secrets.token_hex(4)}:"
        return {
            variant: _run_alone(console, Place(variant, server.url, space), seconds)
            for variant in Variant
        }


def _run_alone(console: Console, place: Place, seconds: float) -> Result:
    """Run one variant and remove all it wrote, however it ends."""
    console.print(f"{TITLES[place.variant]} ...", highlight=False)
    try:
        with Screen(console, place.variant, seconds) as screen:
            return run(place, seconds, screen.show)
    finally:
        with redis.Redis.from_url(place.url) as client:
            for key in client.scan_iter(f"{place.space}*", count=1000):
                client.delete(key)


@contextmanager
def _termination_unwinds() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does: through every `with`."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
