"""Fixtures that every test may use: servers, an empty broker, real workers, a bounded wait."""

from __future__ import annotations

import importlib.util
import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest
import redis
from hypothesis import settings

from celery_budget.embedded import RedisServer, ServerMissing
from tests.journal import JOURNAL_VARIABLE, Journal
from tests.servers import Broker, VirtualHosts, own_database, shared_rabbitmq
from tests.worker import ROOT, Worker

_vhost_numbers = itertools.count(1)


class StartWorker(Protocol):
    """What the fixture `worker_process` offers."""

    def __call__(
        self,
        module: str,
        *arguments: str,
        broker: Broker,
        pool: str = "prefork",
        concurrency: int = 2,
        env: dict[str, str] | None = None,
    ) -> Worker:
        """Start a worker and return once it is ready."""
        ...


class WaitFor(Protocol):
    """What the fixture `wait_for` offers."""

    def __call__(
        self, condition: Callable[[], bool], timeout: float = 10.0, what: str = ""
    ) -> None:
        """Return once the condition holds; fail after `timeout` seconds."""
        ...


class LoadApp(Protocol):
    """What the fixture `load_app` offers."""

    def __call__(self, module: str, broker: Broker) -> ModuleType:
        """Execute a module of tests/apps anew, with its `app` on this broker."""
        ...


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Start a Redis server for this test process."""
    with must_exist_in_ci(), RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualHosts]:
    """Join the run's RabbitMQ node, or start it."""
    run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent
    with must_exist_in_ci(), shared_rabbitmq(run) as node:
        yield node


@pytest.fixture
def redis_broker(redis_server: RedisServer) -> Broker:
    """Offer an empty Redis database."""
    url = own_database(redis_server.url)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return Broker("redis", url)


@pytest.fixture
def rabbitmq_broker(rabbitmq_server: VirtualHosts) -> Iterator[Broker]:
    """Offer a virtual host of the test's own."""
    vhost = f"test-{os.getpid()}-{next(_vhost_numbers)}"
    yield Broker("rabbitmq", rabbitmq_server.add_vhost(vhost))
    rabbitmq_server.delete_vhost(vhost)


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Run the test on an empty Redis database, then on an empty RabbitMQ virtual host."""
    chosen: Broker = request.getfixturevalue(f"{request.param}_broker")
    return chosen


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Collect what the test's tasks record, in workers and in this process."""
    path = tmp_path / "journal.jsonl"
    monkeypatch.setenv(JOURNAL_VARIABLE, str(path))
    return Journal(path)


@pytest.fixture
def worker_process(journal: Journal) -> Iterator[StartWorker]:
    """Start real workers by module name, e.g. `"tests.apps.plain"`; all end with the test."""
    workers: list[Worker] = []

    def start(
        module: str,
        *arguments: str,
        broker: Broker,
        pool: str = "prefork",
        concurrency: int = 2,
        env: dict[str, str] | None = None,
    ) -> Worker:
        worker = Worker(
            module,
            *arguments,
            broker=broker.url,
            journal=journal.path,
            pool=pool,
            concurrency=concurrency,
            env=env,
        )
        workers.append(worker)
        worker.wait_until_ready()
        return worker

    yield start
    for worker in workers:
        worker.kill()


@pytest.fixture
def load_app() -> Iterator[LoadApp]:
    """Execute app modules anew, so that a sender in this process has the test's broker."""
    modules: list[ModuleType] = []

    def load(module: str, broker: Broker) -> ModuleType:
        file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        spec = importlib.util.spec_from_file_location(module, file)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        loaded.app.conf.broker_url = broker.url
        modules.append(loaded)
        return loaded

    yield load
    for loaded in modules:
        loaded.app.close()


@pytest.fixture(scope="session")
def wait_for() -> WaitFor:
    """Poll a condition every 10 ms; the only wait in these tests.

    It gives up after a minute: that a machine is slow is no reason to fail.
    """

    def wait(condition: Callable[[], bool], timeout: float = 60.0, what: str = "") -> None:
        give_up = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > give_up:
                pytest.fail(f"waited {timeout:g} s in vain for {what or condition}")
            time.sleep(0.01)

    return wait


def pytest_configure() -> None:
    """Keep the caller's own brokers out of the tests; no case fails because the machine is slow."""
    settings.register_profile("unhurried", deadline=None)
    settings.load_profile("unhurried")
    for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
        os.environ.pop(name, None)


@contextmanager
def must_exist_in_ci() -> Iterator[None]:
    """Skip without a server at home; fail without one where CI=true."""
    try:
        yield
    except ServerMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
