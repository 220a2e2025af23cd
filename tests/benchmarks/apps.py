"""The Celery app under test, made from the environment that `runner.py` set.

Loaded by worker and publisher processes alone (`celery -A tests.benchmarks.apps`). The tasks and
the settings are the same in every variant; only `install` and, for stock, routes differ.
"""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path

from celery import Celery, Task
from kombu.entity import Queue

from tests.benchmarks.progress import Marker
from tests.benchmarks.records import Journal
from tests.benchmarks.variants import BANDS, BROKER, DIRECTORY, VARIANT, Variant

#: Between two checkpoints of a task that takes steps, seconds.
STEP_S = 0.02

# Redis serves the lowest number first, RabbitMQ the highest; both take 0-9.
_REDIS_PRIORITY = {"critical": 0, "important": 3, "optional": 9}
_RABBITMQ_PRIORITY = {"critical": 9, "important": 5, "optional": 0}


# Made by the first body: a pool child's own, because no body runs before the fork.
@cache
def _marker() -> Marker:
    return Marker(Path(os.environ[DIRECTORY]))


@cache
def _journal() -> Journal:
    return Journal(Path(os.environ[DIRECTORY]))


def noop() -> None:
    """Do nothing but count."""
    _marker().mark()


def slow(published: float, seconds: float) -> None:
    """Hold a slot as a task that waits for something does."""
    _marker().mark()
    started = time.monotonic()
    time.sleep(seconds)
    _journal().write("optional", published, started, time.monotonic())


def burn(published: float, seconds: float) -> None:
    """Hold a slot as a task that computes does, for so many seconds of a core."""
    _marker().mark()
    started = time.monotonic()
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        sum(range(1_000))
    _journal().write("optional", published, started, time.monotonic())


def march(task: Task, published: float, seconds: float) -> None:
    """Hold a slot as a task of many steps does, which saves how far it has come after each."""
    from celery_budget import budget

    _marker().mark()
    for step in range(budget.progress(default=0), round(seconds / STEP_S)):
        started = time.monotonic()
        time.sleep(STEP_S)
        _journal().write(f"{task.request.id}:{step}", published, started, time.monotonic())
        budget.checkpoint(step + 1)
    _journal().write(f"{task.request.id}:end", published, time.monotonic(), time.monotonic())


def urgent(published: float) -> None:
    """Tell when the body was reached."""
    started = time.monotonic()
    _journal().write("critical", published, started, started)


def _is_redis(url: str) -> bool:
    return url.startswith(("redis:", "rediss:", "unix:"))


def _queue(name: str, arguments: dict[str, int] | None = None) -> Queue:
    return Queue(name, routing_key=name, queue_arguments=arguments)


def _stock_settings(app: Celery, variant: Variant, *, redis: bool) -> None:
    """Give stock Celery what its own documentation offers against overload."""
    if variant.queue_per_band:
        app.conf.task_queues = [_queue(name) for name in variant.queues.values()]
    elif variant.priorities and not redis:
        app.conf.task_queues = [_queue(variant.queues["important"], {"x-max-priority": 10})]
    elif variant.priorities:
        app.conf.broker_transport_options = {
            "queue_order_strategy": "priority",
            "priority_steps": [0, 3, 6, 9],
        }


def _options(variant: Variant, band: str, *, redis: bool) -> dict[str, object]:
    """Choose the task options that put a task into its band in this variant."""
    if variant.policy is not None:
        return {"band": band} if variant.policy else {}
    options: dict[str, object] = {}
    if variant.queue_per_band:
        options["queue"] = variant.queues[band]
    if variant.priorities:
        options["priority"] = (_REDIS_PRIORITY if redis else _RABBITMQ_PRIORITY)[band]
    return options


def _make(broker: str, variant: Variant) -> Celery:
    app = Celery("benchmarks", broker=broker)
    app.conf.update(
        task_ignore_result=True,
        worker_prefetch_multiplier=variant.prefetch_multiplier,
        broker_connection_retry_on_startup=True,
        task_default_queue=variant.queues["important"],
    )
    redis = _is_redis(broker)
    if not redis:
        app.conf.budget_ledger_url = "memory://"
    if variant.state_url:
        app.conf.budget_state_url = variant.state_url
    if variant.policy is None:
        _stock_settings(app, variant, redis=redis)
    else:
        from celery_budget import install

        install(app, policy=variant.policy)
        app.task(name="march", bind=True, **_options(variant, "optional", redis=redis))(march)
    for band in BANDS:
        app.task(name=f"noop.{band}", **_options(variant, band, redis=redis))(noop)
    app.task(name="slow", **_options(variant, "optional", redis=redis))(slow)
    app.task(name="burn", **_options(variant, "optional", redis=redis))(burn)
    app.task(name="urgent", **_options(variant, "critical", redis=redis))(urgent)
    return app


app = _make(os.environ[BROKER], Variant.decode(os.environ[VARIANT]))
