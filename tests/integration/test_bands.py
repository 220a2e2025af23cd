"""Bands on a real worker: who starts when a slot becomes free, and what the worker says of it."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import mean
from types import ModuleType
from typing import Any

import pytest

from tests.apps.shop import POLICY
from tests.conftest import WaitFor
from tests.fleet import Fleet

pytestmark = pytest.mark.parametrize(
    "fleet", ["redis", "rabbitmq", "quorum"], indirect=True, scope="module"
)

QUEUES = ("-Q", "critical,celery,important,optional,plain")
SLOTS = 2


@pytest.fixture(scope="module")
def shop(fleet: Fleet) -> ModuleType:
    """Publish from this process to a worker with two slots.

    The queue `plain` is of no band: with Celery's prefetch its messages reach the worker at
    once and are held there, where those of bands wait in the broker.
    """
    fleet.start(*QUEUES, "--prefetch-multiplier", "50", concurrency=SLOTS)
    return fleet.sender()


def fill(fleet: Fleet, shop: ModuleType, wait_for: WaitFor, gate: Path, **options: Any) -> None:
    """Keep every slot busy until the gate opens."""
    for number in range(SLOTS):
        shop.wait.apply_async((str(gate), str(gate), number), **options)
    wait_for(lambda: fleet.journal.count("started", key=str(gate)) == SLOTS, what="full slots")


def inspect(shop: ModuleType) -> dict[str, Any]:
    """Ask the fleet's one worker for its bands."""
    answers = shop.app.control.inspect(timeout=30, limit=1)._request("budget")
    (answer,) = answers.values()
    return answer


def test_a_free_slot_goes_by_rank_then_by_weight(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """This is what bands are for: all of them full, and the order in which they are served."""
    fill(fleet, shop, wait_for, gate)
    for band, count in (("optional", 16), ("important", 16), ("critical", 4)):
        for number in range(count):
            shop.pause.apply_async((key, 0.1, number), band=band, queue="plain")
    wait_for(lambda: len(inspect(shop)["held"]) == 36, what="what is held")
    gate.touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 36, what="all tasks")

    bands = [entry["band"] for entry in fleet.journal.entries("started", key=key)]
    # Children that start at the same moment may write in either order.
    assert 4 == bands[: 4 + SLOTS - 1].count("critical")
    shared = [band for band in bands if band != "critical"]
    # 4:1 of 15 is 12:3; two either way are those that started before their length was known.
    assert 10 <= shared[:15].count("important") <= 14


def test_critical_work_in_the_broker_overtakes_the_rest(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """The windows must let the most urgent queue through first when a slot becomes free."""
    fill(fleet, shop, wait_for, gate)
    for band, count in (("optional", 4), ("important", 4), ("critical", 4)):
        for number in range(count):
            shop.pause.apply_async((key, 1.0, number), band=band)
    gate.touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 12, what="all tasks")

    bands = [entry["band"] for entry in fleet.journal.entries("started", key=key)]
    # On a busy machine a lesser task may start before the message of a greater one is here: the
    # worker waits for it no longer than a small part of the task's time. tests/properties has
    # the strict order, on a clock of its own.
    places = {band: mean(n for n, each in enumerate(bands) if each == band) for band in set(bands)}
    assert places["critical"] < places["optional"]


def test_the_broker_keeps_what_cannot_start(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """What a full worker does not take, another worker can."""
    fill(fleet, shop, wait_for, gate)
    for number in range(20):
        shop.note.apply_async((key, number), band="optional")
    wait_for(lambda: fleet.length("optional") >= 20 - 2 * SLOTS, what="a queue in the broker")
    held = inspect(shop)["bands"]["optional"]["held"]
    gate.touch()
    wait_for(lambda: fleet.journal.count("ran", key=key) == 20, what="the rest")

    assert held <= 2 * SLOTS
    assert list(range(20)) == sorted(ran["number"] for ran in fleet.journal.entries("ran", key=key))


def test_the_earliest_deadline_of_a_tenant_goes_first(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """Among equals the one that will be late first has the best claim."""
    fill(fleet, shop, wait_for, gate)
    deadlines = [500, 100, 300, None, 200, 400]
    for number, deadline in enumerate(deadlines):
        options = {} if deadline is None else {"deadline": deadline}
        shop.pause.apply_async((key, 0.05, number), queue="plain", **options)
    wait_for(lambda: len(inspect(shop)["held"]) == 6, what="six held tickets")
    gate.touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 6, what="all tasks")

    by_deadline = [1, 4, 2, 5, 0, 3]
    numbers = [entry["number"] for entry in fleet.journal.entries("started", key=key)]
    # Two children start at the same moment and may write in either order.
    assert [set(by_deadline[at : at + 2]) for at in (0, 2, 4)] == [
        set(numbers[at : at + 2]) for at in (0, 2, 4)
    ]


def test_inspect_says_what_runs_and_why_the_rest_waits(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """An operator who asks why a task waits must get the reason the dispatcher acts on."""
    fill(fleet, shop, wait_for, gate, band="optional", tenant="acme")
    waiting = shop.note.apply_async((key,), queue="plain", tenant="acme")
    wait_for(lambda: len(inspect(shop)["held"]) == 1, what="the held ticket")
    answer = inspect(shop)
    (status,) = (
        shop.app.control.inspect(timeout=30, limit=1)
        ._request("budget_status", task_id=waiting.id)
        .values()
    )
    gate.touch()

    assert (SLOTS, 0) == (answer["slots"], answer["free"])
    assert SLOTS == answer["bands"]["optional"]["running"]
    assert {("optional", "acme")} == {(run["band"], run["tenant"]) for run in answer["running"]}
    assert [(waiting.id, "important", "no_slot")] == [
        (held["id"], held["band"], held["reason"]) for held in answer["held"]
    ]
    assert ("held", "no_slot", 0) == (status["state"], status["reason"], status["ahead"])
    assert ("SUCCESS", 0) == fleet.outcome(waiting.id)


def test_a_reserved_slot_stays_free_for_its_band(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """Without preemption only a slot kept free lets critical work start at once."""
    for worker in fleet.workers:
        worker.kill()
    bands = {**POLICY["bands"], "critical": {**POLICY["bands"]["critical"], "reserve": 1}}
    fleet.start(*QUEUES, policy={**POLICY, "bands": bands}, concurrency=SLOTS)
    for number in range(4):
        shop.wait.apply_async((key, str(gate), number), band="optional")
    wait_for(lambda: fleet.journal.count("started", key=key) == 1, what="the first task")
    waiting = shop.note.apply_async((f"{key} plain",), queue="plain")
    wait_for(lambda: len(inspect(shop)["held"]) == 1, what="the held ticket")
    answer = inspect(shop)
    sent = time.time()
    for number in range(5):
        assert ("SUCCESS", None) == fleet.outcome(shop.charge.delay(f"{key} critical", number).id)
    took = time.time() - sent
    running = fleet.journal.count("started", key=key)
    gate.touch()

    assert 1 == answer["free"]
    assert ["reserve_kept"] == [held["reason"] for held in answer["held"]]
    assert 1 == running
    assert took < 2.0
    assert ("SUCCESS", 0) == fleet.outcome(waiting.id)
    wait_for(lambda: fleet.journal.count("ended", key=key) == 4, what="the optional tasks")


def test_a_flood_of_one_tenant_does_not_hold_up_another(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """Ten tasks behind two thousand of somebody else wait for two rounds of the slots more than
    alone."""
    for worker in fleet.workers:
        worker.kill()
    fleet.start("-Q", "celery,plain", "--prefetch-multiplier", "1200", concurrency=SLOTS)
    fill(fleet, shop, wait_for, gate)
    with shop.app.producer_pool.acquire(block=True) as producer:
        for number in range(2_000):
            shop.note.apply_async((key, number), queue="plain", tenant="flood", producer=producer)
        for number in range(10):
            shop.note.apply_async((key, number), queue="plain", tenant="small", producer=producer)
    wait_for(lambda: inspect(shop)["bands"]["important"]["held"] == 2_010, what="the flood")
    gate.touch()
    wait_for(lambda: fleet.journal.count("ran", key=key, tenant="small") == 10, what="the ten")

    tenants = [ran["tenant"] for ran in fleet.journal.entries("ran", key=key)]
    last = max(at for at, tenant in enumerate(tenants) if tenant == "small")
    assert last < 10 + 2 * SLOTS
