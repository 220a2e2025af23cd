"""Lesser tasks stand still while urgent ones need the processors of their worker's node."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import WaitFor
from tests.fleet import Fleet
from tests.worker import Worker

pytestmark = [
    pytest.mark.parametrize("fleet", ["redis", "rabbitmq"], indirect=True, scope="module"),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no process can be tied down"),
]

POLICY: dict[str, Any] = {
    "default_band": "important",
    "bands": {
        "critical": {"queues": ["critical"], "preempts": True},
        "important": {"queues": ["celery", "important"]},
        "optional": {"queues": ["optional"], "preempt": ["freeze"]},
    },
    "preemption": {"spare": 1, "max_freeze": "1h"},
    "pressure": {"cpu": "100%"},
}


@pytest.fixture
def shop(fleet: Fleet) -> ModuleType:
    """Publish from this process; each test starts its own worker, and none is left over."""
    for worker in fleet.workers:
        worker.kill()
    return fleet.sender(policy=POLICY)


@pytest.fixture
def one_processor() -> Iterator[None]:
    """Let whatever this thread starts have one processor."""
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    yield
    os.sched_setaffinity(0, usable)


def told(shop: ModuleType, worker: Worker) -> dict[str, Any]:
    """Ask a worker what it does."""
    inspect = shop.app.control.inspect(timeout=30, limit=1, destination=[worker.name])
    answer: dict[str, Any] = inspect._request("budget")[worker.name]
    return answer


def is_frozen(shop: ModuleType, worker: Worker, task_id: str) -> bool:
    """Tell whether a running task stands still."""
    (found,) = [each for each in told(shop, worker)["running"] if each["id"] == task_id]
    return bool(found["is_frozen"])


@pytest.mark.usefixtures("one_processor")
def test_what_computes_stands_still_for_an_urgent_task(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """Though there is a slot for each: there is one processor. Then it goes on, and ends once."""
    worker = fleet.start(concurrency=3, policy=POLICY)
    lesser = shop.burn.apply_async((f"{key} lesser", str(ends[0])), band="optional").id
    idle = shop.fill.apply_async((f"{key} idle", 1, str(ends[0])), band="optional").id
    wait_for(lambda: fleet.journal.count("started", key=f"{key} lesser") == 1, what="it to begin")
    wait_for(lambda: fleet.journal.count("started", key=f"{key} idle") == 1, what="the other")
    urgent = shop.burn.apply_async((f"{key} urgent", str(ends[1])), band="critical").id
    wait_for(lambda: is_frozen(shop, worker, lesser), what="it to stand still")

    assert 1 == fleet.journal.count("started", key=f"{key} urgent")
    assert not is_frozen(shop, worker, idle)
    assert not is_frozen(shop, worker, urgent)
    ends[1].touch()
    assert "SUCCESS" == fleet.outcome(urgent)[0]
    wait_for(lambda: not is_frozen(shop, worker, lesser), what="it to go on")
    ends[0].touch()
    assert ["SUCCESS"] * 2 == [fleet.outcome(each)[0] for each in (lesser, idle)]
    assert 1 == fleet.journal.count("ended", key=f"{key} lesser")
    assert 1 == told(shop, worker)["freezes"]


@pytest.mark.usefixtures("one_processor")
def test_what_is_known_to_compute_does_not_start_beside_an_urgent_task(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """It says why it waits; what only waits for others starts."""
    worker = fleet.start(concurrency=3, policy=POLICY)
    ends[0].touch()
    known = shop.burn.apply_async((f"{key} known", str(ends[0]), 0.2), band="important").id
    assert "SUCCESS" == fleet.outcome(known)[0]
    urgent = shop.burn.apply_async((f"{key} urgent", str(ends[1])), band="critical").id
    wait_for(lambda: fleet.journal.count("started", key=f"{key} urgent") == 1, what="its start")
    lesser = shop.burn.apply_async((f"{key} lesser", str(ends[0])), band="important").id

    def reasons() -> list[str]:
        return [each["reason"] for each in told(shop, worker)["held"] if each["id"] == lesser]

    wait_for(lambda: reasons() == ["cpu"], what="it to be held")
    other = shop.note.apply_async((f"{key} other",), band="optional").id
    assert "SUCCESS" == fleet.outcome(other)[0]
    assert 0 == fleet.journal.count("started", key=f"{key} lesser")
    ends[1].touch()
    assert ["SUCCESS"] * 2 == [fleet.outcome(each)[0] for each in (urgent, lesser)]
