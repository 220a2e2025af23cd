"""Workers and senders of the budgets app under one policy, and the ledger that they share."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import redis

from celery_budget.core.account import Account
from celery_budget.embedded import RedisServer
from celery_budget.stores.redis.connect import connect
from celery_budget.stores.redis.ledger import RedisLedger
from tests.fleet import environment
from tests.journal import JOURNAL_VARIABLE, Journal
from tests.servers import Broker, empty, own_database
from tests.worker import ROOT, Worker

APP = "tests.apps.budgets"

MILLION = 1_000_000

#: Redis databases: messages, results and the ledger of single tests.
SINGLE = (16, 20, 24)


class Budgets:
    """Workers and senders of the app under one policy, and the ledger that they share.

    Args:
        server: For messages, results and the ledger.
        directory: For the journal and for files by which tests and tasks meet.
        policy: Of the app.
        broker: Another one than the server.
        databases: Of the server.
        settings: Of the app; what they name goes before what is usual here.
    """

    def __init__(
        self,
        server: RedisServer,
        directory: Path,
        policy: Mapping[str, Any] | None,
        broker: Broker | None = None,
        databases: tuple[int, int, int] = SINGLE,
        **settings: object,
    ) -> None:
        messages, self.results, self.url = (
            empty(own_database(server.url, each)) for each in databases
        )
        self.broker = broker or Broker("redis", messages)
        self.directory = directory
        self.journal = Journal(directory / "journal.jsonl")
        self.workers: list[Worker] = []
        self._asked: dict[str, Any] = {
            "policy": policy,
            "settings": {"budget_ledger_url": self.url, **settings},
        }
        self._senders: list[ModuleType] = []

    def _environment(self) -> dict[str, str]:
        return {"BUDGETS": json.dumps(self._asked), "BUDGETS_RESULTS": self.results}

    def deploy(self, policy: Mapping[str, Any]) -> None:
        """Give apps that start from now on another policy."""
        self._asked["policy"] = policy

    def spawn(self, *arguments: str, pool: str = "prefork", slots: int = 2) -> Worker:
        """Start a worker and do not wait for it."""
        worker = Worker(
            APP,
            "--without-mingle",
            "--without-gossip",
            *arguments,
            broker=self.broker.url,
            journal=self.journal.path,
            pool=pool,
            concurrency=slots,
            env=self._environment(),
        )
        self.workers.append(worker)
        return worker

    def start(self, count: int = 1, *arguments: str, **options: Any) -> list[Worker]:
        """Start workers and return once they are ready."""
        workers = [self.spawn(*arguments, **options) for _ in range(count)]
        for worker in workers:
            worker.wait_until_ready()
        return workers

    def sender(self) -> ModuleType:
        """Execute the app anew in this process; it stores and reads no results."""
        file = ROOT.joinpath(*APP.split(".")).with_suffix(".py")
        spec = importlib.util.spec_from_file_location(APP, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        variables = self._environment() | {JOURNAL_VARIABLE: str(self.journal.path)}
        with environment(variables):
            spec.loader.exec_module(module)
        module.app.conf.broker_url = self.broker.url
        self._senders.append(module)
        return module

    def execute(self, code: str, *arguments: str) -> str:
        """Execute code that publishes in a process of its own, with the results' backend.

        Args:
            code: Knows the app's module as `app`, and `arguments`, which are texts.
            arguments: For it.

        Returns:
            The last word that it printed.
        """
        start = f"import sys; from {APP.rpartition('.')[0]} import budgets as app\n"
        variables = {"CELERY_BROKER_URL": self.broker.url, JOURNAL_VARIABLE: str(self.journal.path)}
        done = subprocess.run(
            [sys.executable, "-c", f"{start}arguments = sys.argv[1:]\n{code}", *arguments],
            env={**os.environ, **self._environment(), **variables},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[-1] if done.stdout else ""

    def accounts(self, url: str = "") -> dict[str, Account]:
        """Look into the ledger, as an operator would."""
        with connect(url or self.url) as client:
            return RedisLedger(client, "default", 5 * MILLION).accounts()

    def meta(self, task_id: str) -> dict[str, Any] | None:
        """Give what is stored of a task's outcome; None while nothing is."""
        with redis.Redis.from_url(self.results) as client:
            record = client.get(f"celery-task-meta-{task_id}")
        return None if record is None else json.loads(record)

    def length(self, queue: str) -> int:
        """Count the messages that are ready in a queue on Redis."""
        with redis.Redis.from_url(self.broker.url) as client:
            return int(client.llen(queue))

    def inspect(self, sender: ModuleType, command: str, **arguments: object) -> dict[str, Any]:
        """Ask the one worker there is."""
        asked = sender.app.control.inspect(timeout=30, limit=1)
        (answer,) = asked._request(command, **arguments).values()
        return answer

    def times(self, event: str, key: str) -> list[float]:
        """Tell when tasks recorded an event, in order."""
        return sorted(entry["at"] for entry in self.journal.entries(event, key=key))

    def close(self) -> None:
        """End everything, and show what the workers wrote if the test has failed."""
        for worker in self.workers:
            worker.kill()
            print(f"--- {worker.name}\n{worker.log[-12_000:]}")
        for sender in self._senders:
            sender.app.close()


#: Sets up budgets on Redis, or on another broker, for one test.
Make = Callable[..., Budgets]


def publish(task: Any, arguments: Sequence[tuple[object, ...]], **options: object) -> list[str]:
    """Publish calls over one connection; give the ids."""
    with task.app.producer_pool.acquire(block=True) as producer:
        return [task.apply_async(args, producer=producer, **options).id for args in arguments]


def most_within(times: Sequence[float], seconds: float) -> int:
    """Tell how many there were at most in any stretch of so many seconds."""
    most = first = 0
    for place, at in enumerate(times):
        while at - times[first] >= seconds:
            first += 1
        most = max(most, place - first + 1)
    return most


def most_at_once(intervals: Sequence[tuple[float, float]]) -> int:
    """Tell how many intervals overlapped at most; one may begin as another ends."""
    changes = sorted([(a, 1) for a, _ in intervals] + [(b, -1) for _, b in intervals])
    most = running = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


def spend_all(budgets: Budgets, pay: Any, wait_for: Callable[..., None], tenant: str) -> None:
    """Use up the dollar of a tenant, and wait until its worker has heard so."""
    publish(pay, [(tenant, "1", 0)], tenant=tenant)
    name = f"tenant:{tenant} usd"
    wait_for(
        lambda: name in (found := budgets.accounts()) and found[name].balance <= 0,
        what="an empty account",
    )
