"""The signal that ends an execution, and the signals that do not."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.signals import task_success
from msgspec import json

from celery_budget.board import YIELDED, Flag, PoolKind, SharedBoard, SharedCell
from celery_budget.child.meter import Meter
from celery_budget.child.stop import Stop
from celery_budget.errors import CeilingExceeded

NOTICE = json.encode(("memory", "530MiB", "512MiB", 'ceilings."task:ü*".memory'))


@pytest.fixture
def passed_on() -> Iterator[list[int]]:
    """Collect the signals that reach who was there before."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def board() -> SharedBoard:
    """Make a board for two children."""
    return SharedBoard(2)


def began(board: SharedBoard, run: int) -> SharedCell:
    """Begin an execution in the second child."""
    cell = board.begin(run, 1, 0, 1)
    assert cell is not None
    return cell


def test_an_execution_that_has_to_end_is_told_why(passed_on: list[int], board: SharedBoard) -> None:
    """The reason is the task's result."""
    stop = Stop()
    stop.cell, stop.is_running = began(board, 2), True
    board.stop(2, 1, NOTICE)

    with pytest.raises(CeilingExceeded) as caught:
        signal.raise_signal(signal.SIGUSR1)
    assert ("memory", "530MiB", "512MiB", 'ceilings."task:ü*".memory') == caught.value.args
    assert passed_on == []


def test_a_signal_that_comes_too_late_hurts_nobody(
    passed_on: list[int], board: SharedBoard
) -> None:
    """The child lives on, and the next execution in it was told nothing."""
    stop = Stop()
    stop.cell, stop.is_running = began(board, 2), True
    board.stop(2, 1, NOTICE)
    stop.is_running = False
    signal.raise_signal(signal.SIGUSR1)

    assert passed_on == []
    stop.cell, stop.is_running = began(board, 4), True
    signal.raise_signal(signal.SIGUSR1)
    assert [signal.SIGUSR1] == passed_on


def test_signals_of_others_reach_who_waits_for_them(
    passed_on: list[int], board: SharedBoard
) -> None:
    """It is the signal of Celery's soft time limit, first of all."""
    stop = Stop()
    signal.raise_signal(signal.SIGUSR1)
    stop.cell, stop.is_running = began(board, 2), True
    signal.raise_signal(signal.SIGUSR1)

    assert [signal.SIGUSR1] * 2 == passed_on


def test_a_notice_is_for_one_execution_and_cut_where_it_must_be(board: SharedBoard) -> None:
    """A cell has room for so much."""
    first, second = began(board, 2), began(board, 4)
    board.stop(2, 1, b"x" * 1_000)

    assert b"x" * 512 == first.notice()
    assert b"" == second.notice()
    board.stop(4, 1, b"short")
    assert b"short" == second.notice()
    board.stop(6, 2, b"nobody")  # a child without a cell


class Child:
    """Runs a body as a child of the pool does, which may be evicted."""

    def __init__(self, board: SharedBoard) -> None:
        self.app = Celery("evicted", set_as_current=False)
        self._board = board
        self._meter = Meter(board, (), PoolKind.PREFORK, can_stop=True)

    def evict(self) -> None:
        """Do what the main process does."""
        assert self._board.put(Flag.EVICT, 2, 0)
        signal.raise_signal(signal.SIGUSR1)

    def run(self, body: Callable[[], object]) -> object:
        """Give what the pool gets."""

        def running() -> object:
            return body()

        task = self.app.task(running, name="body", shared=False, ignore_result=True)
        tracer = build_tracer("body", task, app=self.app)
        return self._meter.call(2, tracer, "id", (), {}, {"id": "id"})


@pytest.fixture
def child(passed_on: list[int], board: SharedBoard, monkeypatch: pytest.MonkeyPatch) -> Child:
    """Be the first child of a pool."""
    assert passed_on == []
    monkeypatch.setattr("celery_budget.child.meter.current_process_index", lambda base: base)
    return Child(board)


def test_an_evicted_body_leaves_where_it_is(child: Child) -> None:
    """However deep; what it holds is given back on the way."""
    seen = []

    def deep() -> None:
        try:
            child.evict()
        except Exception:
            seen.append("caught")
        finally:
            seen.append("cleaned")

    assert YIELDED == child.run(lambda: [deep() for _ in range(3)])
    assert ["cleaned"] == seen


def test_a_body_that_has_ended_is_not_run_again(child: Child, passed_on: list[int]) -> None:
    """Its result is being stored, and its callbacks are published."""

    def stored(**_: object) -> None:
        child.evict()

    task_success.connect(stored)
    try:
        result = child.run(lambda: "done")
    finally:
        task_success.disconnect(stored)

    assert "done" == result[0]  # type: ignore[index]
    assert passed_on == []


def test_an_eviction_is_for_one_execution(child: Child, passed_on: list[int]) -> None:
    """The next one in that child gets the signals of others."""
    child.run(child.evict)
    child._meter.call(4, signal.raise_signal, signal.SIGUSR1)

    assert [signal.SIGUSR1] == passed_on
