"""Urgent tasks take units of a capacity back from lesser ones that run, wherever these do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import WaitFor
from tests.fleet import Fleet

LIMIT = 2

#: A worker to which nothing happens reports once a second; the rest is for a busy machine.
SOON_S = 3.0


def policy(way: str) -> dict[str, Any]:
    """Let so many of a task run in the whole fleet, of which optional ones may leave."""
    return {
        "default_band": "important",
        "bands": {
            "critical": {"queues": ["critical"], "preempts": True},
            "important": {"queues": ["celery", "important"], "weight": 4},
            "optional": {"queues": ["optional"], "preempt": [way]},
        },
        "budgets": {"task:*": {"slots": LIMIT}},
    }


@pytest.mark.parametrize("is_one", [False, True], ids=["two workers", "one worker"])
@pytest.mark.parametrize("task", ["steps", "wait"])
def test_an_urgent_task_gets_what_lesser_ones_hold(
    task: str, is_one: bool, alone: Fleet, wait_for: WaitFor, key: str
) -> None:
    """One of them leaves, by checkpoint or evicted, and goes on when that has ended."""
    way = {"steps": "checkpoint", "wait": "evict"}[task]
    alone.settings |= {"budget_ledger_url": alone.results, "budget_state_url": alone.results}
    shop = alone.sender(policy=policy(way))
    holding = alone.start("-Q", "optional,critical" if is_one else "optional", policy=policy(way))
    if not is_one:
        alone.start("-Q", "critical", policy=policy(way))
    arguments: tuple[int, ...] = (0,) if task == "steps" else ()
    ends: list[Path] = [alone.gate(), alone.gate()]
    for number in range(LIMIT):
        getattr(shop, task).apply_async((key, *arguments, str(ends[0]), number), band="optional")
    wait_for(lambda: alone.journal.count("started", key=key) == LIMIT, what="all of the capacity")

    urgent = f"{key} urgent"
    sent = time.time()
    getattr(shop, task).apply_async((urgent, *arguments, str(ends[1])), band="critical")
    wait_for(lambda: alone.journal.count("started", key=urgent) == 1, what="the urgent one")
    waited_s = alone.journal.entries("started", key=urgent)[0]["at"] - sent
    assert LIMIT == alone.journal.count("started", key=key)
    ends[1].touch()
    wait_for(lambda: alone.journal.count("started", key=key) == LIMIT + 1, what="the one that left")
    ends[0].touch()
    wait_for(lambda: alone.journal.count("ended", key=key) == LIMIT, what="all ends")

    assert waited_s < SOON_S
    ended = [entry["number"] for entry in alone.journal.entries("ended", key=key)]
    assert list(range(LIMIT)) == sorted(ended)
    assert 1 == alone.journal.count("ended", key=urgent)
    if way == "evict":
        needs = "needs its part of task:tests.apps.shop.wait slots."
        assert 1 == holding.log.count(f"is evicted for a more urgent one that {needs}")
