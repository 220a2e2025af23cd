"""`budget.checkpoint` and `budget.progress`, in the body of real tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from kombu.exceptions import ContentDisallowed, EncodeError

from celery_budget import NotInTask, budget, install
from celery_budget.board import YIELDED, Flag, PoolKind
from celery_budget.child.meter import Meter
from celery_budget.errors import CheckpointTooLarge, NotInstalled
from celery_budget.local_board import LocalBoard

RUN = 2


class Worker:
    """Runs functions as bodies of tasks; its state store is its own memory."""

    def __init__(self, **preemption: object) -> None:
        self.app = Celery("saving", broker="memory://", set_as_current=False)
        self.app.conf.budget_state_url = "memory://"
        install(self.app, policy={"bands": {"only": {}}, "preemption": preemption})
        self.board = LocalBoard()
        self.meter = Meter(self.board, (), PoolKind.THREADS)
        self.raised: BaseException | None = None

    def run(self, body: Callable[[], object], *, task_id: str = "id", **options: Any) -> object:
        """Run a body to its end; give what it returned, or that it left."""

        def keeping() -> object:
            try:
                return body()
            except BaseException as error:
                self.raised = error
                raise

        task = self.app.task(keeping, name="body", shared=False, ignore_result=True, **options)
        tracer = build_tracer("body", task, app=self.app)
        result = self.meter.call(RUN, tracer, task_id, (), {}, {"id": task_id})
        del self.app.tasks["body"]
        return result if result == YIELDED else result[0]

    def ask(self) -> None:
        """Ask the execution to leave."""
        assert self.board.put(Flag.YIELD, RUN, None)


@pytest.fixture
def worker() -> Worker:
    """Make a worker that saves unasked once a second."""
    return Worker()


def test_an_execution_leaves_when_it_is_asked_to(worker: Worker) -> None:
    """Its body does not get past the checkpoint, and the next one goes on there."""
    passed = []

    def body() -> None:
        for step in range(budget.progress(default=0), 3):
            if step == 1 and not passed[1:]:
                worker.ask()
            passed.append(step)
            try:
                budget.checkpoint(step + 1)
            except Exception:
                pytest.fail("it must not be caught")

    assert YIELDED == worker.run(body)
    assert [0, 1] == passed
    worker.run(body)

    assert [0, 1, 2] == passed


def test_cleaning_up_is_done_on_the_way_out(worker: Worker) -> None:
    """Locks must be free for the next execution."""
    done = []

    def body() -> None:
        worker.ask()
        try:
            budget.checkpoint(1)
        finally:
            done.append(True)

    worker.run(body)

    assert [True] == done


def test_it_saves_now_and_then_and_not_each_time() -> None:
    """Each saving is a round trip."""
    worker = Worker(checkpoint_every="1h")

    def body() -> object:
        budget.checkpoint("unsaved")
        return budget.progress(default="nothing")

    assert "nothing" == worker.run(body)


def test_progress_is_what_was_saved_in_the_same_execution_too() -> None:
    """As the next one would see it: a tuple is a list by then."""
    worker = Worker(checkpoint_every=1e-6)

    def body() -> object:
        budget.checkpoint((1, 2))
        return budget.progress()

    assert [1, 2] == worker.run(body)


def test_a_success_leaves_nothing_and_a_failure_all() -> None:
    """What failed may be published again with its id."""
    worker = Worker(checkpoint_every=1e-6)

    def fail() -> None:
        budget.checkpoint(2)
        raise ValueError

    worker.run(lambda: budget.checkpoint(1))
    assert worker.run(budget.progress) is None
    worker.run(fail)
    assert 2 == worker.run(budget.progress)


def test_other_tasks_have_their_own(worker: Worker) -> None:
    """By task id."""
    worker = Worker(checkpoint_every=1e-6)

    def fail() -> None:
        budget.checkpoint(2)
        raise ValueError

    worker.run(fail, task_id="other")

    assert worker.run(budget.progress) is None


def test_eager_and_plain_calls_save_nothing(worker: Worker) -> None:
    """Nor do they make the task that calls them leave."""
    worker = Worker(checkpoint_every=1e-6)
    app = worker.app

    @app.task(name="inner", shared=False)
    def inner() -> object:
        budget.checkpoint("inner")
        return budget.progress(default="nothing")

    def body() -> object:
        worker.ask()
        return [inner(), inner.apply().get()]

    assert ["nothing", "nothing"] == worker.run(body)


def test_what_cannot_be_written_or_is_too_large_is_an_error() -> None:
    """By name, in the body."""
    worker = Worker(checkpoint_every=1e-6, max_checkpoint="10B")
    worker.run(lambda: budget.checkpoint(object()))
    assert isinstance(worker.raised, EncodeError)
    worker.run(lambda: budget.checkpoint("x" * 9))

    assert isinstance(worker.raised, CheckpointTooLarge)
    assert (11, 10) == (worker.raised.size, worker.raised.limit)


def test_the_task_s_serializer_writes_it() -> None:
    """Whatever Celery accepts from its queues, it accepts here, and nothing else."""
    worker = Worker(checkpoint_every=1e-6)
    worker.app.conf.accept_content = ["json", "pickle"]

    def fail() -> None:
        budget.checkpoint({1: 2})
        raise ValueError

    worker.run(fail, serializer="pickle")
    worker.app.conf.accept_content = ["json"]
    worker.run(budget.progress)
    assert isinstance(worker.raised, ContentDisallowed)
    worker.app.conf.accept_content = ["json", "pickle"]

    assert {1: 2} == worker.run(budget.progress)


@pytest.mark.parametrize("use", [lambda: budget.checkpoint(1), budget.progress])
def test_outside_a_task_there_is_nothing_to_save(use: Callable[[], object]) -> None:
    """The text says where to call it."""
    with pytest.raises(NotInTask, match="outside a task"):
        use()


def test_a_plain_app_is_told_to_install() -> None:
    """A worker without celery-budget has no store."""
    app = Celery("plain", set_as_current=False)
    raised = []

    @app.task(name="body", shared=False, ignore_result=True)
    def body() -> None:
        try:
            budget.checkpoint(1)
        except NotInstalled as error:
            raised.append(error)

    build_tracer("body", body, app=app)("id", (), {}, {"id": "id"})

    assert ["plain"] == [error.app for error in raised]
