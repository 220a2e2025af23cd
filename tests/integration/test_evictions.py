"""Running tasks that may be run again are ended for more urgent ones, and run again."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

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
}


@pytest.fixture
def shop(fleet: Fleet) -> ModuleType:
    """Publish from this process; each test starts its own workers, and none is left over."""
    for worker in fleet.workers:
        worker.kill()
    fleet.settings["budget_state_url"] = fleet.results
    return fleet.sender(policy=POLICY)


def start(fleet: Fleet, *arguments: str, **shop: Any) -> Worker:
    """Start a worker with one slot, whose optional tasks may be evicted."""
    return fleet.start(*arguments, concurrency=1, **{"policy": POLICY, **shop})


@pytest.mark.parametrize("task", ["wait", "wait_late"])
def test_an_evicted_task_begins_anew(
    task: str, fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """It has not failed, and whoever waits for its result gets that of its last run."""
    worker = start(fleet)
    evicted = getattr(shop, task).apply_async((key, str(ends[0])), band="optional").id
    wait_for(lambda: fleet.journal.count("started", key=key) == 1, what="its start")
    shop.wait.apply_async((f"{key} urgent", str(ends[1])), band="critical")
    wait_for(lambda: fleet.journal.count("started", key=f"{key} urgent") == 1, what="the urgent")
    ends[1].touch()
    wait_for(lambda: fleet.journal.count("started", key=key) == 2, what="its second start")
    ends[0].touch()

    assert ("SUCCESS", None) == fleet.outcome(evicted)
    assert 1 == fleet.journal.count("ended", key=key)
    assert "Traceback" not in worker.log
    counts = shop.app.control.inspect(timeout=30, limit=1)._request("budget")[worker.name]
    assert (1, 0) == (counts["evictions"], counts["yields"])


def test_it_may_clean_up_first(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """Its slot is not free before that."""
    start(fleet)
    shop.yield_late.apply_async((key, str(ends[0]), 0.3), band="optional")
    wait_for(lambda: fleet.journal.count("started", key=key) == 1, what="its start")
    shop.wait.apply_async((f"{key} urgent", str(ends[1])), band="critical")
    wait_for(lambda: fleet.journal.count("started", key=f"{key} urgent") == 1, what="the urgent")
    ends[0].touch()
    ends[1].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 1, what="its end")
    cleaned = fleet.journal.entries("cleaned", key=key)[0]["at"]

    assert cleaned < fleet.journal.entries("started", key=f"{key} urgent")[0]["at"]


def test_one_that_does_not_end_is_killed_and_runs_again(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """After a grace; also with all that it has started."""
    policy = {**POLICY, "preemption": {"evict_grace": "200ms"}}
    worker = start(fleet, policy=policy)
    evicted = shop.yield_late.apply_async((key, str(ends[0]), 600), band="optional").id
    wait_for(lambda: fleet.journal.count("started", key=key) == 1, what="its start")
    (child,) = psutil.Process(worker.pid).children()
    shop.note.apply_async((f"{key} urgent",), band="critical")
    wait_for(lambda: fleet.journal.count("ran", key=f"{key} urgent") == 1, what="the urgent")
    wait_for(lambda: fleet.journal.count("started", key=key) == 2, what="its second start")
    again = fleet.journal.entries("started", key=key)[1]

    assert evicted == again["id"]
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert "has not ended within 0.2 s of being evicted, and is killed" in worker.log
    assert "WorkerLostError" not in worker.log


def test_one_with_checkpoints_goes_on_from_the_last(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """It loses only what came after."""
    policy = {**POLICY, "preemption": {"checkpoint_every": "1ms"}}
    start(fleet, policy=policy)
    shop.steps.apply_async((key, 0, str(ends[0])), band="optional")
    wait_for(lambda: fleet.journal.count("step", key=key) > 10, what="ten steps")
    shop.note.apply_async((f"{key} urgent",), band="critical")
    wait_for(lambda: fleet.journal.count("started", key=key) == 2, what="its second start")
    ends[0].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 1, what="its end")

    assert fleet.journal.entries("started", key=key)[1]["first"] >= 10


def test_what_asks_to_leave_first_is_evicted_when_it_does_not(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """With both ways, and no checkpoint in sight."""
    bands = POLICY["bands"] | {"optional": {"preempt": ["checkpoint", "evict"]}}
    worker = start(fleet, policy={**POLICY, "bands": bands})
    shop.wait.apply_async((key, str(ends[0])), band="optional")
    wait_for(lambda: fleet.journal.count("started", key=key) == 1, what="its start")
    shop.note.apply_async((f"{key} urgent",), band="critical")
    wait_for(lambda: fleet.journal.count("ran", key=f"{key} urgent") == 1, what="the urgent")
    wait_for(lambda: fleet.journal.count("started", key=key) == 2, what="its second start")
    ends[0].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 1, what="its end")

    assert "is evicted for a more urgent one" in worker.log


def test_a_worker_that_cannot_evict_says_so(fleet: Fleet, shop: ModuleType, key: str) -> None:
    """It works as without preemption."""
    worker = start(fleet, pool="threads")
    outcome = fleet.outcome(shop.note.apply_async((key,), band="optional").id)

    assert 'give way by "evict" on this worker, though that is asked for: only a pref' in worker.log
    assert "SUCCESS" == outcome[0]
