"""Remote control and events see a worker with bands as they see any other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery.worker import state
from kombu import Queue

from tests.conftest import WaitFor
from tests.fleet import Fleet

SLOTS = 2


@pytest.fixture(scope="module")
def shop(fleet: Fleet) -> ModuleType:
    """Publish from this process to a worker with two slots; `plain` is a queue of no band."""
    fleet.start("-Q", "critical,celery,plain", "-E", concurrency=SLOTS)
    return fleet.sender()


def ask(shop: ModuleType, command: str, *args: Any) -> Any:
    """Give the one worker's answer to an inspect command."""
    (answer,) = getattr(shop.app.control.inspect(timeout=30, limit=1), command)(*args).values()
    return answer


def tell(shop: ModuleType, command: str, *args: Any, **options: Any) -> Any:
    """Give the one worker's answer to a control command."""
    answers = getattr(shop.app.control, command)(*args, reply=True, timeout=5, limit=1, **options)
    (answer,) = answers[0].values()
    return answer


def ids(requests: list[dict[str, Any]]) -> list[str]:
    """List the ids of what an inspect command lists."""
    return [found.get("request", found)["id"] for found in requests]


def test_active_reserved_scheduled_and_query_task_find_what_a_worker_has(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """Flower and most runbooks look here, and know nothing of bands."""
    later = shop.note.apply_async((key,), countdown=3600).id
    running = [shop.wait.delay(key, str(gate), number).id for number in range(SLOTS)]
    wait_for(lambda: fleet.journal.count("started", key=key) == SLOTS, what="full slots")
    held = shop.note.apply_async((key,), queue="plain").id
    wait_for(lambda: held in ids(ask(shop, "reserved")), what="the reserved task")
    wait_for(lambda: later in ids(ask(shop, "scheduled")), what="the scheduled task")
    active = ids(ask(shop, "active"))
    found = ask(shop, "query_task", [running[0], held, later, "unknown"])
    gate.touch()

    assert sorted(running) == sorted(active)
    # Celery 5.6 does not find what waits for its ETA.
    scheduled = {later: "scheduled"} if hasattr(state, "scheduled_requests") else {}
    assert {running[0]: "active", held: "reserved", **scheduled} == {
        task_id: found_as for task_id, (found_as, _request) in found.items()
    }
    shop.app.control.revoke(later)


def cancel(shop: ModuleType, wait_for: WaitFor, queue: str) -> None:
    """Let the one worker consume from a queue no longer, and return when it does not.

    Celery answers before it does it, and while it does it: it waits for the broker meanwhile.
    """
    tell(shop, "cancel_consumer", queue)
    wait_for(
        lambda: queue not in {found["name"] for found in ask(shop, "active_queues")},
        what="the end of the consumer",
    )


@pytest.mark.parametrize(("queue", "band"), [("optional", "optional"), ("extra", "important")])
def test_a_queue_can_be_added_and_cancelled_at_run_time(
    queue: str, band: str, fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Operators drain a queue, or help out with one, without a restart; it may be a band's."""
    shop.app.amqp.queues.select_add(Queue(queue))
    before = {found["name"] for found in ask(shop, "active_queues")}
    tell(shop, "add_consumer", queue)
    shop.note.apply_async((key, 1), queue=queue)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 1, what="the task")
    during = {found["name"] for found in ask(shop, "active_queues")}
    cancel(shop, wait_for, queue)
    after = {found["name"] for found in ask(shop, "active_queues")}
    shop.note.apply_async((key, 2), queue=queue)
    others = [shop.note.delay(f"{key} other", number).id for number in range(5)]
    outcomes = [fleet.outcome(other) for other in others]
    ran_while_cancelled = [ran["number"] for ran in fleet.journal.entries("ran", key=key)]
    tell(shop, "add_consumer", queue)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 2, what="the task that waited")
    cancel(shop, wait_for, queue)

    assert before | {queue} == during
    assert before == after
    assert [("SUCCESS", number) for number in range(5)] == outcomes
    assert [1] == ran_while_cancelled
    assert {(queue, band)} == {
        (ran["queue"], ran["band"]) for ran in fleet.journal.entries("ran", key=key)
    }


def test_one_of_two_queues_of_a_band_can_be_cancelled(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Both share a channel and a window, which must go on for the other one."""
    tell(shop, "add_consumer", "important")
    shop.note.apply_async((key, 1), queue="important")
    wait_for(lambda: fleet.journal.count("ran", key=key) == 1, what="a task of the second queue")
    tell(shop, "cancel_consumer", "important")
    for number in range(2, 6):
        shop.note.apply_async((key, number), queue="celery")
    wait_for(lambda: fleet.journal.count("ran", key=key) == 5, what="tasks of the first queue")

    assert "important" not in {found["name"] for found in ask(shop, "active_queues")}


def test_a_grown_pool_starts_more_at_once_and_a_shrunk_one_less(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, gate: Path
) -> None:
    """Nothing else happens while all slots are busy: the growth itself must start what waits."""
    for number in range(4):
        shop.wait.delay(key, str(gate), number)
    wait_for(lambda: fleet.journal.count("started", key=key) == SLOTS, what="full slots")
    tell(shop, "pool_grow", 2)
    wait_for(lambda: fleet.journal.count("started", key=key) == 4, what="the grown slots")
    gate.touch()
    # Only children that the worker knows to be idle can be taken away.
    wait_for(lambda: not ids(ask(shop, "active")), what="the end of all")
    tell(shop, "pool_shrink", 2)
    second = fleet.gate()
    for number in range(4):
        shop.wait.delay(f"{key} second", str(second), number)
    wait_for(
        lambda: fleet.journal.count("started", key=f"{key} second") == SLOTS, what="full slots"
    )
    slots = ask(shop, "stats")["pool"]["max-concurrency"]
    started = fleet.journal.count("started", key=f"{key} second")
    second.touch()
    wait_for(lambda: fleet.journal.count("ended", key=f"{key} second") == 4, what="the end of all")

    assert (SLOTS, SLOTS) == (slots, started)


def test_a_receiver_sees_a_task_s_life_in_order(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Flower builds its whole picture from these events."""
    with events(shop) as seen:
        task_id = shop.note.delay(key).id
        wait_for(lambda: ("task-succeeded", task_id) in seen, what="the event of the end")

    assert ["task-received", "task-started", "task-succeeded"] == [
        kind for kind, uuid in seen if uuid == task_id
    ]


@contextmanager
def events(shop: ModuleType) -> Iterator[list[tuple[str, str]]]:
    """Collect the task events of a while: kind and task id.

    Over Redis a receiver has subscribed only after its first poll, so it counts as ready when a
    worker's heartbeat has come.
    """
    seen: list[tuple[str, str]] = []
    ready, done = threading.Event(), threading.Event()

    def remember(event: dict[str, Any]) -> None:
        seen.append((event["type"], event.get("uuid", "")))
        ready.set()

    def receive() -> None:
        with shop.app.connection_for_read() as connection:
            receiver = shop.app.events.Receiver(connection, handlers={"*": remember})
            with receiver.consumer_context() as (own_connection, _channel, _consumers):
                while not done.is_set():
                    try:
                        own_connection.drain_events(timeout=0.1)
                    except TimeoutError:
                        continue

    thread = threading.Thread(target=receive)
    thread.start()
    assert ready.wait(10)
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def test_a_changed_rate_limit_holds_at_once(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """`rate_limit` rebuilds Celery's buckets while messages wait in them."""
    tell(shop, "rate_limit", shop.note.name, "5/s")
    for number in range(4):
        shop.note.delay(key, number)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 4, what="the limited tasks")
    tell(shop, "rate_limit", shop.note.name, "0")
    shop.note.delay(f"{key} free")
    wait_for(lambda: fleet.journal.count("ran", key=f"{key} free") == 1, what="the free task")

    times = [ran["at"] for ran in fleet.journal.entries("ran", key=key)]
    assert 0.5 <= times[-1] - times[0]
