"""What lies in the broker holds lesser work back, though no worker can fetch any of it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from tests.budgets import Make, publish
from tests.conftest import WaitFor
from tests.fleet import Fleet
from tests.proxy import Proxy
from tests.worker import Worker

POLICY: dict[str, Any] = {
    "default_band": "optional",
    "bands": {
        "critical": {"queues": ["critical"], "preempts": True, "latency_target": "300ms"},
        "optional": {"queues": ["optional", "celery"]},
    },
}
#: As many as a queue's depth and age need to be believed, and some more.
DEEP = 12


def optional(shop: ModuleType, worker: Worker) -> dict[str, Any]:
    """Ask a worker what it leaves to the optional band."""
    answer = shop.app.control.inspect([worker.name], timeout=5, limit=1)._request("budget")
    found: dict[str, Any] = (answer or {}).get(worker.name, {}).get("bands", {})
    return found.get("optional", {})


def is_held_back(shop: ModuleType, worker: Worker) -> bool:
    """Tell whether it is held back for what lies in the broker."""
    found = optional(shop, worker)
    return found.get("throttled_to", 1) < 0.8 and found["throttled_by"] == "queue"


def is_free(shop: ModuleType, worker: Worker) -> bool:
    """Tell whether it may use all slots."""
    found = optional(shop, worker)
    return found.get("throttled_to") == 1 and found["throttled_by"] is None


def fill(fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path) -> None:
    """Fill two slots with urgent tasks that go on until a file is there."""
    for number in range(2):
        shop.wait.apply_async((key, str(gate), number), band="critical")
    wait_for(lambda: fleet.journal.count("started", key=key) == 2, what="full slots")


def heap_up(fleet: Fleet, shop: ModuleType, worker: Worker, wait_for: WaitFor, key: str) -> Path:
    """Let urgent messages lie behind full slots until that counts; give the file that ends it."""
    gate = fleet.gate()
    fill(fleet, shop, wait_for, key, gate)
    for number in range(DEEP):
        shop.note.apply_async((f"{key} next", number), band="critical")
    wait_for(lambda: is_held_back(shop, worker), what="a smaller share")
    return gate


def test_a_deep_queue_holds_lesser_work_back_and_an_empty_one_does_not(
    alone: Fleet, wait_for: WaitFor, key: str
) -> None:
    """By its depth, on both brokers."""
    settings = {"budget_ledger_url": alone.results}
    shop = alone.sender(policy=POLICY, settings=settings)
    worker = alone.start(policy=POLICY, settings=settings)
    # So that it is known how long they take.
    shop.pause.apply_async((f"{key} first", 0.3), band="critical")
    wait_for(lambda: alone.journal.count("ended", key=f"{key} first") == 1, what="the first")
    heap_up(alone, shop, worker, wait_for, key).touch()
    wait_for(lambda: alone.journal.count("ran", key=f"{key} next") == DEEP, what="all of them")
    wait_for(lambda: is_free(shop, worker), what="all slots again")


@pytest.mark.parametrize("alone", ["redis"], indirect=True)
@pytest.mark.parametrize("lanes", [1, 8])
def test_on_redis_the_age_of_messages_counts_before_any_has_run(
    alone: Fleet, wait_for: WaitFor, key: str, lanes: int
) -> None:
    """Nobody knows yet how long they take; in lanes and under priorities as well."""
    critical = {**POLICY["bands"]["critical"], "lanes": lanes}
    policy = {**POLICY, "bands": {**POLICY["bands"], "critical": critical}}
    shop = alone.sender(policy=policy)
    worker = alone.start(policy=policy)
    gate = alone.gate()
    fill(alone, shop, wait_for, key, gate)
    for number in range(DEEP):
        shop.note.apply_async(
            (f"{key} next", number), band="critical", tenant=f"t{number}", priority=number % 10
        )
    wait_for(lambda: is_held_back(shop, worker), what="a smaller share")
    gate.touch()
    wait_for(lambda: alone.journal.count("ran", key=f"{key} next") == DEEP, what="all of them")
    wait_for(lambda: is_free(shop, worker), what="all slots again")

    assert "cannot be read" not in worker.log


@pytest.mark.parametrize("alone", ["redis"], indirect=True)
def test_garbage_in_a_queue_hides_no_depth_and_is_told_to_nobody(
    alone: Fleet, wait_for: WaitFor, key: str
) -> None:
    """It lies where the oldest message would: one too large to be read, and one that is none."""
    shop = alone.sender(policy=POLICY)
    worker = alone.start(policy=POLICY)
    shop.pause.apply_async((f"{key} first", 0.3), band="critical")
    wait_for(lambda: alone.journal.count("ended", key=f"{key} first") == 1, what="the first")
    gate = alone.gate()
    fill(alone, shop, wait_for, key, gate)
    with redis.Redis.from_url(alone.broker.url) as client:
        client.rpush("critical", b"secret" * 100_000)
        client.rpush("critical\x06\x163", b"secret")
        for number in range(DEEP):
            shop.note.apply_async((f"{key} next", number), band="critical")
        wait_for(lambda: is_held_back(shop, worker), what="a smaller share")
        # As a worker would fail on it.
        client.rpop("critical")
        client.rpop("critical\x06\x163")
    gate.touch()
    wait_for(lambda: alone.journal.count("ran", key=f"{key} next") == DEEP, what="all of them")

    assert "secret" not in worker.log
    assert "Traceback" not in worker.log


def test_lost_connections_leave_none_behind(alone: Fleet, wait_for: WaitFor, key: str) -> None:
    """The look at the broker goes on over another one, of which there is one."""
    settings = {"budget_ledger_url": alone.results}
    shop = alone.sender(policy=POLICY, settings=settings)
    port = urlsplit(alone.broker.url).port
    assert port is not None
    with Proxy(port) as proxy:
        url = alone.broker.url.replace(f":{port}/", f":{proxy.port}/")
        worker = alone.start(policy=POLICY, settings=settings, url=url)
        shop.pause.apply_async((f"{key} first", 0.3), band="critical")
        wait_for(lambda: alone.journal.count("ended", key=f"{key} first") == 1, what="the first")
        wait_for(lambda: is_free(shop, worker), what="an answer")
        most = proxy.links
        for _ in range(3):
            before = worker.log.count("Connected to")
            proxy.cut()
            wait_for(
                lambda before=before: worker.log.count("Connected to") > before,  # type: ignore[misc]
                what="a reconnect",
            )
            wait_for(lambda: is_free(shop, worker), what="an answer")
        heap_up(alone, shop, worker, wait_for, key).touch()
        wait_for(lambda: alone.journal.count("ran", key=f"{key} next") == DEEP, what="all of them")

        wait_for(lambda: proxy.links <= most, what="no more connections than before")
        assert 0 == worker.stop()
        wait_for(lambda: proxy.links == 0, what="the end of all connections")


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_who_uses_the_budget_that_urgent_tasks_wait_for_makes_room(
    make: Make, kind: str, request: pytest.FixtureRequest, wait_for: WaitFor, tmp_path: Path
) -> None:
    """Not for those that wait for another one."""
    policy = {**POLICY, "budgets": {"tenant:*": {"slots": 1}}}
    broker = request.getfixturevalue("rabbitmq_broker") if kind == "rabbitmq" else None
    budgets = make(policy, broker)
    budgets.start(slots=4)
    shop = budgets.sender()
    gates = [tmp_path / name for name in ("beside", "acme")]
    for gate in gates:
        publish(shop.wait, [(gate.name, str(gate))], tenant=gate.name, band="optional")
    wait_for(lambda: len(budgets.journal.entries("started")) == 2, what="both")
    publish(shop.note, [("next", number) for number in range(DEEP)], tenant="acme", band="critical")

    def told() -> dict[str, Any]:
        found: dict[str, Any] = budgets.inspect(shop, "budget")["bands"]["optional"]
        return found

    wait_for(lambda: told()["throttled_by"] == "ledger", what="the reason")
    wait_for(lambda: told()["throttled_to"] < 0.8, what="a smaller share")

    gates[1].touch()
    wait_for(lambda: len(budgets.journal.entries("ran")) == DEEP, what="all of them")
    wait_for(lambda: told()["throttled_to"] == 1, what="all slots again")
    gates[0].touch()
