"""What an execution used, in the events and the results of real workers."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from celery import VERSION, Celery
from celery.events.state import State
from celery.result import AsyncResult

from celery_budget import Bill
from celery_budget.embedded import RedisServer
from tests.budgets import Budgets, spend_all
from tests.conftest import WaitFor
from tests.integration.test_examples import Example
from tests.servers import Broker

MILLION = 1_000_000

#: A budget for each resource that the tests look for, and one that runs out.
POLICY = {
    "budgets": {
        "fleet": {"usd": "100/1d", "cpu": "600s/1h"},
        "tenant:degrade-*": {"usd": {"limit": "1/1d", "on_exhausted": "degrade", "at": "50%"}},
    }
}

Make = Callable[..., Budgets]


@pytest.fixture
def make(redis_server: RedisServer, tmp_path: Path) -> Iterator[Make]:
    """Set up an app with budgets on Redis, for one test."""
    made: list[Budgets] = []

    def set_up(**settings: object) -> Budgets:
        made.append(Budgets(redis_server, tmp_path, POLICY, **settings))
        return made[-1]

    yield set_up
    # Results that were waited for are in cycles, and unsubscribe as garbage: not after the server.
    gc.collect()
    for each in made:
        each.close()


class Listener:
    """Somebody who listens to events, as `celery events` and Flower do."""

    def __init__(self, app: Celery) -> None:
        self.state = State()
        self.events: list[dict[str, Any]] = []
        self._stack = ExitStack()
        connection = self._stack.enter_context(app.connection_for_read())
        receiver = app.events.Receiver(connection, handlers={"*": self._take})
        self._connection, *_ = self._stack.enter_context(receiver.consumer_context())

    def _take(self, event: dict[str, Any]) -> None:
        self.state.event(dict(event))
        self.events.append(event)

    def has_heard(self, kind: str, task_id: str) -> bool:
        """Listen for a moment; tell whether an event of a task has come by now."""
        with suppress(TimeoutError):
            self._connection.drain_events(timeout=0.1)
        return bool(self.of(kind, task_id))

    def of(self, kind: str, task_id: str) -> list[dict[str, Any]]:
        """List the events of one kind and task."""
        return [e for e in self.events if e["type"] == kind and e["uuid"] == task_id]

    def close(self) -> None:
        """Stop listening."""
        self._stack.close()


@pytest.fixture
def listen() -> Iterator[Callable[[Celery], Listener]]:
    """Begin to listen to the events of an app's workers."""
    listeners: list[Listener] = []

    def begin(app: Celery) -> Listener:
        listeners.append(Listener(app))
        return listeners[-1]

    yield begin
    for each in listeners:
        each.close()


Listen = Callable[[Celery], Listener]


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_the_events_of_an_end_have_the_bill(
    pool: str, make: Make, listen: Listen, wait_for: WaitFor
) -> None:
    """Flower and its like show what each task cost without asking anybody else."""
    budgets = make()
    budgets.start(1, "-E", pool=pool)
    sender = budgets.sender()
    listener = listen(sender.app)
    # In a pool of threads Celery's buffer of events has no lock: of two that come at one moment it
    # may lose one. So the success comes long after the start, and no more is asked of that pool.
    is_lossy = pool == "threads"
    paid = sender.pay.apply_async(("all", "0.30"), {"seconds": 0.3}, tenant="acme").id
    wait_for(lambda: listener.has_heard("task-succeeded", paid), what="the success")
    tried = sender.try_twice.delay("0.20").id
    ends = []
    for kind in () if is_lossy else ("task-retried", "task-failed"):
        wait_for(lambda kind=kind: listener.has_heard(kind, tried), what=kind)  # type: ignore[misc]
        ends += listener.of(kind, tried)
    (success,) = listener.of("task-succeeded", paid)
    wait_for(
        lambda: budgets.accounts()["fleet usd"].spent == 700_000, what="what both tries charged"
    )
    wait_for(lambda: not budgets.accounts()["fleet usd"].leased, what="the settlement")

    assert {"band", "tenant", "usage"} == set(success["budget"])
    assert ("default", "acme") == (success["budget"]["band"], success["budget"]["tenant"])
    usage = success["budget"]["usage"]
    assert 300_000 == usage["usd"]
    assert 0 < usage["runtime"] < 60 * MILLION
    # Greenlets share a thread: nobody can tell whose time it was.
    assert ("cpu" in usage) is (pool != "gevent")
    assert len(ends) == (0 if is_lossy else 2)
    for event in ends:
        assert {"band", "usage"} == set(event["budget"])
        assert 200_000 == event["budget"]["usage"]["usd"]
    unbilled = [event["type"] for event in listener.events if "budget" not in event]
    assert is_lossy or {"task-received", "task-started"} <= set(unbilled)
    assert success["budget"] == listener.state.tasks[paid].budget
    assert "budget" not in listener.state.tasks[paid].as_dict()
    assert 700_000 == budgets.accounts()["fleet usd"].spent


def test_the_failure_of_a_killed_child_has_what_was_known(
    make: Make, listen: Listen, wait_for: WaitFor
) -> None:
    """What it had charged is spent all the same."""
    budgets = make(result_extended=True)
    budgets.start(1, "-E")
    sender = budgets.sender()
    listener = listen(sender.app)
    lost = sender.pay_and_die.delay("0.70").id
    wait_for(lambda: listener.has_heard("task-failed", lost), what="the failure")
    (failure,) = listener.of("task-failed", lost)

    assert {"runtime", "usd"} == set(failure["budget"]["usage"])
    assert 700_000 == failure["budget"]["usage"]["usd"]
    # Stored by the main process, which has no part in the execution.
    assert "name" in budgets.meta(lost)
    assert "budget" not in budgets.meta(lost)


@pytest.mark.parametrize(
    "backend",
    [
        "redis",
        "file",
        pytest.param(
            "rpc",
            marks=pytest.mark.skipif(VERSION < (5, 7), reason="rpc:// extends no results there"),
        ),
    ],
)
def test_an_extended_result_has_the_bill(backend: str, make: Make, tmp_path: Path) -> None:
    """Whoever waits for a task learns what it cost, and needs no events for it."""
    urls = {"rpc": "rpc://", "file": f"file://{tmp_path}"}
    settings = {} if backend == "redis" else {"result_backend": urls[backend]}
    budgets = make(result_extended=True, **settings)
    # In a second slot the second try could end, and store that, before the first one does.
    budgets.start(1, slots=1)
    sender = budgets.sender()
    result = sender.pay.apply_async(("all", "0.30"), tenant="acme")
    result.get(timeout=30)
    failed = sender.try_twice.delay("0.20")
    failed.get(timeout=30, propagate=False)
    bill = Bill.of(result)

    assert bill is not None
    assert ("default", "acme", False) == (bill.band, bill.tenant, bill.degraded)
    assert 300_000 == bill.usage["usd"]
    assert 0 < bill.usage["runtime"] < 60 * MILLION
    assert 0 < bill.usage["cpu"] < 60 * MILLION
    assert "FAILURE" == failed.state
    assert 200_000 == Bill.of(failed).usage["usd"]


def test_a_result_tells_of_a_retry_and_of_less_than_usual(make: Make, wait_for: WaitFor) -> None:
    """A caller must be able to tell a degraded answer from a full one."""
    budgets = make(result_extended=True)
    budgets.start()
    sender = budgets.sender()
    tried = sender.try_twice.delay("0.20", 3_600).id
    spend_all(budgets, sender.pay, wait_for, "degrade-all")
    degraded = sender.pay.apply_async(("all", "0.10"), tenant="degrade-all")
    degraded.get(timeout=30)
    wait_for(lambda: budgets.meta(tried) is not None, what="the retry")

    assert "RETRY" == budgets.meta(tried)["status"]
    assert 200_000 == Bill.read(budgets.meta(tried)["budget"]).usage["usd"]
    assert Bill.of(degraded).degraded
    assert [True] == [entry["degraded"] for entry in budgets.journal.entries("paid", key="all")]
    assert True is budgets.meta(degraded.id)["budget"]["degraded"]


def test_results_that_are_not_extended_stay_as_they_are(make: Make) -> None:
    """Programs that read the backend themselves must not meet keys nobody asked for."""
    budgets = make()
    budgets.start()
    result: AsyncResult[None] = budgets.sender().pay.delay("all", "0.30")
    result.get(timeout=30)

    assert {"status", "result", "traceback", "children", "date_done", "task_id"} == set(
        budgets.meta(result.id)
    )
    assert Bill.of(result) is None


def test_the_example_tells_what_each_answer_cost(
    redis_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what people copy."""
    monkeypatch.setenv("CELERY_RESULT_BACKEND", redis_broker.url)
    example = Example("what_did_it_cost", redis_broker)
    try:
        example.start("answers", slots=2)
        lines = example.run("ask.py").splitlines()
    finally:
        example.end()
    large = "large answer: 0.30 dollars"
    small = "small answer: 0.02 dollars, it did less than usual"

    assert (6, {large, small}) == (len(lines), set(lines))
    assert (large, small) == (lines[0], lines[-1])
