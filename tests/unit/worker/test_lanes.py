"""Which lanes a worker consumes from, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Consumer, Queue

from celery_budget import install
from celery_budget.policy.load import load
from celery_budget.worker import lanes as module
from celery_budget.worker.channels import Channels
from celery_budget.worker.lanes import Lanes, Look


def table(lanes: int) -> dict[str, Any]:
    """Write a policy with so many lanes."""
    return {"default_band": "a", "bands": {"a": {"queues": ["a", "b"], "lanes": lanes}, "c": {}}}


class Always:
    """A window that lets everything in."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def open(self) -> None:
        self._consumer.consume()

    def leave(self, queue: str) -> None:
        self._consumer.cancel_by_queue(queue)

    def close(self) -> None:
        """Nothing is on its way."""

    adjust = close

    def take_turns(self, turns: object) -> None:
        self.turns = turns


class Worker:
    """A worker's consumers on a broker in memory."""

    def __init__(self, connection: Connection, *queues: str) -> None:
        self.policy = load(table(2))
        app = Celery("lanes", broker="memory://", set_as_current=False)
        install(app, policy=table(2))
        self.lanes = Lanes(app, lambda: self.policy)
        stock = Consumer(connection.channel(), [Queue(name) for name in queues], on_message=print)
        self.channels = Channels(
            stock,
            policy=lambda: self.policy,
            channel=connection.channel,
            window=lambda _band, consumer: Always(consumer),  # type: ignore[arg-type, return-value]
            expected=lambda _task: 1.0,
            later=None,
            lanes=self.lanes.of,
        )
        self.channels.on_message = print
        self.channels.consume()

    def find(self, counts: dict[str, int], filled: list[str]) -> set[str]:
        """Follow what a look has found; give what is consumed then."""
        self.lanes._look = Look(counts, filled)
        self.lanes.follow(self.channels)
        return {queue.name for queue in self.channels.queues}


@pytest.fixture
def connection() -> Iterator[Connection]:
    """Open a broker in memory."""
    with Connection("memory://") as opened:
        yield opened


@pytest.fixture
def worker(connection: Connection) -> Iterator[Worker]:
    """Consume from both queues of a band with two lanes, and from another band's."""
    made = Worker(connection, "a", "b", "c")
    yield made
    made.lanes.close()


def test_a_queue_is_consumed_with_its_lanes(worker: Worker) -> None:
    """Only the band's first queue has some."""
    assert {"a", "a.lane0", "a.lane1", "b", "c"} == {q.name for q in worker.channels.queues}


def test_a_worker_without_the_queue_has_no_lanes(connection: Connection) -> None:
    """`-Q b` is less than the band."""
    made = Worker(connection, "b")
    found = made.find({}, ["a.lane5"])
    made.lanes.close()

    assert {"b"} == found


def test_a_lane_beyond_the_number_is_consumed_until_it_is_empty_for_long(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages come seldom from a sender with more lanes; each should not have to be found."""
    found = worker.find({"a": 2}, ["a.lane5", "c.lane0"])
    band = worker.channels.bands["a"]
    assert band.turns is not None
    band.turns.came("a.lane5", module.monotonic())
    kept = worker.find({"a": 2}, ["c.lane0"])
    monkeypatch.setattr(module, "KEPT_S", -1.0)
    left = worker.find({"a": 2}, ["c.lane0"])

    own = {"a", "a.lane0", "a.lane1", "b", "c"}
    assert own | {"a.lane5", "c.lane0"} == found == kept
    assert own | {"c.lane0"} == left


def test_lanes_that_were_not_looked_at_stay(worker: Worker) -> None:
    """Bands without lanes are looked at seldom."""
    worker.find({"a": 2, "c": 0}, ["c.lane0"])

    assert "c.lane0" in worker.find({"a": 2}, [])
    assert "c.lane0" not in worker.find({"a": 2, "c": 0}, [])


def test_another_policy_s_lanes_are_followed(worker: Worker) -> None:
    """They are declared by the look, which has counted them."""
    worker.policy = load(table(4))
    more = worker.find({"a": 4}, [])
    worker.policy = load(table(2))
    fewer = worker.find({"a": 2}, ["a.lane3"])

    own = {"a", "a.lane0", "a.lane1", "b", "c"}
    assert own | {"a.lane2", "a.lane3"} == more
    assert own | {"a.lane3"} == fewer


def test_what_an_operator_has_cancelled_stays_so(worker: Worker) -> None:
    """A look must not bring it back."""
    worker.channels.cancel_by_queue("a.lane1")
    one = worker.find({"a": 2}, [])
    worker.channels.cancel_by_queue("a")
    none = worker.find({"a": 2}, ["a.lane5"])

    assert {"a", "a.lane0", "b", "c"} == one
    assert {"b", "c"} == none


def test_the_band_s_queue_is_no_lane(connection: Connection) -> None:
    """Budgets of queues and terms of unstamped messages go by it."""
    made = Worker(connection, "a.lane1", "a")
    made.lanes.close()

    assert "a" == made.channels.bands["a"].queue
