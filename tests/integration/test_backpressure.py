"""What senders do with tasks of a band that has too much waiting."""

from __future__ import annotations

import os
import time
from datetime import datetime
from types import ModuleType
from typing import Any

import pytest
from celery import chain

from celery_budget import BandOverloaded
from tests.conftest import WaitFor
from tests.fleet import Fleet

pytestmark = pytest.mark.parametrize("fleet", ["redis", "rabbitmq"], indirect=True, scope="module")

MOST = 20


def policy(on_overload: str, **band: object) -> dict[str, Any]:
    """Let at most twenty optional tasks wait."""
    return {
        "default_band": "important",
        "bands": {
            "critical": {"queues": ["critical"], "preempts": True},
            "important": {"queues": ["celery", "important"]},
            "optional": {
                "queues": ["optional"],
                "max_queued": MOST,
                "on_overload": on_overload,
                **band,
            },
        },
    }


@pytest.fixture(autouse=True)
def nobody(fleet: Fleet) -> None:
    """Leave no worker over, nor any message."""
    for worker in fleet.workers:
        worker.kill()
    sender = fleet.sender()
    with sender.app.connection_for_write() as connection:
        for name in ("optional", "optional.lane0", "optional.lane1", "critical"):
            queue = connection.default_channel
            queue.queue_declare(name, durable=True, auto_delete=False)
            queue.queue_purge(name)


def fill(shop: ModuleType, key: str, **options: object) -> tuple[int, BandOverloaded]:
    """Publish until something is refused; tell how many were not."""
    for number in range(10_000):
        try:
            shop.note.apply_async((key, number), band="optional", **options)
        except BandOverloaded as overload:
            return number, overload
        time.sleep(0.01)
    raise AssertionError("nothing was refused")


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_sender_is_refused_and_taken_again(
    lanes: int, fleet: Fleet, wait_for: WaitFor, key: str
) -> None:
    """What was taken is run, what was refused is not, and then there is room again."""
    rule = policy("raise", lanes=lanes)
    shop = fleet.sender(policy=rule)
    taken, overload = fill(shop, key, tenant="acme")
    assert MOST <= min(taken, overload.queued)
    assert "optional" == overload.band
    assert 1 <= overload.retry_after <= 60
    for number in range(3):
        shop.note.apply_async((f"{key} critical", number), band="critical")
    fleet.start(policy=rule)
    wait_for(lambda: fleet.journal.count("ran", key=key) == taken, what="all that was taken")
    wait_for(lambda: fleet.journal.count("ran", key=f"{key} critical") == 3, what="critical ones")

    def is_taken() -> bool:
        try:
            shop.note.apply_async((f"{key} again",), band="optional", tenant="acme")
        except BandOverloaded:
            return False
        return True

    wait_for(is_taken, what="room")
    wait_for(lambda: fleet.journal.count("ran", key=f"{key} again") == 1, what="the last one")
    assert taken == fleet.journal.count("ran", key=key)


def overloaded(fleet: Fleet, rule: dict[str, Any], key: str, wait_for: WaitFor) -> ModuleType:
    """Fill the band, by a sender without limits, until another one has seen it."""
    stock = fleet.sender(policy=policy("raise", max_queued=10_000))
    for number in range(2 * MOST):
        stock.note.apply_async((f"{key} before", number), band="optional")
    shop = fleet.sender(policy=rule)
    shop.note.apply_async((f"{key} first",), band="optional")
    wait_for(lambda: shop.app.amqp.depths().looks > 0, what="a look at the queues")
    return shop


def test_tasks_start_later_instead(fleet: Fleet, wait_for: WaitFor, key: str) -> None:
    """By an ETA of their own; one that a call gives stays."""
    shop = overloaded(fleet, policy("delay"), key, wait_for)
    sent = time.time()
    shop.note.apply_async((f"{key} later",), band="optional")
    soon = time.time() + 3
    shop.note.apply_async((f"{key} soon",), band="optional", countdown=3)
    fleet.start(policy=policy("delay"))
    wait_for(lambda: fleet.journal.count("ran", key=f"{key} soon") == 1, what="the one in 3 s")
    assert soon - 1 <= fleet.journal.entries("ran", key=f"{key} soon")[0]["at"] <= soon + 20
    inspect = shop.app.control.inspect(timeout=30, limit=1)
    (scheduled,) = inspect.scheduled().values()
    (entry,) = [each for each in scheduled if each["request"]["args"] == [f"{key} later"]]
    assert "eta" in entry
    assert 29 <= sent_for(entry["eta"], sent) <= 91


def sent_for(eta: str, sent: float) -> float:
    """Tell how many seconds after sending an ETA is."""
    return datetime.fromisoformat(eta).timestamp() - sent


def test_tasks_do_less_instead(fleet: Fleet, wait_for: WaitFor, key: str) -> None:
    """From the sender's word on; the worker needs no budgets for it."""
    shop = overloaded(fleet, policy("degrade"), key, wait_for)
    shop.preview.apply_async((f"{key} less", 0.1), band="optional")
    shop.preview.apply_async((f"{key} all", 0.1), band="important")
    fleet.start(policy=policy("degrade"))
    for what, degraded in (("less", True), ("all", False)):
        wait_for(lambda: fleet.journal.count("started", key=f"{key} {what}") == 1, what=what)  # noqa: B023
        assert degraded == fleet.journal.entries("started", key=f"{key} {what}")[0]["degraded"]


def test_a_workflow_does_not_stop_half_way(fleet: Fleet, wait_for: WaitFor, key: str) -> None:
    """Its next step is delayed where it would be refused."""
    shop = overloaded(fleet, policy("raise"), key, wait_for)
    worker = fleet.start("-Q", "critical", policy=policy("raise"))
    first = shop.note.si(f"{key} one").set(band="critical")
    for number in range(20):
        chain(first, shop.note.si(f"{key} part", number).set(band="optional")).apply_async()
        time.sleep(0.1)  # so that its worker looks at the queues between them
    wait_for(lambda: fleet.journal.count("ran", key=f"{key} one") == 20, what="the first steps")
    fleet.start("-Q", "optional", policy=policy("degrade"))

    def are_there() -> bool:
        return fleet.journal.count("ran", key=f"{key} part") + scheduled(shop, key) == 20

    wait_for(are_there, what="all second steps")
    assert scheduled(shop, key) > 0
    assert "BandOverloaded" not in worker.log


def scheduled(shop: ModuleType, key: str) -> int:
    """Count the parts that workers keep until their time."""
    found = shop.app.control.inspect(timeout=1).scheduled() or {}
    requests = [entry["request"] for entries in found.values() for entry in entries]
    return sum(request["args"][:1] == [f"{key} part"] for request in requests)


def test_a_forked_sender_looks_for_itself(fleet: Fleet, wait_for: WaitFor, key: str) -> None:
    """As servers of web apps fork theirs after the app was loaded."""
    shop = overloaded(fleet, policy("raise"), key, wait_for)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, f"{fill(shop, key)[0]}".encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)

    assert 0 < int(os.read(reader, 16))


def test_nothing_is_asked_for_bands_without_a_limit(fleet: Fleet, key: str) -> None:
    """No thread, no connection."""
    shop = fleet.sender(policy=policy("raise"))
    shop.note.apply_async((f"{key} critical",), band="critical")
    shop.note.delay(key)

    assert shop.app.amqp.depths()._thread is None
