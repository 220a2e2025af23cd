"""Lanes on real workers: nothing lost, others not buried, and any number beside any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from celery_budget.cli.main import budget
from celery_budget.client import Client, Operator
from celery_budget.core.lanes import OWN, order_of
from celery_budget.policy.lanes import lane_of
from tests.conftest import WaitFor
from tests.fleet import Fleet


def policy(lanes: int) -> dict[str, Any]:
    """Give the shop's policy with so many lanes."""
    return {
        "default_band": "optional",
        "bands": {"critical": {"preempts": True}, "optional": {"lanes": lanes}},
    }


def own(tenant: str, lanes: int) -> set[str]:
    """Name a tenant's two lanes."""
    return {lane_of("optional", number) for number in order_of(tenant, lanes)[:OWN]}


def publish(shop: ModuleType, key: str, count: int, tenants: int) -> None:
    """Publish notes of several tenants over one connection."""
    with shop.app.producer_pool.acquire(block=True) as producer:
        for number in range(count):
            tenant = f"tenant-{number % tenants}"
            shop.note.apply_async((key, number), tenant=tenant, producer=producer)


def ran(fleet: Fleet, key: str) -> list[dict[str, Any]]:
    """List what ran."""
    return fleet.journal.entries("ran", key=key)


@pytest.fixture
def shop(alone: Fleet) -> Iterator[ModuleType]:
    """Publish into eight lanes."""
    return alone.sender(policy=policy(8))


@pytest.mark.parametrize("arguments", [(), ("-Q", "optional")])
def test_a_worker_consumes_the_lanes_of_its_queues(
    alone: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, arguments: tuple[str, ...]
) -> None:
    """`-Q optional` means the queue with its lanes; each task runs once, from its lanes."""
    alone.start(*arguments, policy=policy(8))
    publish(shop, key, 200, 40)
    shop.note.delay(f"{key} nobody's", 0)
    alone.sender(install=False).note.apply_async((f"{key} stock", 0), queue="optional")
    wait_for(lambda: alone.journal.count("ran", key=key) == 200, what="all tasks")
    wait_for(lambda: alone.journal.count("ran", key=f"{key} nobody's") == 1, what="one without")
    wait_for(lambda: alone.journal.count("ran", key=f"{key} stock") == 1, what="a stock sender's")

    assert list(range(200)) == sorted(entry["number"] for entry in ran(alone, key))
    assert all(entry["queue"] in own(entry["tenant"], 8) for entry in ran(alone, key))
    assert {"optional"} == {entry["queue"] for entry in ran(alone, f"{key} nobody's")}
    assert 8 == len({entry["queue"] for entry in ran(alone, key)})


@pytest.mark.parametrize("late", [False, True])
def test_a_backlog_leaves_the_lanes_of_others_free(
    alone: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, late: bool
) -> None:
    """Also of a tenant whose two lanes are the same: it goes on to another one."""
    settings = {"task_acks_late": late}
    elephant = order_of("elephant", 8)[:OWN]
    twin = next(
        name
        for name in (f"twin-{number}" for number in range(10_000))
        if set(order_of(name, 8)[:OWN]) == set(elephant)
    )
    with shop.app.producer_pool.acquire(block=True) as producer:
        for number in range(300):
            arguments = (f"{key} elephant", 0.05, number)
            shop.pause.apply_async(arguments, tenant="elephant", producer=producer)
    wait_for(
        lambda: sum(shop.app.amqp.lanes._depths().seen.values()) == 300, what="a look at the lanes"
    )
    for number in range(5):
        for tenant in ("mouse", twin):
            shop.note.apply_async((key, number), tenant=tenant)
    alone.start(policy=policy(8), settings=settings)
    wait_for(lambda: alone.journal.count("ran", key=key) == 10, what="the others' tasks")
    before = alone.journal.count("ended", key=f"{key} elephant")

    assert before < 60
    lanes = {lane_of("optional", number) for number in elephant}
    assert lanes.isdisjoint({entry["queue"] for entry in ran(alone, key)})
    wait_for(lambda: alone.journal.count("ended", key=f"{key} elephant") == 300, what="the backlog")


def test_what_cannot_start_stays_in_the_broker(
    alone: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Nobody else can start what a full worker holds, and each lane alone could bring a message."""
    gate = alone.gate()
    for number in range(32):
        shop.wait.apply_async((key, str(gate), number), tenant=f"t-{number}")
    alone.start(policy=policy(8))
    wait_for(lambda: alone.journal.count("started", key=key) == 2, what="full slots")
    inspect = shop.app.control.inspect(timeout=30, limit=1)
    (answer,) = inspect._request("budget").values()
    gate.touch()
    wait_for(lambda: alone.journal.count("ended", key=key) == 32, what="all of them")

    assert answer["bands"]["optional"]["held"] <= 2


def test_numbers_of_lanes_may_differ_and_change_while_tasks_flow(
    alone: Fleet, wait_for: WaitFor, key: str
) -> None:
    """4, then 8, then 2, senders and workers in any order; nothing is lost or runs twice."""
    four, eight, two = (alone.sender(policy=policy(count)) for count in (4, 8, 2))
    alone.start(policy=policy(4))
    publish(four, key, 100, 40)
    # Senders first: the lanes beyond four are found by a worker that has four.
    publish(eight, f"{key} raised", 100, 40)
    wait_for(lambda: alone.journal.count("ran", key=f"{key} raised") == 100, what="the raised")
    alone.start(policy=policy(2))
    for part in range(5):
        for count, sender in ((4, four), (8, eight), (2, two)):
            publish(sender, f"{key} mixed {part} {count}", 40, 40)
    for part in range(5):
        for count in (4, 8, 2):
            name = f"{key} mixed {part} {count}"
            wait_for(lambda name=name: alone.journal.count("ran", key=name) >= 40, what=name)
    # Not while it runs tasks: what a child has begun unseen when Celery stops comes again.
    alone.workers[0].stop()
    publish(eight, f"{key} lowered", 100, 40)
    wait_for(lambda: alone.journal.count("ran", key=f"{key} lowered") == 100, what="the lowered")

    assert list(range(100)) == sorted(entry["number"] for entry in ran(alone, f"{key} raised"))
    assert {lane_of("optional", number) for number in range(8)} == {
        entry["queue"] for entry in ran(alone, f"{key} lowered")
    }
    for part in range(5):
        for count in (4, 8, 2):
            found = sorted(entry["number"] for entry in ran(alone, f"{key} mixed {part} {count}"))
            assert list(range(40)) == found


def test_a_retry_stays_in_its_tenant_s_lanes(
    alone: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Celery sends a retry where its message came from, and the lane is chosen anew."""
    alone.start(policy=policy(4), settings={"task_create_missing_queues": False})
    for number in range(4):
        shop.retry.apply_async((f"{key} {number}", 2), tenant=f"tenant-{number}")
    for number in range(4):
        name = f"{key} {number}"
        wait_for(lambda name=name: alone.journal.count("ran", key=name) == 3, what="the tries")

    for number in range(4):
        first, *others = (entry["queue"] for entry in ran(alone, f"{key} {number}"))
        assert first in own(f"tenant-{number}", 8)
        assert own(f"tenant-{number}", 4).issuperset(others)


def queues(shop: ModuleType) -> set[str]:
    """Ask the one worker what it consumes from."""
    (found,) = shop.app.control.inspect(timeout=30, limit=1).active_queues().values()
    return {queue["name"] for queue in found}


def test_remote_control_treats_a_queue_with_its_lanes_as_one(
    alone: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Operators cancel what they know by name."""
    alone.start("-Q", "critical", policy=policy(8))
    lanes = {lane_of("optional", number) for number in range(8)}
    before = queues(shop)
    shop.app.control.add_consumer("optional", reply=True, timeout=5, limit=1)
    publish(shop, key, 40, 40)
    wait_for(lambda: alone.journal.count("ran", key=key) == 40, what="the tasks")
    during = queues(shop)
    shop.app.control.cancel_consumer("optional", reply=True, timeout=5, limit=1)
    wait_for(lambda: queues(shop) == before, what="the end of the consumers")
    publish(shop, f"{key} later", 40, 40)
    shop.charge.delay(key, 41)
    wait_for(lambda: alone.journal.count("ran", key=key) == 41, what="another band's task")
    while_cancelled = alone.journal.count("ran", key=f"{key} later")
    shop.app.control.add_consumer("optional", reply=True, timeout=5, limit=1)
    wait_for(lambda: alone.journal.count("ran", key=f"{key} later") == 40, what="the rest")

    assert {"critical"} == before
    assert {"critical", "optional"} | lanes == during
    assert 0 == while_cancelled


def test_what_waits_in_lanes_is_counted_found_and_moved(
    alone: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Operators ask for a band, and for a task."""
    gate = alone.gate()
    alone.start(policy=policy(8), concurrency=1)
    shop.wait.apply_async((key, str(gate), 0), tenant="acme")
    wait_for(lambda: alone.journal.count("started", key=key) == 1, what="a full slot")
    waiting = [
        shop.note.apply_async((key, number), tenant=f"tenant-{number % 7}").id
        for number in range(20)
    ]
    client = Client(shop.app, timeout=5)

    def depth() -> int:
        fleet = client.fleet()
        return fleet.depth("optional") + fleet.load("optional").held

    wait_for(lambda: depth() == 20, what="the depth")
    shown = CliRunner().invoke(
        budget, ["status", "--json"], obj=SimpleNamespace(app=shop.app, no_color=True)
    )
    moved = client.promote(waiting[-1])
    gate.touch()
    wait_for(lambda: alone.journal.count("ran", key=key) == 20, what="all of them")

    assert 0 == shown.exit_code, shown.output
    assert "lane" not in json.dumps(json.loads(shown.output))
    assert "critical" == moved.band
    assert {"critical"} == {
        entry["band"] for entry in ran(alone, key) if entry["id"] == waiting[-1]
    }


def test_a_live_policy_s_lanes_are_followed(alone: Fleet, wait_for: WaitFor, key: str) -> None:
    """Workers consume from the new lanes before any sender uses them; a pause covers all."""
    settings = {"budget_ledger_url": alone.results}
    shop = alone.sender(policy=policy(2), settings=settings)
    alone.start(policy=policy(2), settings=settings)
    Operator(shop.app).apply(policy(6), reason="more lanes")
    wait_for(
        lambda: {lane_of("optional", number) for number in range(6)} <= queues(shop),
        what="six lanes",
    )
    sender = alone.sender(policy=policy(6))
    Operator(shop.app).pause("queue:optional")
    publish(sender, key, 60, 30)
    shop.charge.delay(f"{key} other")
    wait_for(lambda: alone.journal.count("ran", key=f"{key} other") == 1, what="another band")
    while_paused = alone.journal.count("ran", key=key)
    Operator(shop.app).resume("queue:optional")
    wait_for(lambda: alone.journal.count("ran", key=key) == 60, what="the tasks")

    assert 0 == while_paused
    assert list(range(60)) == sorted(entry["number"] for entry in ran(alone, key))
