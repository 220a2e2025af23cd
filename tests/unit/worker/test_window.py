"""Windows over AMQP: which queues are consumed, with which prefetch count, and until when."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from types import SimpleNamespace
from typing import Any

from amqp import spec

from celery_budget.core.turns import Turns
from celery_budget.worker.window import MORE_S, AmqpWindow


class Broker:
    """What a window does to kombu's consumer and py-amqp's channel, and what it asks."""

    def __init__(self, queues: list[str]) -> None:
        self.demand = 0, 0, 0
        self.limit = 0
        self.open: dict[str, int] = {}
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.queues = [SimpleNamespace(name=name) for name in queues]
        self._active_tags: dict[str, str] = {}
        self._tags = 0
        self.channel = self
        self.window = AmqpWindow("a", self, self.ask, self.later)  # type: ignore[arg-type]

    def ask(self, _band: str) -> tuple[int, int, int]:
        return self.demand

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self.due.append((seconds, call))

    def send_method(self, method: tuple[int, int], _format: str, arguments: Any) -> None:
        if method == spec.Basic.Qos:
            self.limit = arguments[1]
        else:
            assert method == spec.Basic.Cancel
            self.open.pop(arguments[0].partition("#")[0])

    def basic_qos(self, _size: int, count: int, _is_global: bool) -> None:
        self.limit = count

    def _basic_consume(self, queue: Any, nowait: bool) -> str:
        assert nowait
        self._tags += 1
        self._active_tags[queue.name] = f"{queue.name}#{self._tags}"
        self.open[queue.name] = self.limit
        return self._active_tags[queue.name]

    def cancel_by_queue(self, queue: str) -> None:
        assert queue not in self._active_tags
        self.queues = [known for known in self.queues if known.name != queue]

    def want(self, wanted: int, held: int = 0, ahead: int = 0) -> None:
        """Let the demand change."""
        self.demand = wanted, ahead, held
        self.window.adjust()

    def bring(self, queue: str) -> None:
        """Let a message arrive; its task starts and is acknowledged."""
        tag = self._active_tags.get(queue, f"{queue}#{self._tags}")
        message: Any = SimpleNamespace(delivery_info={"consumer_tag": tag}, delivery_tag=1)
        assert self.window.arrived(message) in (queue, "")

    def wait(self) -> None:
        """Let the time pass after which more queues are asked."""
        due, self.due = self.due, []
        for seconds, call in due:
            assert seconds >= MORE_S
            assert self.window._more_at is None or self.window._more_at > 0
            if self.window._more_at is not None:
                self.window._more_at = 0.0
            call()


def lanes(count: int = 4) -> Broker:
    """Open a window over lanes."""
    broker = Broker([f"q{number}" for number in range(count)])
    broker.window.take_turns(Turns())
    broker.window.open()
    return broker


def test_queues_without_lanes_all_have_what_is_wanted() -> None:
    """As before there were lanes."""
    broker = Broker(["a", "b"])
    broker.window.open()
    broker.want(3)
    opened = dict(broker.open)
    broker.want(0, held=3)

    assert {"a": 3, "b": 3} == opened
    assert {} == broker.open


def test_only_as_many_lanes_are_opened_as_messages_are_wanted() -> None:
    """Each may bring one, and what cannot start must stay in the broker."""
    broker = lanes()
    broker.want(2)

    assert {"q0": 1, "q1": 1} == broker.open


def test_more_lanes_are_opened_while_nothing_comes() -> None:
    """Nobody knows in which of them something waits."""
    broker = lanes(8)
    broker.want(1)
    opened = [len(broker.open)]
    for _ in range(3):
        broker.wait()
        opened.append(len(broker.open))

    assert [1, 2, 4, 8] == opened
    assert [] == broker.due


def test_lanes_that_brought_nothing_are_opened_beside_one_that_did() -> None:
    """They bring nothing now either, mostly; and if they do, it is somebody's who waits less."""
    broker = lanes()
    broker.want(1)
    for _ in range(2):
        broker.wait()
    broker.bring("q3")
    broker.want(0, held=1)
    closed = dict(broker.open)
    broker.want(1)

    assert {} == closed
    assert {"q0", "q1", "q2", "q3"} == set(broker.open)


def test_of_lanes_that_bring_something_the_one_whose_turn_it_is_is_opened() -> None:
    """The others would bring what cannot start."""
    broker = lanes(2)
    turns: Any = broker.window._turns
    for queue, tenant in (("q0", "elephant"), ("q1", "mouse")):
        broker.want(2)
        broker.bring(queue)
        turns.used(tenant, 100.0 if tenant == "elephant" else 0.1, monotonic(), queue)
    broker.want(0, held=1)
    broker.want(1)

    assert {"q1"} == set(broker.open)


def test_a_lane_whose_messages_all_run_unacknowledged_is_opened_again() -> None:
    """With late acknowledgement they fill its count until they end."""
    broker = lanes(1)
    broker.want(2)
    tag = broker._active_tags["q0"]
    message: Any = SimpleNamespace(delivery_info={"consumer_tag": tag}, delivery_tag=1)
    broker.window.arrived(message)
    broker.window.arrived(message)
    broker.window.kept(message)
    broker.window.kept(message)
    broker.want(1)

    assert tag != broker._active_tags["q0"]
    assert {"q0": 1} == broker.open


def test_a_lane_that_is_left_is_opened_no_more() -> None:
    """It is empty, and another policy's."""
    broker = lanes(2)
    broker.want(2)
    broker.window.leave("q1")
    broker.want(0)
    broker.want(2)

    assert {"q0": 2} == broker.open


def test_a_closed_window_stays_closed() -> None:
    """A timer may be on its way."""
    broker = lanes()
    broker.want(1)
    broker.window._consumer = SimpleNamespace(  # type: ignore[assignment]
        channel=broker, cancel=broker.open.clear, queues=broker.queues
    )
    broker.window.close()
    broker.wait()

    assert {} == broker.open
