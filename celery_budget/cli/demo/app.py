"""The demo's Celery app: the same tasks with and without bands.

Used by the demo itself to publish, and by `worker.py` in the demo's worker processes.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Self

import redis
from celery import Celery

from celery_budget.app import install
from celery_budget.cli.demo.load import LOAD, POLICY, Source

_VARIANT, _URL, _SPACE = "CELERY_BUDGET_DEMO", "CELERY_BUDGET_DEMO_URL", "CELERY_BUDGET_DEMO_SPACE"


class Variant(StrEnum):
    """The two sides of the comparison."""

    STOCK = "stock"
    BANDS = "bands"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run happens.

    Attributes:
        variant: With or without bands.
        url: Redis URL.
        space: Prefix of every key the run writes; "" on a server of its own.
    """

    variant: Variant
    url: str
    space: str

    @property
    def log_key(self) -> str:
        """Redis stream on which tasks note when they start and end."""
        return f"{self.space}demo-log"

    def environment(self) -> dict[str, str]:
        """Tell a worker process what to be."""
        return {_VARIANT: self.variant, _URL: self.url, _SPACE: self.space}

    @classmethod
    def from_environment(cls) -> Self:
        """Read in a worker process what the demo told it."""
        return cls(Variant(os.environ[_VARIANT]), os.environ[_URL], os.environ[_SPACE])


def make_app(place: Place) -> Celery:
    """Make the app of one run; with bands it differs by one line."""
    app = Celery("demo", broker=place.url, set_as_current=False)
    app.conf.task_ignore_result = True
    app.conf.broker_connection_retry_on_startup = True
    # The server may be somebody's own: nothing of ours is to be left there.
    app.conf.budget_ledger_url = "memory://"
    if place.space:
        app.conf.broker_transport_options = {"global_keyprefix": place.space}
    if place.variant is Variant.BANDS:
        install(app, policy=POLICY)
    for source in LOAD:
        _add_task(app, source, place)
    return app


def task_name(band: str) -> str:
    """Name the task of a band."""
    return f"demo.{band}"


def _add_task(app: Celery, source: Source, place: Place) -> None:
    def work(number: int, published: float) -> None:
        started = time.time()
        note = {"band": source.band, "number": number}
        log = _client(place.url)
        log.xadd(place.log_key, {**note, "event": "start", "wait": started - published})
        time.sleep(source.runtime_s)
        log.xadd(place.log_key, {**note, "event": "end"})

    # Celery without bands keeps an option it does not know as an attribute of the task.
    # Not shared: the demo makes both apps in one process, and each needs tasks of its own.
    app.task(name=task_name(source.band), band=source.band, shared=False)(work)


@cache
def _client(url: str) -> redis.Redis:
    """Connect once per process, at its first task and so after the fork."""
    return redis.Redis.from_url(url)
