"""Workers whose node is short of memory leave lesser work to others; urgent work goes on."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
from celery.exceptions import ImproperlyConfigured

from tests.conftest import WaitFor
from tests.fleet import Fleet
from tests.worker import Worker

pytestmark = pytest.mark.parametrize("fleet", ["redis", "rabbitmq"], indirect=True, scope="module")

POLICY: dict[str, Any] = {
    "default_band": "important",
    "bands": {
        "critical": {"queues": ["critical"], "preempts": True},
        "important": {"queues": ["celery", "important"], "weight": 4},
        "optional": {"queues": ["optional"], "preempt": ["evict"]},
    },
    "pressure": {},
}

#: More than a small node has, and far less than this machine.
LARGE_MIB = 450
PRESSED = "This node is under pressure: "
OVER = "This node is under pressure no more"


@pytest.fixture
def shop(fleet: Fleet) -> ModuleType:
    """Publish from this process; each test starts its own workers, and none is left over."""
    for worker in fleet.workers:
        worker.kill()
    fleet.settings["budget_state_url"] = fleet.results
    return fleet.sender(policy=POLICY)


def start_small(fleet: Fleet, **shop: Any) -> Worker:
    """Start a worker that has 400 MiB, of which its processes take some 150."""
    settings = {"budget_node_memory": "400MiB"}
    return fleet.start(**{"policy": POLICY, "settings": settings, **shop})


def is_below(worker: Worker, pid: int) -> bool:
    """Tell whether a process is a child of a worker."""
    return pid in {child.pid for child in psutil.Process(worker.pid).children()}


def told(shop: ModuleType, worker: Worker) -> dict[str, Any]:
    """Ask a worker what it does."""
    inspect = shop.app.control.inspect(timeout=30, limit=1, destination=[worker.name])
    return inspect._request("budget")[worker.name]


def test_a_task_that_takes_too_much_ends_once_on_another_node(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """Lesser work that came meanwhile goes there too, and urgent work runs where it was."""
    small = start_small(fleet)
    large = shop.fill.apply_async((key, LARGE_MIB, str(ends[0])), band="optional").id
    wait_for(lambda: PRESSED in small.log, what="pressure")
    lesser = [shop.note.apply_async((f"{key} lesser", n), band="optional").id for n in range(5)]
    urgent = [shop.note.apply_async((f"{key} urgent", n), band="critical").id for n in range(5)]
    assert ["SUCCESS"] * 5 == [fleet.outcome(each)[0] for each in urgent]
    wait_for(lambda: "is evicted as its node is short of memory" in small.log, what="eviction")
    assert 0 == fleet.journal.count("ran", key=f"{key} lesser")
    assert "its node is under pressure" in told(shop, small)["note"]

    other = fleet.start(policy=POLICY)
    wait_for(lambda: fleet.journal.count("started", key=key) == 2, what="its second start")
    ends[0].touch()
    assert ["SUCCESS"] * 6 == [fleet.outcome(each)[0] for each in [large, *lesser]]
    assert 1 == fleet.journal.count("ended", key=key)
    assert is_below(other, fleet.journal.entries("ended", key=key)[0]["pid"])
    wait_for(lambda: OVER in small.log, what="the end of pressure")
    assert 1 == told(shop, small)["evictions"]


def test_a_task_that_took_too_much_once_is_left_to_others(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """Also when pressure is over: it would be back."""
    small = start_small(fleet)
    shop.fill.apply_async((key, LARGE_MIB, str(ends[0])), band="optional")
    wait_for(lambda: OVER in small.log, what="the end of pressure")
    after = shop.note.apply_async((f"{key} after",), band="optional").id
    assert ("SUCCESS", 0) == fleet.outcome(after)
    assert 1 == fleet.journal.count("started", key=key)

    def is_aside() -> bool:
        return "memory" in [held["reason"] for held in told(shop, small)["held"]]

    wait_for(is_aside, what="a look at it")
    fleet.start(policy=POLICY)
    ends[0].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 1, what="its end elsewhere")
    assert 2 == fleet.journal.count("started", key=key)


def test_a_child_that_had_too_much_is_replaced(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """What a process has taken it seldom gives back."""
    small = start_small(fleet)
    children = {child.pid for child in psutil.Process(small.pid).children()}
    shop.fill.apply_async((key, LARGE_MIB, str(ends[0])), band="optional")
    wait_for(lambda: "is evicted as its node" in small.log, what="eviction")
    pid = fleet.journal.entries("started", key=key)[0]["pid"]
    assert pid in children
    wait_for(lambda: not psutil.pid_exists(pid), what="the end of its child")
    assert "WorkerLostError" not in small.log


def test_what_says_that_it_is_too_large_never_starts_there(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """And keeps nothing else from starting; a worker with room has it."""
    small = start_small(fleet)
    cost = {"memory": f"{LARGE_MIB}MiB"}
    ends[0].touch()
    shop.fill.apply_async((key, 1, str(ends[0])), band="optional", cost=cost)
    wait_for(lambda: told(shop, small)["need"] > 0, what="a look at the node")
    assert ("SUCCESS", 0) == fleet.outcome(shop.note.apply_async((key,), band="optional").id)
    assert 0 == fleet.journal.count("started", key=key)
    other = fleet.start(policy=POLICY)
    wait_for(lambda: fleet.journal.count("ended", key=key) == 1, what="its end elsewhere")

    assert is_below(other, fleet.journal.entries("ended", key=key)[0]["pid"])


def test_pressure_of_a_worker_with_threads_closes_its_lesser_bands(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """Nobody can tell which of its tasks takes the memory, but that they take it."""
    small = start_small(fleet, pool="threads")
    shop.fill.apply_async((key, LARGE_MIB, str(ends[0])), band="optional")
    wait_for(lambda: PRESSED in small.log, what="pressure")
    lesser = shop.note.apply_async((f"{key} lesser",), band="optional").id
    assert ("SUCCESS", 0) == fleet.outcome(shop.note.apply_async((key,), band="critical").id)
    assert 0 == fleet.journal.count("ran", key=f"{key} lesser")
    ends[0].touch()

    assert ("SUCCESS", 0) == fleet.outcome(lesser)
    assert OVER in small.log


@pytest.mark.parametrize("said", ["a lot", 0])
def test_a_setting_that_means_nothing_is_refused(said: object, shop: ModuleType) -> None:
    """Before the worker takes anything."""
    shop.app.conf.budget_node_memory = said
    with pytest.raises(ImproperlyConfigured, match="budget_node_memory"):
        shop.app.amqp.services()
