"""Celery's settings for workers keep their meaning beside the bands' windows."""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import WaitFor
from tests.fleet import Fleet


def scheduled(shop: ModuleType) -> list[dict[str, Any]]:
    """List what the one worker keeps for later."""
    (found,) = shop.app.control.inspect(timeout=30, limit=1).scheduled().values()
    return found


def test_the_limit_of_eta_tasks_bounds_what_a_worker_takes(
    alone: Fleet, wait_for: WaitFor, key: str
) -> None:
    """`worker_eta_task_limit` protects the worker's memory from a flood of countdowns."""
    alone.start("-Q", "important", settings={"worker_eta_task_limit": 10})
    shop = alone.sender()
    # After short tasks more is asked for than the limit allows: they come with a look-ahead.
    for number in range(200):
        shop.note.apply_async((key, number), queue="important")
    wait_for(lambda: alone.journal.count("ran", key=key) == 200, what="short tasks")
    for number in range(60):
        shop.note.apply_async((f"{key} later", number), countdown=3600, queue="important")
    wait_for(lambda: len(scheduled(shop)) >= 10, what="the limit")
    wait_for(lambda: len(scheduled(shop)) + alone.length("important") == 60, what="the rest")
    taken = len(scheduled(shop))

    # What is on its way when a window is narrowed still comes: one message over Redis, over
    # RabbitMQ at most half of what was asked for.
    assert 10 <= taken <= 15


def test_tasks_run_below_the_limit_of_eta_tasks(alone: Fleet, key: str) -> None:
    """Nine of ten parked messages must leave the tenth place usable for ever."""
    alone.start("-Q", "celery", settings={"worker_eta_task_limit": 10})
    shop = alone.sender()
    for number in range(9):
        shop.note.apply_async((f"{key} later", number), countdown=3600)
    outcomes = [alone.outcome(shop.note.delay(key, number).id) for number in range(30)]

    assert [("SUCCESS", number) for number in range(30)] == outcomes


@pytest.mark.parametrize("alone", ["redis"], indirect=True)
def test_prefetch_can_be_disabled_beside_the_windows(
    alone: Fleet, wait_for: WaitFor, key: str
) -> None:
    """`worker_disable_prefetch` uses the same handle; a queue of no band must still obey it."""
    alone.start("-Q", "celery,critical,plain", settings={"worker_disable_prefetch": True})
    shop = alone.sender()
    gate = alone.gate()
    for number in range(2):
        shop.wait.delay(key, str(gate), number)
    wait_for(lambda: alone.journal.count("started", key=key) == 2, what="full slots")
    for number in range(10):
        shop.note.apply_async((key, number), queue="plain")
        shop.note.apply_async((key, number), queue="critical")
    gate.touch()
    lengths = [alone.length(queue) for queue in ("plain", "critical")]
    wait_for(lambda: alone.journal.count("ran", key=key) == 20, what="all of them")

    # A fetch that is under way when the last slot fills brings one more.
    assert 9 <= min(lengths)


@pytest.mark.parametrize(
    "settings",
    [
        {"task_acks_late": True},
        {"task_acks_late": True, "worker_prefetch_multiplier": 1},
        {"worker_prefetch_multiplier": 0},
        {"worker_disable_rate_limits": True},
        {"task_track_started": True, "worker_send_task_events": True},
        {"worker_direct": True},
    ],
    ids="+".join,
)
def test_a_flow_of_tasks_runs_once_each_under_common_settings(
    settings: dict[str, Any], alone: Fleet, wait_for: WaitFor, key: str
) -> None:
    """Each of these changes acknowledgement, prefetch or the request class."""
    alone.start(settings=settings)
    shop = alone.sender(settings=settings)
    for number in range(60):
        band = ("critical", "important", "optional")[number % 3]
        shop.note.apply_async((key, number), band=band)
    wait_for(lambda: alone.journal.count("ran", key=key) >= 60, what="all tasks")

    assert list(range(60)) == sorted(ran["number"] for ran in alone.journal.entries("ran", key=key))


def test_late_acknowledging_tasks_fill_all_slots_and_no_more(
    alone: Fleet, wait_for: WaitFor, key: str
) -> None:
    """Their messages stay unacknowledged while they run, beside those of the next."""
    alone.start(concurrency=2)
    shop = alone.sender()
    gate = alone.gate()
    for number in range(6):
        shop.wait_late.delay(key, str(gate), number)
    wait_for(lambda: alone.journal.count("started", key=key) == 2, what="full slots")
    critical = shop.charge.delay(f"{key} critical")
    in_broker = alone.length("celery") >= 4 - 2
    gate.touch()
    wait_for(lambda: alone.journal.count("ended", key=key) == 6, what="all tasks")

    assert in_broker
    assert ("SUCCESS", None) == alone.outcome(critical.id)
    assert list(range(6)) == sorted(
        entry["number"] for entry in alone.journal.entries("started", key=key)
    )


@pytest.mark.parametrize("alone", ["quorum"], indirect=True)
def test_late_acknowledgement_works_on_quorum_queues(
    alone: Fleet, wait_for: WaitFor, key: str
) -> None:
    """They have no global prefetch count, so each consumer's own one must not fill up."""
    alone.start(settings={"task_acks_late": True})
    shop = alone.sender()
    for number in range(60):
        band = ("critical", "important", "optional")[number % 3]
        shop.note.apply_async((key, number), band=band)
    wait_for(lambda: alone.journal.count("ran", key=key) >= 60, what="all tasks")

    assert list(range(60)) == sorted(ran["number"] for ran in alone.journal.entries("ran", key=key))


def test_an_idle_worker_costs_next_to_nothing(alone: Fleet, wait_for: WaitFor, key: str) -> None:
    """Windows that polled would burn a core on every idle worker of a fleet."""
    worker = alone.start()
    shop = alone.sender()
    shop.note.delay(key)
    wait_for(lambda: alone.journal.count("ran", key=key) == 1, what="the first task")
    before, begin = cpu_s(worker.pid), time.monotonic()
    wait_for(lambda: time.monotonic() > begin + 2.0, what="two idle seconds")
    used = cpu_s(worker.pid) - before

    assert used < 0.1


def cpu_s(pid: int) -> float:
    """Tell how much processor time a process has used."""
    import psutil

    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


@pytest.mark.parametrize("alone", ["quorum"], indirect=True)
def test_a_countdown_on_quorum_queues_keeps_its_band(
    alone: Fleet, wait_for: WaitFor, key: str
) -> None:
    """Celery then lets RabbitMQ wait, in exchanges and queues of its own, and not the worker."""
    alone.start()
    shop = alone.sender()
    sent = time.time()
    shop.note.apply_async((key,), countdown=1.0, band="optional", tenant="acme")
    wait_for(lambda: alone.journal.count("ran", key=key) == 1, what="the task")

    ran = alone.journal.entries("ran", key=key)[0]
    assert ("optional", "acme") == (ran["band"], ran["tenant"])
    assert 1.0 <= ran["at"] - sent < 4.0
    assert 0 == alone.length("celery_delayed_0")
