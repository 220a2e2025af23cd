"""Whatever a message says about itself: the task runs, the sender's mistake is named, once."""

from __future__ import annotations

import json
import uuid
from types import ModuleType
from typing import Any

import pytest
from kombu import Connection, Queue

from tests.conftest import WaitFor
from tests.fleet import Fleet
from tests.worker import Worker

NESTED: Any = []
for _ in range(200):
    NESTED = [NESTED]


def text(**fields: Any) -> str:
    """Write a header of version 1 for the band critical, and change it."""
    return json.dumps({"v": 1, "band": "critical"} | fields)


HEADERS = {
    "list": [1, 2, 3],
    "number": 7,
    "true": True,
    "bytes": b"\xff\xfe",
    "table": {"v": 1, "band": "critical"},
    "nested table": {"v": 1, "band": "critical", "tenant": NESTED},
    "no JSON": "critical",
    "no text": "",
    "no object": "[1,2,3]",
    "half an object": text()[:-1],
    "empty": "{}",
    "unknown band": text(band="urgent", at=1.0),
    "no name": text(band="../../etc/passwd"),
    "newer version": text(v=99),
    "version as text": text(v="1"),
    "infinite deadline": text(deadline=float("inf")),
    "deadline that is no number": text(deadline=float("nan")),
    "deadline as text": text(deadline="inf"),
    "late deadline": text(deadline=1e300),
    "later deadline": text(deadline=10**400),
    "negative deadline": text(deadline=-5),
    "tenant of numbers": text(tenant=[1]),
    "tenant of a surrogate": text(tenant="\ud800"),
    "raw surrogate": text().replace("critical", "\ud800"),
    "long tenant": text(tenant="x" * 1_000),
    "large": text(note="x" * 100_000),
    "many keys": text(**{f"k{number}": 1 for number in range(2_000)}),
    "nested": text(tenant=NESTED),
    "nested bomb": "[" * 8_000,
    "negative move": text(move=-1),
}


@pytest.fixture(scope="module")
def worker(fleet: Fleet) -> Worker:
    """Start a worker that meets only bad senders."""
    return fleet.start()


@pytest.fixture(scope="module")
def shop(fleet: Fleet) -> ModuleType:
    """Publish from this process."""
    return fleet.sender()


def publish(
    fleet: Fleet, task: str, args: list[Any], header: object, queue: str = "celery"
) -> None:
    """Publish as a sender that writes what it likes into our header."""
    task_id = str(uuid.uuid4())
    headers = {"task": task, "id": task_id, "lang": "py", "budget": header, "origin": "bad@sender"}
    with Connection(fleet.broker.url) as connection, connection.Producer() as producer:
        producer.publish(
            [args, {}, {}],
            routing_key=queue,
            declare=[Queue(queue, routing_key=queue)],
            headers=headers,
            correlation_id=task_id,
            serializer="json",
        )


@pytest.mark.parametrize("mistake", HEADERS)
def test_a_malformed_header_gives_the_default_terms_and_one_warning(
    mistake: str,
    fleet: Fleet,
    worker: Worker,
    shop: ModuleType,
    wait_for: WaitFor,
    key: str,
) -> None:
    """A sender's bug must neither lose its task nor raise its priority nor flood the log."""
    before = worker.log.count("runs with default terms")
    for number in range(2):
        publish(fleet, shop.note.name, [key, number], HEADERS[mistake])
    wait_for(lambda: fleet.journal.count("ran", key=key) == 2, what="both tasks")

    told = [line for line in worker.log.splitlines() if "runs with default terms" in line]
    ran = fleet.journal.entries("ran", key=key)
    assert {("important", None, None)} == {
        (entry["band"], entry["tenant"], entry["deadline"]) for entry in ran
    }
    assert len(told) <= before + 1
    assert all("bad@sender" in line and len(line) < 1_000 for line in told)


# An AMQP header must fit into a frame (128 KiB), and Erlang has no such floats.
@pytest.mark.parametrize("fleet", ["redis"], indirect=True, scope="module")
@pytest.mark.parametrize(
    "header",
    [float("nan"), float("inf"), {"deadline": float("-inf")}, text(note="x" * 1_000_000)],
    ids=["nan", "inf", "table of -inf", "megabyte"],
)
def test_what_only_redis_can_carry_does_no_harm_either(
    header: object,
    fleet: Fleet,
    worker: Worker,
    shop: ModuleType,
    wait_for: WaitFor,
    key: str,
) -> None:
    """Python's JSON writes and reads NaN and Infinity, and a list of Redis takes 512 MB."""
    publish(fleet, shop.charge.name, [key], header)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 1, what="the task")

    ran = fleet.journal.entries("ran", key=key)[0]
    assert ("critical", None) == (ran["band"], ran["deadline"])


def test_each_kind_of_mistake_is_told_once(
    fleet: Fleet, worker: Worker, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """An operator who reads the log finds the mistake, the task and the sender in one line."""
    for number in range(20):
        publish(fleet, shop.told.name, [key], text(band=f"band{number % 2}"))
    wait_for(lambda: worker.log.count("tests.apps.shop.told") >= 20, what="the tasks")
    lines = [
        line
        for line in worker.log.splitlines()
        if "Task tests.apps.shop.told[" in line and "runs with default terms" in line
    ]

    assert 2 == len(lines)
    assert all("'band0'" in line or "'band1'" in line for line in lines)
    assert all("critical, important, optional" in line for line in lines)


def test_unknown_tasks_and_undecodable_messages_are_dealt_with_as_by_stock_celery(
    fleet: Fleet, worker: Worker, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """They are logged and discarded, and the band's window must not count them for ever."""
    for _ in range(5):
        publish(fleet, "shop.no_such_task", [key], text(), queue="critical")
        publish_raw(fleet, b"\x80 no json", queue="critical")
        publish_raw(fleet, b'{"no": "task"}', queue="critical")
    shop.charge.delay(key)
    wait_for(lambda: fleet.journal.count("ran", key=key) == 1, what="the task behind them")
    wait_for(lambda: fleet.length("critical") == 0, what="an empty queue")

    assert "shop.no_such_task" in worker.log
    assert worker.exit_status is None


def publish_raw(fleet: Fleet, body: bytes, queue: str) -> None:
    """Publish bytes that claim to be a JSON message."""
    with Connection(fleet.broker.url) as connection, connection.Producer() as producer:
        producer.publish(
            body,
            routing_key=queue,
            content_type="application/json",
            content_encoding="utf-8",
        )
