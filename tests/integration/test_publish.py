"""Whoever publishes a task and however: it carries its Terms, and its children inherit them."""

from __future__ import annotations

import time
from types import ModuleType

import pytest
from celery import chain, group

from tests.conftest import WaitFor
from tests.fleet import Fleet

OPTIONS = {"band": "optional", "tenant": "acme", "deadline": 600.0, "correlation_id": "order-7"}


@pytest.fixture(scope="module")
def shop(fleet: Fleet) -> ModuleType:
    """Publish from this process to a worker of all bands."""
    fleet.start()
    return fleet.sender()


@pytest.mark.parametrize("how", ["delay", "apply_async", "send_task", "signature", "group"])
def test_a_task_runs_in_its_declared_band_however_it_is_sent(
    how: str, fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """A way of calling that lost the declaration would silently lose the priority."""
    match how:
        case "delay":
            shop.charge.delay(key)
        case "apply_async":
            shop.charge.apply_async((key,))
        case "send_task":
            shop.app.send_task(shop.charge.name, (key,))
        case "signature":
            shop.app.signature(shop.charge.name, (key,)).delay()
        case "group":
            group([shop.charge.s(key)]).apply_async()
    wait_for(lambda: fleet.journal.count("ran", key=key) == 1, what="the task")

    ran = fleet.journal.entries("ran", key=key)[0]
    assert ("critical", "critical") == (ran["band"], ran["queue"])


@pytest.mark.parametrize("how", ["apply_async", "send_task", "signature", "group", "chain"])
def test_the_call_decides_band_tenant_deadline_and_correlation_id(
    how: str, fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Options must reach the worker whichever road a call takes to the broker."""
    now = time.time()
    match how:
        case "apply_async":
            shop.charge.apply_async((key,), **OPTIONS)
        case "send_task":
            shop.app.send_task(shop.charge.name, (key,), **OPTIONS)
        case "signature":
            shop.charge.s(key).set(**OPTIONS).delay()
        case "group":
            group([shop.charge.s(key).set(**OPTIONS)]).apply_async()
        case "chain":
            chain(shop.charge.si(key).set(**OPTIONS)).apply_async()
    wait_for(lambda: fleet.journal.count("ran", key=key) == 1, what="the task")

    ran = fleet.journal.entries("ran", key=key)[0]
    assert ("optional", "acme", "order-7") == (ran["band"], ran["tenant"], ran["cid"])
    assert "optional" == ran["queue"]
    assert now + 600 <= ran["deadline"] <= ran["at"] + 600


@pytest.mark.parametrize(
    ("how", "event", "times"),
    [
        ("delay", "ran", 1),
        ("apply_async", "ran", 1),
        ("send_task", "ran", 1),
        ("group", "ran", 2),
        ("chain", "ran", 2),
        ("chord", "total", 1),
        ("link", "told", 1),
        ("link_error", "told", 1),
    ],
)
def test_children_inherit_from_the_task_that_calls_them(
    how: str,
    event: str,
    times: int,
    fleet: Fleet,
    shop: ModuleType,
    wait_for: WaitFor,
    key: str,
) -> None:
    """One piece of work must not change its priority half way because it is made of tasks."""
    shop.spawn.apply_async((key, how), **OPTIONS)
    wait_for(lambda: fleet.journal.count(event, key=key) == times, what=event)

    parent = fleet.journal.entries("parent", key=key)[0]
    fields = ("band", "tenant", "deadline", "cid")
    expected = [tuple(parent[field] for field in fields)] * times
    children = fleet.journal.entries(event, key=key)
    assert ("optional", "acme", "order-7") == (parent["band"], parent["tenant"], parent["cid"])
    assert expected == [tuple(child[field] for field in fields) for child in children]


def test_children_may_say_otherwise(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """An urgent task may start a long clean-up, which must not inherit the urgency."""
    own = {"band": "important", "tenant": "other", "deadline": 3600.0}
    shop.spawn.apply_async((key, "apply_async", own), **OPTIONS)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 1, what="the child")

    child = fleet.journal.entries("ran", key=key)[0]
    parent = fleet.journal.entries("parent", key=key)[0]
    assert ("important", "other", "order-7") == (child["band"], child["tenant"], child["cid"])
    assert child["deadline"] > parent["deadline"] + 2900


def test_a_task_without_a_parent_starts_a_correlation_id(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Children find their siblings by the id of the first task."""
    sent = shop.spawn.delay(key, "chain")
    wait_for(lambda: fleet.journal.count("ran", key=key) == 2, what="the children")

    assert [sent.id] * 2 == [ran["cid"] for ran in fleet.journal.entries("ran", key=key)]


def test_a_retry_keeps_the_terms_and_counts_the_attempts(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """A retry is the same work: its deadline must not start again."""
    shop.retry.apply_async((key, 2), **OPTIONS)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 3, what="two retries")

    ran = fleet.journal.entries("ran", key=key)
    fields = ("id", "band", "tenant", "deadline", "cid", "queue")
    assert [1, 2, 3] == [entry["attempt"] for entry in ran]
    assert 1 == len({tuple(entry[field] for field in fields) for entry in ran})
    assert ("optional", "acme") == (ran[0]["band"], ran[0]["tenant"])


def test_autoretry_keeps_the_terms(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Most retries in real apps are made by `autoretry_for`, not by hand."""
    shop.autoretry.apply_async((key,), **OPTIONS)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 3, what="two retries")

    ran = fleet.journal.entries("ran", key=key)
    assert [("optional", "acme")] * 3 == [(entry["band"], entry["tenant"]) for entry in ran]


def test_a_replacement_takes_over_the_terms(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """`self.replace` goes on with the same work under another name."""
    sent = shop.replace.apply_async((key,), **OPTIONS)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 2, what="the replacement")

    first, second = fleet.journal.entries("ran", key=key)
    assert 1 == second["number"]
    assert sent.id == second["id"]
    assert ("optional", "acme", "order-7") == (second["band"], second["tenant"], second["cid"])
    assert first["deadline"] == second["deadline"]


def test_every_part_of_a_canvas_goes_its_own_way(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """A chord whose body is urgent must not make its header urgent, nor the other way round."""
    shop.spawn.delay(key, "chord of bands")
    wait_for(lambda: fleet.journal.count("total", key=key) == 1, what="the body")

    total = fleet.journal.entries("total", key=key)[0]
    ran = fleet.journal.entries("ran", key=key)
    assert (3, "critical") == (total["total"], total["band"])
    assert ["optional"] * 3 == [entry["band"] for entry in ran]


def test_stamps_of_canvas_arrive_beside_ours(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Celery's own stamping API writes to the same headers."""
    signature = shop.stamped.s(key).set(band="optional")
    signature.stamp(order="A-1")
    signature.apply_async()
    wait_for(lambda: fleet.journal.count("stamped", key=key) == 1, what="the task")

    entry = fleet.journal.entries("stamped", key=key)[0]
    assert ("optional", {"order": "A-1"}) == (entry["band"], entry["stamps"])


def test_protocol_1_carries_the_terms_too(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Old consumers of the same queues force some senders to stay with protocol 1."""
    old = fleet.sender(settings={"task_protocol": 1})
    old.note.apply_async((key,), **OPTIONS)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 1, what="the task")

    ran = fleet.journal.entries("ran", key=key)[0]
    assert ("optional", "acme", "order-7") == (ran["band"], ran["tenant"], ran["cid"])
    assert ran["deadline"] is not None


def test_what_beat_sends_carries_its_terms(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Periodic jobs are the typical optional work; beat is a process of its own."""
    schedule = {
        "declared": {"task": shop.charge.name, "schedule": 0.1, "args": (key, 1)},
        "asked": {
            "task": shop.note.name,
            "schedule": 0.1,
            "args": (key, 2),
            "options": {"band": "optional", "tenant": "acme"},
        },
    }
    with fleet.beat(settings={"beat_schedule": schedule}):
        wait_for(
            lambda: {1, 2} == {ran["number"] for ran in fleet.journal.entries("ran", key=key)},
            timeout=30,
            what="both entries of the schedule",
        )

    ran = fleet.journal.entries("ran", key=key)
    assert {(1, "critical", None), (2, "optional", "acme")} == {
        (entry["number"], entry["band"], entry["tenant"]) for entry in ran
    }
