"""Lesser tasks that cannot give way leave slots free while urgent ones wait too long."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from tests.conftest import WaitFor
from tests.fleet import Fleet

#: Longer than a message takes, and much shorter than an optional task.
TARGET = "50ms"
POLICY: dict[str, Any] = {
    "default_band": "optional",
    "bands": {
        "critical": {"queues": ["critical"], "preempts": True, "latency_target": TARGET},
        "optional": {"queues": ["optional", "celery"]},
    },
}
OPTIONAL_S = 0.4


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_urgent_tasks_get_room_and_lesser_ones_get_it_back(
    alone: Fleet, wait_for: WaitFor, pool: str
) -> None:
    """By itself, in both directions; told to whoever asks, and in the log."""
    shop = alone.sender(policy=POLICY)
    worker = alone.start("--loglevel", "INFO", pool=pool, concurrency=4, policy=POLICY)
    numbers = count()
    inspect = shop.app.control.inspect(timeout=30, limit=1)

    def optional() -> dict[str, Any]:
        found: dict[str, Any] = inspect._request("budget")[worker.name]["bands"]["optional"]
        return found

    for number in range(400):
        shop.pause.apply_async(("flood", OPTIONAL_S, number), band="optional")
    assert 1 == optional()["throttled_to"]

    def is_throttled() -> bool:
        shop.note.apply_async(("urgent", next(numbers)), band="critical")
        return bool(optional()["throttled_to"] < 0.8)

    wait_for(is_throttled, what="a smaller share")
    # Those that run have to end first; nothing new starts until there is room below the share.
    wait_for(lambda: not is_throttled() or optional()["running"] <= 3, what="room")

    wait_for(lambda: optional()["throttled_to"] == 1, what="all slots again")
    wait_for(lambda: optional()["running"] == 4, what="four at once")
    assert "Band optional is throttled to " in worker.log
    wait_for(lambda: "Band optional may use all slots again." in worker.log, what="the last word")
    published = next(numbers)
    wait_for(lambda: alone.journal.count("ran", key="urgent") == published, what="every urgent one")


def test_a_target_that_is_met_holds_nobody_back(alone: Fleet, wait_for: WaitFor) -> None:
    """However much lesser work there is."""
    # So that no machine is too slow to meet it.
    bands = {**POLICY["bands"], "critical": {**POLICY["bands"]["critical"], "latency_target": "1m"}}
    policy = {**POLICY, "bands": bands}
    shop = alone.sender(policy=policy)
    worker = alone.start("--loglevel", "INFO", concurrency=4, policy=policy)
    for number in range(2_000):
        shop.note.apply_async(("flood", number), band="optional")
        if number % 100 == 0:
            shop.note.apply_async(("urgent", number), band="critical")
    wait_for(lambda: alone.journal.count("ran", key="flood") == 2_000, what="all of them")

    assert "is throttled to" not in worker.log


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_tasks_that_can_do_less_are_asked_to_before_they_wait(
    alone: Fleet, wait_for: WaitFor, pool: str
) -> None:
    """It is enough here: they keep all slots. Their results say what they are."""
    settings = {"result_extended": True}
    policy = {**POLICY, "bands": POLICY["bands"] | {"critical": {**POLICY["bands"]["critical"]}}}
    policy["bands"]["critical"]["latency_target"] = "300ms"
    shop = alone.sender(policy=policy, settings=settings)
    worker = alone.start(pool=pool, concurrency=2, policy=policy, settings=settings)
    numbers = count()
    inspect = shop.app.control.inspect(timeout=30, limit=1)

    def optional() -> dict[str, Any]:
        found: dict[str, Any] = inspect._request("budget")[worker.name]["bands"]["optional"]
        return found

    for number in range(30):
        shop.preview.apply_async(("flood", 1.0, number), band="optional")

    def is_asked() -> bool:
        shop.note.apply_async(("urgent", next(numbers)), band="critical")
        return bool(optional()["degraded"])

    wait_for(is_asked, what="being asked")
    assert 1 == optional()["throttled_to"]
    last = shop.preview.apply_async(("last", 1.0), band="optional").id
    state, _ = alone.outcome(last)
    assert "SUCCESS" == state
    (entry,) = alone.journal.entries("started", key="last")
    assert entry["degraded"]
    assert not alone.journal.entries("started", key="flood")[0]["degraded"]
    assert alone.meta(last)["budget"]["degraded"]
    assert "Tasks of band optional that can do less are asked to" in worker.log
