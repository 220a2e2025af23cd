"""Messages of tasks that left go back to their queues, whole, whatever happens to connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import Celery
from celery.worker.request import Request
from kombu import Connection, Queue
from kombu.message import Message

from celery_budget import install
from celery_budget.policy.load import load
from celery_budget.worker.intake import Held, Intake
from celery_budget.worker.returns import MOST_RETURNS, Returns
from tests.conftest import WaitFor
from tests.proxy import Proxy
from tests.servers import Broker

POLICY: dict[str, Any] = {"bands": {"only": {"queues": ["work"]}}}


class Line:
    """A queue, what is published to it, and what a worker would have fetched from it."""

    def __init__(self, broker: Broker, arguments: dict[str, object] | None = None) -> None:
        self.app = Celery("returns", broker=broker.url, set_as_current=False)
        install(self.app, policy=POLICY)
        self.app.conf.task_queues = [Queue("work", queue_arguments=arguments)]
        self.app.conf.task_default_queue = "work"
        self.task = self.app.task(self.work, name="returns.work", shared=False)
        self.connection = Connection(broker.url)
        self.queue = self.app.amqp.queues["work"](self.connection.default_channel)
        self.queue.declare()
        self._intake = Intake(load(POLICY))

    @staticmethod
    def work(number: int) -> None:
        """Never run."""

    def publish(self, *numbers: int, **options: object) -> None:
        """Publish tasks."""
        for number in numbers:
            self.task.apply_async((number,), **options)

    def fetch(self, wait_for: WaitFor) -> Held:
        """Take the next message, as a worker does."""
        found: list[Message] = []

        def has_one() -> bool:
            message = self.queue.get()
            found.extend([] if message is None else [message])
            return bool(found)

        wait_for(has_one, what="a message")
        message = found[0]
        request = Request(
            message,
            app=self.app,
            task=self.task,
            body=message.payload,
            headers=message.headers,
            decoded=True,
            on_ack=lambda *_: message.ack(),
            hostname="returns@here",
            connection_errors=self.connection.connection_errors,
        )
        return self._intake.ticket(request, None, "work")

    def returns(self) -> Returns:
        """Make the way back of a worker."""
        errors = self.connection.connection_errors + self.connection.channel_errors
        made = Returns(errors)
        made.open(self.connection.default_channel)
        return made

    def close(self) -> None:
        """End all connections."""
        self.connection.release()
        self.app.close()


@pytest.fixture
def line(broker: Broker) -> Iterator[Line]:
    """Use a queue of either broker."""
    with closing(Line(broker)) as line:
        yield line


def number(held: Held) -> int:
    """Tell which task it is."""
    args: tuple[int] = held.request.args
    return args[0]


@pytest.mark.parametrize("is_late", [False, True])
def test_a_message_comes_again_as_it_was(is_late: bool, line: Line, wait_for: WaitFor) -> None:
    """Its priority and its headers too; and once."""
    line.publish(7, priority=3, compression="gzip", headers={"x-team": "blue"})
    first = line.fetch(wait_for)
    if not is_late:
        first.request.acknowledge()
    line.returns().give_back(first)
    again = line.fetch(wait_for)

    assert (7, first.id) == (number(again), again.id)
    assert 3 == again.request.message.properties["priority"]
    assert "blue" == again.request.request_dict["x-team"]
    again.request.acknowledge()
    assert line.queue.get() is None


@pytest.mark.parametrize("is_late", [False, True])
def test_it_goes_before_what_has_not_begun(
    is_late: bool, line: Line, wait_for: WaitFor, broker: Broker
) -> None:
    """Except to an AMQP broker that was told it is done."""
    line.publish(1, 2, 3)
    first = line.fetch(wait_for)
    if not is_late:
        first.request.acknowledge()
    line.returns().give_back(first)
    order = [number(line.fetch(wait_for)) for _ in range(3)]

    assert ([2, 3, 1] if broker.kind == "rabbitmq" and not is_late else [1, 2, 3]) == order


@pytest.mark.parametrize("is_late", [False, True])
def test_what_has_begun_does_not_expire_any_more(
    is_late: bool, line: Line, wait_for: WaitFor
) -> None:
    """It may wait for longer than its sender would have waited for its start."""
    line.publish(1, expires=60)
    first = line.fetch(wait_for)
    if not is_late:
        first.request.acknowledge()
    line.returns().give_back(first)
    again = line.fetch(wait_for)

    assert first.request.expires is not None
    assert again.request.expires is None
    again.request.acknowledge()
    assert line.queue.get() is None


def test_a_quorum_queue_does_not_lose_what_was_returned_often(
    rabbitmq_broker: Broker, wait_for: WaitFor
) -> None:
    """It drops a message after so many returns."""
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": MOST_RETURNS + 1}
    with closing(Line(rabbitmq_broker, arguments)) as line:
        line.publish(1)
        returns = line.returns()
        for _ in range(3 * MOST_RETURNS):
            returns.give_back(line.fetch(wait_for))
        last = line.fetch(wait_for)
        last.request.acknowledge()

        assert 1 == number(last)
        assert line.queue.get() is None


def break_connection(returns: Returns, broker: Broker) -> None:
    """Let the way back be over a connection that is gone, to a broker that is not there."""
    port = urlsplit(broker.url).port
    assert port is not None
    with Proxy(port) as proxy:
        gone = Connection(broker.url.replace(f":{port}/", f":{proxy.port}/"))
        returns.open(gone.default_channel)
    gone.release()


def test_what_a_broken_connection_keeps_is_sent_over_the_next_one(
    line: Line, broker: Broker, wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else has the message of a task that was acknowledged early."""
    line.publish(1)
    held = line.fetch(wait_for)
    held.request.acknowledge()
    returns = line.returns()
    break_connection(returns, broker)
    returns.give_back(held)
    assert line.queue.get() is None
    assert "waits for the broker to be back" in caplog.text

    returns.open(line.connection.default_channel)
    assert 1 == number(line.fetch(wait_for))


def test_what_could_not_be_put_back_is_named_at_the_end(
    line: Line, broker: Broker, wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has to publish it again."""
    line.publish(1)
    held = line.fetch(wait_for)
    held.request.acknowledge()
    returns = line.returns()
    break_connection(returns, broker)
    returns.give_back(held)
    returns.close()

    assert f"Task returns.work[{held.id}] left for a more urgent one" in caplog.text
