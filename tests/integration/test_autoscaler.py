"""A pool that follows what waits in the broker, between the limits of `--autoscale`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import WaitFor
from tests.fleet import Fleet
from tests.worker import Worker

SETTINGS = {"worker_autoscaler": "celery_budget.worker.autoscaler:BudgetAutoscaler"}
POLICY: dict[str, Any] = {
    "default_band": "important",
    "bands": {
        "critical": {"queues": ["critical"], "preempts": True},
        "important": {"queues": ["celery", "important"]},
        "optional": {"queues": ["optional"], "preempt": ["freeze"]},
    },
}


@pytest.fixture
def shop(fleet: Fleet) -> ModuleType:
    """Publish from this process; each test starts its own workers, and none is left over."""
    for worker in fleet.workers:
        worker.kill()
    return fleet.sender(policy=POLICY)


def told(shop: ModuleType, worker: Worker) -> dict[str, Any]:
    """Ask a worker what it does."""
    return shop.app.control.inspect(timeout=30, limit=1)._request("budget")[worker.name]


@pytest.mark.parametrize("fleet", ["redis", "rabbitmq"], indirect=True, scope="module")
def test_the_pool_grows_with_what_waits_in_the_broker(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """Though the worker has only as many of the tasks as it has slots; and not beyond the most."""
    worker = fleet.start("--autoscale", "4,1", policy=POLICY, settings=SETTINGS)
    assert 1 == told(shop, worker)["slots"]
    for number in range(200):
        shop.wait.apply_async((key, str(ends[0]), number), band="optional")
    wait_for(lambda: fleet.journal.count("started", key=key) == 4, what="four at once")
    answer = told(shop, worker)
    ends[0].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 200, what="all of them")

    assert 4 == answer["slots"]
    assert answer["needed"] >= 4
    assert "Scaling up" in worker.log


@pytest.mark.parametrize("fleet", ["redis"], indirect=True, scope="module")
def test_urgent_tasks_freeze_others_in_a_pool_that_follows(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """The spare child is no slot, and is not taken away."""
    worker = fleet.start("--autoscale", "2,1", policy=POLICY, settings=SETTINGS)
    for number in range(60):
        shop.wait.apply_async((key, str(ends[0]), number), band="optional")
    wait_for(lambda: fleet.journal.count("started", key=key) == 2, what="two at once")
    shop.note.apply_async((f"{key} urgent",), band="critical")
    wait_for(lambda: fleet.journal.count("ran", key=f"{key} urgent") == 1, what="the urgent one")
    assert told(shop, worker)["freezes"] >= 1
    ends[0].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 60, what="all of them")

    assert "do not give way" not in worker.log


@pytest.mark.parametrize("fleet", ["redis"], indirect=True, scope="module")
def test_without_bands_it_does_what_celerys_does(
    fleet: Fleet, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """The setting may stay where the policy is taken out."""
    stock = fleet.sender(install=False)
    worker = fleet.start("--autoscale", "3,1", install=False, settings=SETTINGS)
    for number in range(20):
        stock.wait.delay(key, str(ends[0]), number)
    wait_for(lambda: fleet.journal.count("started", key=key) == 3, what="three at once")
    ends[0].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 20, what="all of them")

    assert "Scaling up" in worker.log
