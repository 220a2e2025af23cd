"""pytest-celery's fixtures on processes instead of containers.

Where a Docker engine exists, removing these overrides runs the same tests in containers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from pytest_celery import (
    CeleryTestBackend,
    CeleryTestBroker,
    CeleryWorkerContainer,
    RedisTestBackend,
    RedisTestBroker,
)

from celery_budget.embedded import RedisServer
from celery_budget.embedded.server import free_ports
from tests.conftest import must_exist_in_ci
from tests.e2e import budget_app
from tests.e2e.nodes import ProcessRedis, start_redis, start_worker


@pytest.fixture
def default_redis_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessRedis]:
    """Start a Redis node; it must be one that a test may kill, so never a named server."""
    monkeypatch.delenv("CELERY_BUDGET_REDIS_URL", raising=False)
    with must_exist_in_ci():
        program = RedisServer().locate()
    node = start_redis(program, free_ports(1)[0], tmp_path)
    assert node.ready()
    yield node
    node._container.remove()


@pytest.fixture
def celery_broker(default_redis_broker: ProcessRedis) -> CeleryTestBroker:
    """Replace the parametrised fixture: the broker is Redis."""
    return RedisTestBroker(default_redis_broker)


@pytest.fixture
def celery_backend(default_redis_broker: ProcessRedis) -> Iterator[CeleryTestBackend]:
    """Replace the parametrised fixture: results go to the broker's server."""
    backend = RedisTestBackend(default_redis_broker)
    yield backend
    backend.teardown()


@pytest.fixture
def default_worker_app_module() -> ModuleType:
    """Give the nodes an app with bands."""
    return budget_app


@pytest.fixture
def default_worker_command(default_worker_command: list[str]) -> list[str]:
    """Let the nodes read all bands' queues, where pytest-celery names one with `-Q`."""
    queues = ",".join(budget_app.app.amqp.queues)
    return [*default_worker_command, "-Q", queues]


@pytest.fixture
def default_worker_container(
    default_worker_container_cls: type[CeleryWorkerContainer],
    default_worker_command: list[str],
    default_worker_env: dict[str, str],
    default_worker_initial_content: dict[str, bytes],
    tmp_path: Path,
) -> Iterator[CeleryWorkerContainer]:
    """Start the worker that pytest-celery would build an image for."""
    volume = tmp_path / "volume"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    node = start_worker(
        default_worker_container_cls,
        default_worker_command,
        env={**os.environ, **default_worker_env, "PATH": path, "PYTHONPATH": str(volume)},
        content=default_worker_initial_content,
        directory=volume,
    )
    assert node.ready()
    yield node
    node._container.remove()
