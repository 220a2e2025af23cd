"""`budget.charge` and `budget.degraded`, in the body of real tasks."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import build_tracer

from celery_budget import BudgetError, NotInTask, OptionError, budget
from celery_budget.board import Flag, PoolKind, Usage
from celery_budget.child.meter import Meter
from celery_budget.errors import AmountError, UnknownResource
from celery_budget.local_board import LocalBoard

RUN = 2
RESOURCES = ("cpu", "network", "tokens", "usd")


class Worker:
    """Runs functions as bodies of tasks, and keeps what they raised."""

    def __init__(self) -> None:
        self.app = Celery("charging", set_as_current=False)
        self.board = LocalBoard()
        self.meter = Meter(self.board, RESOURCES, PoolKind.SOLO)
        self.raised: BaseException | None = None

    def task(self, body: Callable[..., object], name: str) -> Any:
        """Make a task."""
        return self.app.task(body, name=name, shared=False, ignore_result=True)

    def run(self, body: Callable[[], object]) -> Usage:
        """Run a body to its end."""

        def keeping() -> None:
            try:
                body()
            except BaseException as error:
                self.raised = error

        tracer = build_tracer("body", self.task(keeping, "body"), app=self.app)
        self.meter.call(RUN, tracer, "id", (), {}, {"id": "id"})
        return self.board.read(RUN, None)


@pytest.fixture
def worker() -> Worker:
    """Make a worker whose policy names two resources of its own."""
    return Worker()


def test_charges_add_up_and_are_seen_at_once(worker: Worker) -> None:
    """A budget can be exhausted while the task still runs."""
    seen = []

    def body() -> None:
        budget.charge(usd=0.03, tokens=1500)
        budget.charge(usd="0.02", network="2KiB")
        seen.append(worker.board.read(RUN, None).charges[:3])

    usage = worker.run(body)

    assert worker.raised is None
    assert [(2_048, 1_500_000_000, 50_000)] == seen
    assert seen[0] == usage.charges[:3]


@pytest.mark.parametrize(
    ("amounts", "error", "text"),
    [
        (
            {"usd": 1, "usdd": 1},
            UnknownResource,
            (
                "resource usdd is unknown: the policy does not name it; "
                "it names network, tokens, usd; did you mean usd?"
            ),
        ),
        ({"usd": 1, "cpu": "1s"}, OptionError, "option cpu: it is metered and cannot be charged"),
        (
            {"usd": 1, "memory": "1MiB"},
            OptionError,
            "option memory: it is metered and cannot be charged",
        ),
        ({"usd": 1, "tokens": -1}, AmountError, "negative"),
        ({"usd": 1, "tokens": "many"}, AmountError, "tokens"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_call_with_a_mistake_charges_nothing(
    worker: Worker, amounts: dict[str, str | float], error: type[BudgetError], text: str
) -> None:
    """Half a charge would be found by nobody, and be charged again by a retry."""
    usage = worker.run(lambda: budget.charge(**amounts))

    assert type(worker.raised) is error
    assert text in str(worker.raised)
    assert {0} == set(usage.charges)


def test_tasks_that_a_body_calls_charge_its_execution(worker: Worker) -> None:
    """They run in its slot, and nobody else would answer for them."""

    def charge() -> None:
        budget.charge(tokens=1)

    inner = worker.task(charge, "inner")

    def body() -> None:
        inner()
        inner.apply(throw=True)
        inner.delay()  # eager, by the setting
        budget.charge(tokens=1)

    worker.app.conf.task_always_eager = True
    usage = worker.run(body)

    assert worker.raised is None
    assert 4_000_000 == usage.charges[1]
    assert usage.is_final


def test_eager_and_plain_calls_of_a_client_charge_nothing(worker: Worker) -> None:
    """Tests and shells call tasks too; names are not known there, amounts are still read."""

    def body(amount: float) -> bool:
        budget.charge(anything=amount)
        return budget.degraded

    task = worker.task(body, "task")

    assert (False, False) == (task(1), task.apply((1,), throw=True).get())
    with pytest.raises(AmountError):
        task(-1)


@pytest.mark.parametrize("use", [lambda: budget.charge(usd=1), lambda: budget.degraded])
def test_outside_a_task_there_is_nothing_to_charge(use: Callable[[], object]) -> None:
    """Silence would let money disappear."""
    with pytest.raises(NotInTask):
        use()


def test_a_thread_of_the_body_is_outside(worker: Worker) -> None:
    """A cell has one writer; a second one could lose what the first has just added."""
    raised = []

    def charge() -> None:
        try:
            budget.charge(usd=1)
        except NotInTask as error:
            raised.append(str(error))

    def body() -> None:
        thread = Thread(target=charge)
        thread.start()
        thread.join()

    assert {0} == set(worker.run(body).charges)
    assert ["budget.charge was used outside a task"] == [text.split(";")[0] for text in raised]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_of_the_body_is_outside(worker: Worker) -> None:
    """As a thread is, and its sums would not even be seen in every pool."""

    def body() -> None:
        pid = os.fork()
        if not pid:
            status = 1
            try:
                budget.charge(usd=1)
            except NotInTask:
                status = 0
            finally:
                os._exit(status)
        assert 0 == os.waitpid(pid, 0)[1]

    assert {0} == set(worker.run(body).charges)
    assert worker.raised is None


def test_a_body_can_see_that_it_should_do_less(worker: Worker) -> None:
    """The flag may come while it runs."""
    seen = []

    def body() -> None:
        seen.append(budget.degraded)
        worker.board.put(Flag.DEGRADED, RUN, None)
        seen.append(budget.degraded)
        worker.board.take(Flag.DEGRADED, RUN, None)
        seen.append(budget.degraded)

    worker.run(body)

    assert [False, True, False] == seen


def test_a_computed_price_is_rounded(worker: Worker) -> None:
    """0.1 + 0.2 has more digits than any price; a policy that says so is refused, a bill is not."""
    usage = worker.run(lambda: budget.charge(usd=0.1 + 0.2, network=10.4))

    assert (10, 0, 300_000) == usage.charges[:3]
