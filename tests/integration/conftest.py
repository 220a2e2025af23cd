"""Fixtures of tests with real workers: one fleet for each module and broker."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from celery_budget.embedded import RedisServer
from tests.budgets import Budgets, Make
from tests.fleet import Fleet
from tests.servers import Broker, empty, own_database

#: Redis databases of modules and of results, apart from those of single tests.
_FLEET_DATABASE = 4
_RESULT_DATABASE = 8

_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def fleet(
    request: pytest.FixtureRequest,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    """Run the module's tests on Redis, then on RabbitMQ, each with a fleet of its own.

    Modules may ask for `"quorum"` as well: RabbitMQ with quorum queues for all bands.
    """
    with _made(request, redis_server, tmp_path_factory.mktemp("fleet")) as made:
        yield made


@pytest.fixture(params=["redis", "rabbitmq"])
def alone(
    request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path: Path
) -> Iterator[Fleet]:
    """Offer a fleet in which neither workers nor messages of other tests are left."""
    with _made(request, redis_server, tmp_path) as made:
        yield made


@contextmanager
def _made(
    request: pytest.FixtureRequest, redis_server: RedisServer, directory: Path
) -> Iterator[Fleet]:
    """Make an empty fleet on the broker that the request's parameter names, and end it."""
    results = empty(own_database(redis_server.url, _RESULT_DATABASE))
    if request.param == "redis":
        broker = Broker("redis", empty(own_database(redis_server.url, _FLEET_DATABASE)))
        made = Fleet(broker, results, directory)
        yield made
        made.close()
        return
    node = request.getfixturevalue("rabbitmq_server")
    vhost = f"fleet-{os.getpid()}-{next(_numbers)}"
    made = Fleet(Broker("rabbitmq", node.add_vhost(vhost)), results, directory)
    if request.param == "quorum":
        made.settings = {"task_default_queue_type": "quorum", "worker_detect_quorum_queues": True}
        made.settings["task_create_missing_queue_type"] = "quorum"
    yield made
    made.close()
    node.delete_vhost(vhost)


@pytest.fixture
def key() -> str:
    """Tell the tasks of one test from those of others."""
    return secrets.token_hex(4)


@pytest.fixture
def gate(fleet: Fleet) -> Iterator[Path]:
    """Name a file for which tasks wait; it is there at the latest when the test ends."""
    path = fleet.gate()
    yield path
    path.touch()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the workers' logs with a test that failed."""
    report = yield
    used: dict[str, Any] = getattr(item, "funcargs", {})
    for made in (used.get("fleet"), used.get("alone")):
        if report.failed and isinstance(made, Fleet):
            report.sections.append(("logs of the fleet's workers", made.logs()[-12_000:]))
    return report


@pytest.fixture
def make(redis_server: RedisServer, tmp_path: Path) -> Iterator[Make]:
    """Set up budgets on Redis, or on another broker, for one test."""
    made: list[Budgets] = []

    def set_up(
        policy: Mapping[str, Any] | None, broker: Broker | None = None, **settings: object
    ) -> Budgets:
        made.append(Budgets(redis_server, tmp_path, policy, broker, **settings))
        return made[-1]

    yield set_up
    for each in made:
        each.close()


@pytest.fixture
def ends(fleet: Fleet) -> Iterator[list[Path]]:
    """Files for which tasks wait; all are there when the test ends."""
    paths = [fleet.gate() for _ in range(4)]
    yield paths
    for path in paths:
        path.touch()
