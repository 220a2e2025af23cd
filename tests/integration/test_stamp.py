"""What a message carries when it leaves the sender: our header, whole, and its expiry."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery
from celery.signals import before_task_publish

from celery_budget import install
from celery_budget.headers import HEADER, Stamp, read
from tests.servers import Broker

POLICY = {
    "bands": {"only": {"queues": ["only"]}},
    "tasks": {"brief": {"expires": "1h", "deadline": "5s"}},
}


@pytest.fixture
def app(broker: Broker) -> Celery:
    """Offer an app whose task `brief` expires after an hour."""
    app = Celery("app", broker=broker.url, set_as_current=False)
    install(app, policy=POLICY)
    return app


@pytest.fixture
def leaving() -> Iterator[list[dict[str, Any]]]:
    """Collect the headers that other receivers of the signal see."""
    seen: list[dict[str, Any]] = []

    def receive(headers: dict[str, Any], **_signal: object) -> None:
        seen.append(dict(headers))

    before_task_publish.connect(receive)
    yield seen
    before_task_publish.disconnect(receive)


def sent(app: Celery) -> tuple[Any, Any, Any]:
    """Take the message out of the queue: its headers, body and properties."""
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue("only", no_ack=True).get(timeout=2)
        return message.headers, message.payload, message.properties


def left_s(expires: str) -> float:
    """Tell how far away an expiry is."""
    return (datetime.fromisoformat(expires) - datetime.now(UTC)).total_seconds()


def test_other_receivers_of_the_signal_see_a_whole_header(
    app: Celery, leaving: list[dict[str, Any]]
) -> None:
    """Tracing and audit code copies headers at that moment, and knows JSON types only."""
    before = time.time()
    app.send_task("brief")

    (headers,) = leaving
    stamp = read(headers[HEADER])
    assert before <= stamp.at <= time.time()
    assert Stamp("only", deadline=stamp.at + 5, at=stamp.at) == stamp
    assert headers[HEADER] == sent(app)[0][HEADER]


@pytest.mark.parametrize("protocol", [1, 2])
def test_the_policys_expiry_becomes_celerys_own(protocol: int, app: Celery) -> None:
    """Stock workers must drop an expired task too; only Celery's own field tells them."""
    app.conf.task_protocol = protocol
    app.send_task("brief")

    headers, body, properties = sent(app)
    fields = headers if protocol == 2 else body
    assert 3_590 < left_s(fields["expires"]) <= 3_600
    assert [] == [name for name in {**headers, **properties} if "expires_s" in name]


@pytest.mark.parametrize("protocol", [1, 2])
def test_the_calls_expiry_wins_over_the_policys(protocol: int, app: Celery) -> None:
    """A call knows how long its own result is of use."""
    app.conf.task_protocol = protocol
    app.send_task("brief", expires=60)

    headers, body, _properties = sent(app)
    assert 50 < left_s((headers if protocol == 2 else body)["expires"]) <= 60


def test_a_task_without_an_expiry_gets_none(app: Celery) -> None:
    """Work must not disappear because another task expires."""
    app.send_task("other")

    assert sent(app)[0]["expires"] is None
