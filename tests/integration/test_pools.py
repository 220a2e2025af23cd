"""Bands work on every pool of Celery's: what starts, in which order, and what a worker returns."""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from tests.conftest import WaitFor
from tests.fleet import Fleet

QUEUES = ("-Q", "critical,celery,important,optional,plain")


@pytest.fixture
def shop(fleet: Fleet) -> ModuleType:
    """Publish from this process; each test starts its own worker, and none is left over."""
    for worker in fleet.workers:
        worker.kill()
    return fleet.sender()


def held(shop: ModuleType) -> int:
    """Count what the one worker holds."""
    (answer,) = shop.app.control.inspect(timeout=30, limit=1)._request("budget").values()
    return sum(band["held"] for band in answer["bands"].values())


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "eventlet"])
def test_a_pool_runs_tasks_by_band_with_their_terms(
    pool: str, fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """Each pool tells the end of a task in another way, on which the next start depends."""
    worker = fleet.start(*QUEUES, "--prefetch-multiplier", "10", pool=pool, concurrency=2)
    for number in range(2):
        shop.wait.apply_async((f"{key} fill", str(gate), number), band="optional")
    wait_for(lambda: fleet.journal.count("started", key=f"{key} fill") == 2, what="full slots")
    for band in ("optional", "important", "critical"):
        for number in range(5):
            shop.pause.apply_async((key, 0.05, number), band=band, tenant="acme", queue="plain")
    wait_for(lambda: held(shop) == 15, what="what is held")
    gate.touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 15, what="all tasks")
    outcome = fleet.outcome(shop.note.delay(key, 7).id)
    worker.send(signal.SIGTERM)
    status = worker.wait()

    started = fleet.journal.entries("started", key=key)
    bands = [entry["band"] for entry in started]
    assert {"optional": 5, "important": 5, "critical": 5} == Counter(bands)
    assert {"acme"} == {entry["tenant"] for entry in started}
    # Two starts at the same moment are told in any order.
    assert 5 == bands[:6].count("critical")
    assert ("SUCCESS", 7) == outcome
    assert 0 == status


def test_the_solo_pool_serves_every_band(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """A start there is the whole run, inside the delivery of its message."""
    worker = fleet.start(*QUEUES, pool="solo", concurrency=1)
    for number in range(30):
        band = ("optional", "important", "critical")[number % 3]
        shop.note.apply_async((key, number), band=band, tenant="acme")
    wait_for(lambda: fleet.journal.count("ran", key=key) == 30, what="all tasks")
    worker.send(signal.SIGTERM)
    status = worker.wait()

    ran = fleet.journal.entries("ran", key=key)
    assert list(range(30)) == sorted(entry["number"] for entry in ran)
    assert {("acme", "optional"), ("acme", "important"), ("acme", "critical")} == {
        (entry["tenant"], entry["band"]) for entry in ran
    }
    assert 0 == status


@pytest.mark.parametrize("pool", ["threads", "gevent", "eventlet"])
def test_short_tasks_keep_a_pool_busy(
    pool: str, fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """A window that opened only when a loop wakes by itself would cost seconds here."""
    fleet.start(*QUEUES, pool=pool, concurrency=4)
    sent = time.monotonic()
    for number in range(200):
        shop.note.delay(key, number)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 200, what="all tasks")
    took = time.monotonic() - sent

    assert list(range(200)) == sorted(
        ran["number"] for ran in fleet.journal.entries("ran", key=key)
    )
    assert took < 15.0


@pytest.mark.parametrize("pool", ["threads", "gevent", "eventlet"])
def test_a_slot_that_frees_is_used_at_once(
    pool: str, fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """These loops sleep for two seconds when nothing happens on the connection."""
    fleet.start(*QUEUES, pool=pool, concurrency=1)
    for number in range(6):
        shop.pause.delay(key, 0.3, number)
    wait_for(lambda: fleet.journal.count("ended", key=key) == 6, what="all tasks")

    starts = [entry["at"] for entry in fleet.journal.entries("started", key=key)]
    ends = [entry["at"] for entry in fleet.journal.entries("ended", key=key)]
    idle = [start - end for start, end in zip(starts[1:], ends, strict=False)]
    assert sorted(idle)[len(idle) // 2] < 0.15


@pytest.mark.parametrize("pool", ["threads", "gevent", "eventlet"])
def test_a_countdown_works_on_a_pool_without_an_event_loop(
    pool: str, fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """There the timer is a thread or a greenlet of its own and calls the choke point itself."""
    fleet.start(*QUEUES, pool=pool, concurrency=2)
    sent = time.time()
    for number in range(4):
        shop.note.apply_async((key, number), countdown=0.7)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 4, what="all tasks")

    delays = [ran["at"] - sent for ran in fleet.journal.entries("ran", key=key)]
    assert 0.7 <= min(delays)
    assert max(delays) < 3.0


def test_children_are_replaced_after_so_many_tasks(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """A slot must not be lost with the child that had it."""
    fleet.start(*QUEUES, "--max-tasks-per-child", "3", concurrency=2)
    for number in range(30):
        shop.note.delay(key, number)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 30, what="all tasks")

    ran = fleet.journal.entries("ran", key=key)
    per_child = [sum(entry["pid"] == pid for entry in ran) for pid in {e["pid"] for e in ran}]
    assert list(range(30)) == sorted(entry["number"] for entry in ran)
    assert max(per_child) <= 3


def test_a_task_that_is_given_to_a_dead_child_runs_in_the_next(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Its pipe may be written to before the pool learns of its death."""
    worker = fleet.start(*QUEUES, concurrency=1)
    process = psutil.Process(worker.pid)
    shop.note.delay(key, 0)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 1, what="the first task")
    for number in range(1, 11):
        (child,) = process.children()
        worker.send(signal.SIGSTOP)
        shop.note.delay(key, number)
        child.kill()
        worker.send(signal.SIGCONT)
        wait_for(lambda n=number: fleet.journal.count("ran", key=key) == n + 1, what=f"{number}")  # type: ignore[misc]
    status = worker.stop()

    ran = fleet.journal.entries("ran", key=key)
    assert list(range(11)) == [entry["number"] for entry in ran]
    assert 11 == len({entry["pid"] for entry in ran})
    assert 0 == status


def test_an_autoscaled_pool_grows_under_load_and_uses_what_it_grew(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """The autoscaler counts reserved tasks, of which a worker that asks for few has few."""
    fleet.start(*QUEUES, "--autoscale", "4,1")
    for number in range(8):
        shop.wait.delay(key, str(gate), number)
    wait_for(lambda: fleet.journal.count("started", key=key) == 4, what="four at once")
    (stats,) = shop.app.control.inspect(timeout=30, limit=1).stats().values()
    running = fleet.journal.count("started", key=key)
    gate.touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 8, what="all tasks")

    assert (4, 4) == (running, len(stats["pool"]["processes"]))
