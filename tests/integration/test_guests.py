"""Workers make room for urgent tasks that are stuck on others, before these reach them."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

from tests.conftest import WaitFor
from tests.fleet import Fleet

SLOTS = 2

POLICY: dict[str, Any] = {
    "default_band": "important",
    "bands": {
        "critical": {"queues": ["critical"], "preempts": True},
        "important": {"queues": ["celery", "important"]},
        "optional": {"queues": ["optional"]},
    },
}


@pytest.mark.parametrize(("way", "task"), [("checkpoint", "steps"), ("evict", "wait")])
def test_what_gives_way_does_so_for_urgent_tasks_that_wait_elsewhere(
    way: str, task: str, alone: Fleet, wait_for: WaitFor, key: str
) -> None:
    """Urgent tasks come due on a worker that is full of what cannot give way."""
    gate = alone.gate()
    urgent = f"{key} urgent"
    alone.settings |= {"budget_ledger_url": alone.results, "budget_state_url": alone.results}
    policy = {**POLICY, "bands": {**POLICY["bands"], "optional": {"preempt": [way]}}}
    shop = alone.sender(policy=policy)
    control = shop.app.control
    stuck = alone.start("-Q", "critical,celery", concurrency=SLOTS, policy=policy)
    able = alone.start("-Q", "optional", concurrency=SLOTS, policy=policy)
    arguments = (0, str(gate)) if task == "steps" else (str(gate),)
    for number in range(SLOTS):
        getattr(shop, task).apply_async((key, *arguments, number), band="optional")
    wait_for(lambda: alone.journal.count("started", key=key) == SLOTS, what="one full worker")
    children = {child.pid for child in psutil.Process(able.pid).children()}
    # What is not due yet comes to whoever has a slot.
    for number in range(4):
        shop.note.apply_async((urgent, number), band="critical", countdown=5 + number)
    inspect = control.inspect(timeout=30, limit=1, destination=[stuck.name])
    wait_for(lambda: len(inspect.scheduled()[stuck.name]) == 4, what="the urgent ones there")
    for number in range(SLOTS):
        shop.wait.apply_async((f"{key} stuck", str(gate), number), band="important")
    wait_for(lambda: alone.journal.count("started", key=f"{key} stuck") == SLOTS, what="two")
    control.add_consumer("critical", destination=[able.name], reply=True, timeout=5, limit=1)
    wait_for(lambda: alone.journal.count("ran", key=urgent) == 4, what="their runs elsewhere")
    asked = control.inspect(timeout=30, limit=1, destination=[able.name])._request("budget")
    assert 0 == alone.journal.count("ended", key=f"{key} stuck")
    gate.touch()
    wait_for(lambda: alone.journal.count("ended", key=key) == SLOTS, what="the ends of the others")

    # The first may come before the two have heard of each other.
    assert asked[able.name]["guests"] >= 1
    for number in range(4):
        assert 1 == alone.journal.count("ran", key=urgent, number=number)
    for number in range(SLOTS):
        assert 1 == alone.journal.count("ended", key=key, number=number)
        taken = [entry["step"] for entry in alone.journal.entries("step", key=key, number=number)]
        assert list(range(len(taken))) == taken
    # Only what leaves for its memory is given another process.
    assert children == {child.pid for child in psutil.Process(able.pid).children()}
    assert (way == "evict") == ("for a more urgent one that waits on another worker" in able.log)
    assert "Traceback" not in able.log + stuck.log
