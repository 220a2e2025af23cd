"""Workers that share a ledger leave urgent tasks to those that have room for them."""

from __future__ import annotations

from typing import Any

from tests.conftest import WaitFor
from tests.fleet import Fleet

POLICY: dict[str, Any] = {
    "default_band": "important",
    "bands": {
        "critical": {"queues": ["critical"], "preempts": True},
        "important": {"queues": ["celery", "important"]},
        "optional": {"queues": ["optional"], "preempt": ["freeze"]},
    },
}


def test_an_urgent_task_leaves_a_worker_on_which_nothing_gives_way(
    alone: Fleet, wait_for: WaitFor, key: str
) -> None:
    """What runs there has started a program, so that it cannot be frozen, and has no end."""
    gate = alone.gate()
    alone.settings["budget_ledger_url"] = alone.results
    shop = alone.sender(policy=POLICY)
    stuck = alone.start(concurrency=1, policy=POLICY)
    shop.run_program.apply_async((key, str(gate)), band="optional")
    wait_for(lambda: alone.journal.count("started", key=key) == 1, what="its start")
    shop.note.apply_async((f"{key} urgent",), band="critical")
    inspect = shop.app.control.inspect(timeout=30, limit=1, destination=[stuck.name])

    def is_held() -> bool:
        return inspect._request("budget")[stuck.name]["bands"]["critical"]["held"] == 1

    wait_for(is_held, what="the urgent one there")
    alone.start(concurrency=1, policy=POLICY)
    wait_for(lambda: alone.journal.count("ran", key=f"{key} urgent") == 1, what="its run elsewhere")
    assert not is_held()
    assert 0 == alone.journal.count("ended", key=key)
    gate.touch()
    wait_for(lambda: alone.journal.count("ended", key=key) == 1, what="the end of the other")

    assert 1 == alone.journal.count("ran", key=f"{key} urgent")
