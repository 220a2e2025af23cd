"""However a worker ends, what it had not started is in the broker again, once and in order."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import WaitFor
from tests.fleet import Fleet, are_held
from tests.worker import Worker

pytestmark = pytest.mark.parametrize(
    "fleet", ["redis", "rabbitmq", "quorum"], indirect=True, scope="module"
)

SLOTS = 2
HELD = 1_000

#: So a worker over Redis gives out after 3 s what a killed one had, and looks each second. Only
#: the second worker: one that holds tickets for longer would give out its own.
HEIR: dict[str, Any] = {
    "settings": {
        "broker_transport_options": {
            "visibility_timeout": 3,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        },
        "worker_prefetch_multiplier": 1,
    }
}


@pytest.fixture
def shop(fleet: Fleet) -> ModuleType:
    """Publish from this process; each test starts its own workers, and none is left over."""
    for worker in fleet.workers:
        worker.kill()
    return fleet.sender()


def start(fleet: Fleet, *arguments: str, **shop: Any) -> Worker:
    """Start a worker that takes 1,000 messages of the queue `plain`, which no band owns."""
    queues = "critical,celery,important,optional,plain"
    return fleet.start("-Q", queues, "--prefetch-multiplier", "500", *arguments, **shop)


def fill(fleet: Fleet, shop: ModuleType, wait_for: WaitFor, gate: Path, key: str) -> None:
    """Keep every slot busy until the gate opens."""
    for number in range(SLOTS):
        shop.wait.delay(key, str(gate), number)
    wait_for(lambda: fleet.journal.count("started", key=key) == SLOTS, what="full slots")


def hold(fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str) -> None:
    """Publish tasks until the worker holds a thousand of them."""
    with shop.app.producer_pool.acquire(block=True) as producer:
        for number in range(HELD):
            shop.note.apply_async((key, number), queue="plain", producer=producer)
    wait_for(lambda: is_holding(shop, HELD), what="a thousand held tickets")


def is_holding(shop: ModuleType, count: int) -> bool:
    """Tell whether the one worker holds so many tickets."""
    answers = shop.app.control.inspect(timeout=5, limit=1)._request("budget") or {}
    return any(
        sum(band["held"] for band in answer["bands"].values()) == count
        for answer in answers.values()
    )


def numbers(fleet: Fleet, key: str) -> list[int]:
    """List the tasks that ran, in order."""
    return [ran["number"] for ran in fleet.journal.entries("ran", key=key)]


def test_warm_shutdown_returns_a_thousand_held_tasks_at_once_and_in_order(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """A deploy must not delay work that another worker could start meanwhile."""
    worker = start(fleet)
    fill(fleet, shop, wait_for, gate, key)
    hold(fleet, shop, wait_for, key)
    worker.send(signal.SIGTERM)
    # While its slots are still busy: the gate is shut.
    wait_for(lambda: fleet.length("plain") == HELD, what="the return of all")
    other = start(fleet, concurrency=1)
    wait_for(lambda: fleet.journal.count("ran", key=key) == HELD, what="all tasks")
    gate.touch()
    status = worker.wait()
    other.kill()

    # By the worker's own clock: when Celery's loop notices a signal is not ours to promise.
    returned = re.search(
        r"1000 unstarted tasks given back to the broker in ([0-9.]+) s", worker.log
    )
    assert returned is not None
    assert float(returned[1]) < 2.0
    assert list(range(HELD)) == numbers(fleet, key)
    assert 0 == status
    # The running ones were left in peace and acknowledged.
    assert 2 == fleet.journal.count("ended", key=key) == fleet.journal.count("started", key=key)


def test_kill_9_loses_no_held_task(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """Nothing can be returned then: the broker has to know that it still owns them."""
    worker = start(fleet)
    fill(fleet, shop, wait_for, gate, key)
    hold(fleet, shop, wait_for, key)
    worker.kill()
    fleet.start("-Q", "celery,plain", concurrency=1, **HEIR)
    wait_for(lambda: fleet.journal.count("ran", key=key) >= HELD, what="all tasks")

    # In order on RabbitMQ only; Redis gives them back by the age of their delivery.
    assert list(range(HELD)) == sorted(numbers(fleet, key))


@pytest.mark.parametrize("task", ["wait", "wait_late"])
def test_a_task_that_runs_at_warm_shutdown_ends_and_does_not_come_again(
    task: str, fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """Its acknowledgement may come late, long after the worker has stopped consuming."""
    worker = start(fleet)
    shop.app.tasks[f"tests.apps.shop.{task}"].delay(key, str(gate))
    wait_for(lambda: fleet.journal.count("started", key=key) == 1, what="the running task")
    worker.send(signal.SIGTERM)
    wait_for(lambda: "Warm shutdown" in worker.log, what="the shutdown")
    gate.touch()
    status = worker.wait()
    start(fleet)
    shop.note.delay(key)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 1, what="a task behind it")

    assert 0 == status
    assert (1, 1) == (
        fleet.journal.count("started", key=key),
        fleet.journal.count("ended", key=key),
    )


def test_a_slot_freed_after_the_signal_is_left_empty(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """The handler only notes the signal, and the turn goes on: what began in it ran twice."""
    # Of one band: others would wait some milliseconds for urgent messages before they start.
    worker = start(
        fleet, policy={"default_band": "only", "bands": {"only": {"queues": ["celery"]}}}
    )
    fill(fleet, shop, wait_for, gate, key)
    held = shop.note.apply_async((key, 1), queue="plain").id
    wait_for(lambda: are_held(shop, [held]), what="a held ticket")
    stall = fleet.gate()
    stalled = {"key": key, "gate": str(stall), "stops": True}
    shop.app.control.broadcast("stall", arguments=stalled)
    wait_for(lambda: fleet.journal.count("stalled", key=key) == 1, what="a busy main process")
    gate.touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == SLOTS, what="results to be read")
    stall.touch()
    worker.wait()
    begun = numbers(fleet, key)
    start(fleet, concurrency=1)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 1, what="the held ticket")

    assert [] == begun


def test_cold_shutdown_returns_what_is_held_and_what_runs_late(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """SIGQUIT ends running tasks; those that acknowledge late go back as with stock Celery."""
    worker = start(fleet, "-O", "fair")
    for number in range(SLOTS):
        shop.wait_late.delay(key, str(gate), number)
    wait_for(lambda: fleet.journal.count("started", key=key) == SLOTS, what="full slots")
    ids = [shop.note.apply_async((key, number), queue="plain").id for number in range(10)]
    wait_for(lambda: are_held(shop, ids), what="ten held tickets")
    worker.send(signal.SIGQUIT)
    worker.wait()
    assert "Error on terminating" not in worker.log
    gate.touch()
    start(fleet, concurrency=1)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 10, what="what was held")
    wait_for(lambda: fleet.journal.count("ended", key=key) == SLOTS, what="what was running")

    assert list(range(10)) == numbers(fleet, key)


def test_soft_shutdown_lets_short_tasks_end(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """Within its time-out running tasks may end; held ones must not start."""
    worker = start(fleet, settings={"worker_soft_shutdown_timeout": 2.0})
    for number in range(SLOTS):
        shop.pause.delay(key, 1.0, number)
    wait_for(lambda: fleet.journal.count("started", key=key) == SLOTS, what="full slots")
    ids = [shop.note.apply_async((key, number), queue="plain").id for number in range(10)]
    wait_for(lambda: are_held(shop, ids), what="ten held tickets")
    worker.send(signal.SIGQUIT)
    worker.wait()
    ended = fleet.journal.count("ended", key=key)
    start(fleet, concurrency=1)
    wait_for(lambda: fleet.journal.count("ran", key=key) >= 10, what="what was held")

    assert SLOTS == ended
    assert list(range(10)) == sorted(numbers(fleet, key))
