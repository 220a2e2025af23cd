"""What Celery offers to tasks works on a worker with bands as on one without."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import WaitFor
from tests.fleet import Fleet


@pytest.fixture(scope="module")
def shop(fleet: Fleet) -> ModuleType:
    """Publish from this process to a worker with two slots.

    The queue `plain` is of no band: with Celery's prefetch its messages reach the worker at
    once and are held there, where those of bands wait in the broker.
    """
    fleet.start("-Q", "critical,celery,important,optional,plain")
    return fleet.sender()


def fill(fleet: Fleet, shop: ModuleType, wait_for: WaitFor, gate: Any, slots: int = 2) -> None:
    """Keep every slot busy until the gate opens."""
    for number in range(slots):
        shop.wait.delay(f"fill {gate}", str(gate), number)
    wait_for(lambda: fleet.journal.count("started", key=f"fill {gate}") == slots, what="full slots")


def wait_until_held(shop: ModuleType, wait_for: WaitFor, task_id: str) -> None:
    """Return when the worker holds a task."""

    def is_held() -> bool:
        (answer,) = shop.app.control.inspect(timeout=30, limit=1)._request("budget").values()
        return task_id in [ticket["id"] for ticket in answer["held"]]

    wait_for(is_held, what="the ticket")


def test_a_countdown_starts_neither_early_nor_late(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """A task with an ETA waits outside of every window and must still find a slot in time."""
    sent = time.time()
    shop.note.apply_async((key, 1), countdown=1.0)
    shop.note.apply_async((key, 2), eta=datetime.now(UTC) + timedelta(seconds=1.0))
    wait_for(lambda: fleet.journal.count("ran", key=key) == 2, what="both tasks")

    delays = [ran["at"] - sent for ran in fleet.journal.entries("ran", key=key)]
    assert 1.0 <= min(delays)
    assert max(delays) < 2.5


def test_many_etas_do_not_close_the_window(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Unacknowledged ETA messages fill a prefetch window, and a band would starve behind them."""
    for number in range(50):
        shop.note.apply_async((f"{key} later", number), countdown=3600)
    shop.note.delay(key)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 1, what="the task behind the ETAs")

    assert 0 == fleet.journal.count("ran", key=f"{key} later")


def test_a_task_that_expires_in_the_broker_does_not_run(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """With windows closed most tasks wait there."""
    fill(fleet, shop, wait_for, gate)
    expiry = time.time() + 0.4
    shop.note.apply_async((key, 1), expires=0.3)
    shop.note.apply_async((key, 2))
    wait_for(lambda: time.time() > expiry, what="the expiry")
    gate.touch()
    wait_for(lambda: fleet.journal.count("ran", key=key) > 0, what="the task that stays valid")

    assert [2] == [ran["number"] for ran in fleet.journal.entries("ran", key=key)]


def test_a_task_that_expires_while_it_is_held_does_not_run(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """Celery looks at the expiry only when it submits, and so must we."""
    fill(fleet, shop, wait_for, gate)
    expiry = time.time() + 0.6
    expired = shop.note.apply_async((key,), expires=0.5, queue="plain")
    wait_until_held(shop, wait_for, expired.id)
    wait_for(lambda: time.time() > expiry, what="the expiry")
    gate.touch()

    assert ("REVOKED", "TaskRevokedError") == fleet.outcome(expired.id)
    assert 0 == fleet.journal.count("ran", key=key)


def test_a_rate_limit_holds(fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str) -> None:
    """Rate-limited tasks wait in Celery's own buckets before they reach a band."""
    for number in range(5):
        shop.limited.delay(key, number)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 5, what="five runs")

    times = [ran["at"] for ran in fleet.journal.entries("ran", key=key)]
    assert 0.9 <= times[-1] - times[0] < 3.0
    assert [0, 1, 2, 3, 4] == [ran["number"] for ran in fleet.journal.entries("ran", key=key)]


def test_a_rate_limit_does_not_block_other_tasks(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """A bucket of waiting messages must not close the band's window for other tasks."""
    for number in range(12):
        shop.limited.delay(f"{key} limited", number)
    shop.note.delay(key)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 1, what="the other task")

    assert fleet.journal.count("ran", key=f"{key} limited") < 12
    wait_for(lambda: fleet.journal.count("ran", key=f"{key} limited") == 12, what="the rest")


@pytest.mark.parametrize("queue", ["celery", "plain"])
@pytest.mark.parametrize("terminate", [False, True])
def test_a_task_revoked_before_its_start_never_runs(
    terminate: bool,
    queue: str,
    fleet: Fleet,
    shop: ModuleType,
    wait_for: WaitFor,
    key: str,
    gate: Path,
) -> None:
    """Whether it waits in the broker or is held: so an operator stops a mistake."""
    fill(fleet, shop, wait_for, gate)
    waiting = shop.note.apply_async((key,), queue=queue)
    if queue == "plain":
        wait_until_held(shop, wait_for, waiting.id)
    shop.app.control.revoke(waiting.id, terminate=terminate, reply=True, timeout=5, limit=1)
    gate.touch()

    assert ("REVOKED", "TaskRevokedError") == fleet.outcome(waiting.id)
    assert 0 == fleet.journal.count("ran", key=key)


def test_a_running_task_can_be_terminated_and_frees_its_slot(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """A slot that stayed counted as busy after a kill would be lost until the next restart."""
    running = [shop.wait.delay(key, str(gate), number) for number in range(2)]
    wait_for(lambda: fleet.journal.count("started", key=key) == 2, what="two running tasks")
    for result in running:
        shop.app.control.revoke(result.id, terminate=True, reply=True, timeout=5, limit=1)

    assert [("REVOKED", "TaskRevokedError")] * 2 == [fleet.outcome(result.id) for result in running]
    assert ("SUCCESS", 7) == fleet.outcome(shop.note.delay(key, 7).id)
    assert 0 == fleet.journal.count("ended", key=key)
    gate.touch()


def test_a_soft_time_limit_reaches_the_task(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """The pool counts a task's limits from its start, which is later than its arrival."""
    shop.endure.apply_async((key,), soft_time_limit=0.5)
    wait_for(lambda: fleet.journal.count("soft_limit", key=key) == 1, what="the soft limit")

    started = fleet.journal.entries("started", key=key)[0]
    limited = fleet.journal.entries("soft_limit", key=key)[0]
    assert 0.4 <= limited["at"] - started["at"] < 2.5


def test_a_hard_time_limit_ends_the_task_and_frees_its_slot(
    fleet: Fleet, shop: ModuleType, key: str
) -> None:
    """The child is killed; the slot it had must count as free again."""
    ended = [shop.endure.apply_async((key,), time_limit=0.5) for _ in range(2)]

    assert [("FAILURE", "TimeLimitExceeded")] * 2 == [fleet.outcome(result.id) for result in ended]
    assert ("SUCCESS", 7) == fleet.outcome(shop.note.delay(key, 7).id)


def test_a_killed_child_fails_its_task_and_frees_its_slot(
    fleet: Fleet, shop: ModuleType, key: str
) -> None:
    """The out-of-memory killer sends SIGKILL."""
    lost = [shop.die.delay(key) for _ in range(2)]

    assert [("FAILURE", "WorkerLostError")] * 2 == [fleet.outcome(result.id) for result in lost]
    assert ("SUCCESS", 7) == fleet.outcome(shop.note.delay(key, 7).id)


def test_reject_on_worker_lost_runs_the_task_again(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Such a task goes back to its queue and comes again, with its Terms."""
    marker = fleet.gate()
    result = shop.die_once.apply_async((key, str(marker)), band="optional", tenant="acme")
    outcome = fleet.outcome(result.id)

    ran = fleet.journal.entries("ran", key=key)
    fields = ("id", "band", "tenant", "queue")
    assert ("SUCCESS", None) == outcome
    assert [(result.id, "optional", "acme", "optional")] * 2 == [
        tuple(entry[field] for field in fields) for entry in ran
    ]


def test_late_acknowledgement_keeps_the_message_until_the_end(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """`acks_late` messages of running tasks must not close the window of their band."""
    running = shop.wait_late.delay(key, str(gate))
    wait_for(lambda: fleet.journal.count("started", key=key) == 1, what="the late task")
    others = [shop.note.delay(key, number).id for number in range(20)]
    outcomes = [fleet.outcome(other) for other in others]
    gate.touch()

    assert [("SUCCESS", number) for number in range(20)] == outcomes
    assert ("SUCCESS", None) == fleet.outcome(running.id)


def test_a_failing_chord_fails_its_body(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """The body's failure is stored by the child that ran the failing part."""
    shop.spawn.delay(key, "failing chord")
    wait_for(lambda: fleet.journal.count("chord", key=key) == 1, what="the chord")
    (chord,) = fleet.journal.entries("chord", key=key)

    assert ("FAILURE", "ChordError") == fleet.outcome(chord["id"])
    assert 0 == fleet.journal.count("total", key=key)
