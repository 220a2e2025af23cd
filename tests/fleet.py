"""A broker of a test module's own, with the workers and senders of the shop app on it.

Workers start in 2 s and more, so the tests of a module share what they do not kill. Each test
tells its own tasks by a key.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import redis
from kombu import Connection

from celery_budget.embedded import OwnedProcess
from tests.journal import JOURNAL_VARIABLE, Journal
from tests.worker import ROOT, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery

    from tests.servers import Broker

SHOP = "tests.apps.shop"


class Fleet:
    """Workers and senders of the shop app on one broker.

    Args:
        broker: Empty, and nobody else's.
        results: URL of a Redis database for results, empty too.
        directory: For the journal and for files by which tests and tasks meet.

    Attributes:
        workers: All that were started, for their logs.
        settings: Of every app of the fleet; what a test names goes first.
    """

    def __init__(self, broker: Broker, results: str, directory: Path) -> None:
        self.broker = broker
        self.results = results
        self.directory = directory
        self.journal = Journal(directory / "journal.jsonl")
        self.workers: list[Worker] = []
        self.settings: dict[str, object] = {}
        self._apps: list[Celery] = []
        self._connection: Connection | None = None

    def start(
        self,
        *arguments: str,
        pool: str = "prefork",
        concurrency: int = 2,
        url: str = "",
        **shop: object,
    ) -> Worker:
        """Start a worker of the shop app and return once it is ready.

        Args:
            arguments: Further ones of `celery worker`.
            pool: As `--pool`.
            concurrency: As `--concurrency`.
            url: Of the broker, if it is not reached directly.
            shop: How the app is set up, see `tests.apps.shop`.
        """
        worker = Worker(
            SHOP,
            # Meeting the neighbours takes a second of each start.
            "--without-mingle",
            "--without-gossip",
            *arguments,
            broker=url or self.broker.url,
            journal=self.journal.path,
            pool=pool,
            concurrency=concurrency,
            env={**self._environment(shop), "SHOP_RESULTS": self.results},
        )
        self.workers.append(worker)
        worker.wait_until_ready()
        return worker

    @contextmanager
    def beat(self, **shop: object) -> Iterator[None]:
        """Run `celery beat` for a while."""
        command = [sys.executable, "-m", "celery", "-A", SHOP, "beat"]
        command += ["-s", str(self.directory / f"schedule-{secrets.token_hex(4)}")]
        variables = {"CELERY_BROKER_URL": self.broker.url, **self._environment(shop)}
        beat = OwnedProcess(command, env={**os.environ, **variables}, cwd=ROOT, name="beat")
        try:
            yield
        finally:
            beat.kill()

    def _environment(self, shop: dict[str, Any]) -> dict[str, str]:
        shop = {**shop, "settings": {**self.settings, **shop.get("settings", {})}}
        return {"SHOP": json.dumps(shop)}

    def sender(self, **shop: object) -> ModuleType:
        """Execute the shop app anew in this process, as somebody who publishes to the fleet.

        It has no result backend: results that wait keep subscriptions open until they are garbage,
        which may be after the server's end. `outcome` reads what the workers stored.
        """
        file = ROOT.joinpath(*SHOP.split(".")).with_suffix(".py")
        spec = importlib.util.spec_from_file_location(SHOP, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with environment(self._environment(shop) | {JOURNAL_VARIABLE: str(self.journal.path)}):
            spec.loader.exec_module(module)
        module.app.conf.broker_url = self.broker.url
        self._apps.append(module.app)
        return module

    def outcome(self, task_id: str) -> tuple[str, Any]:
        """Wait for the end of a task and give its state and its result or exception's name."""
        meta = self.meta(task_id)
        is_failed = isinstance(meta["result"], dict) and "exc_type" in meta["result"]
        return meta["status"], meta["result"]["exc_type"] if is_failed else meta["result"]

    def meta(self, task_id: str) -> dict[str, Any]:
        """Wait for the end of a task and give all that is stored of it."""
        give_up = time.monotonic() + 60
        with redis.Redis.from_url(self.results) as client:
            while not (record := client.get(f"celery-task-meta-{task_id}")):
                assert time.monotonic() < give_up, f"task {task_id} has not ended"
                time.sleep(0.01)
        found: dict[str, Any] = json.loads(record)
        return found

    def gate(self) -> Path:
        """Name a file that does not exist: tasks wait for it until the test touches it."""
        return self.directory / f"gate-{secrets.token_hex(4)}"

    def length(self, queue: str) -> int:
        """Count the messages that are ready in a queue of the broker."""
        if self._connection is None:
            self._connection = Connection(self.broker.url)
        channel = self._connection.default_channel
        if self.broker.kind == "redis":
            return channel.client.llen(queue)
        return channel.queue_declare(queue, passive=True).message_count

    def logs(self) -> str:
        """Give the logs of all workers."""
        return "\n".join(f"--- {worker.name}\n{worker.log}" for worker in self.workers)

    def close(self) -> None:
        """End all workers and connections."""
        for worker in self.workers:
            worker.kill()
        for app in self._apps:
            app.close()
        if self._connection is not None:
            self._connection.release()


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def are_held(shop: ModuleType, ids: list[str]) -> bool:
    """Tell whether the one worker holds these; some of an earlier test may be there too."""
    answers = shop.app.control.inspect(timeout=5, limit=1)._request("budget") or {}
    held = {task["id"] for answer in answers.values() for task in answer["held"]}
    return held.issuperset(ids)
