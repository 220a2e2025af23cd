"""The meter: whatever happens to a task, its cell says what is the case."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from threading import Barrier

import gevent
import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded

from celery_budget.board import CHARGES, PoolKind, Usage
from celery_budget.child.execution import execution
from celery_budget.child.meter import Meter
from celery_budget.local_board import LocalBoard

RESOURCES = ("cpu", "io", "memory", "usd")

_runs = count(1)


def run(body: Callable[[], object], kind: PoolKind = PoolKind.SOLO) -> Usage | None:
    """Run a function as the body of a real task under the meter."""
    app = Celery("metered", set_as_current=False)
    task = app.task(body, name="body", shared=False, ignore_result=True)
    tracer = build_tracer(task.name, task, app=app)
    board = LocalBoard()
    number = next(_runs)
    with suppress(Reject, SystemExit):  # as the pool does
        Meter(board, RESOURCES, kind).call(number, tracer, "id", (), {}, {"id": "id"})
    return board.read(number, None)


def spin(cpu_s: float) -> None:
    """Use this much CPU time in this thread."""
    end = time.thread_time() + cpu_s
    while time.thread_time() < end:
        pass


@pytest.mark.parametrize(
    "error",
    [None, ValueError(), Retry(), Ignore(), Reject(), SoftTimeLimitExceeded(), SystemExit(1)],
    ids=repr,
)
def test_a_task_is_metered_however_it_ends(error: BaseException | None) -> None:
    """What failed has used as much as what succeeded."""

    def body() -> None:
        spin(0.01)
        if error is not None:
            raise error

    usage = run(body)

    assert usage.is_final
    assert 10_000 <= usage.cpu_us < 1_000_000
    assert usage.cpu_us <= usage.wall_us + 1_000
    assert (None, None, (0,) * CHARGES) == (usage.peak_bytes, usage.io_bytes, usage.charges)
    assert execution.get() is None


def test_waiting_is_wall_time_and_not_cpu_time() -> None:
    """A task that waits for others leaves the processor to others."""

    def body() -> None:
        time.sleep(0.05)

    usage = run(body)

    assert usage.wall_us >= 50_000
    assert usage.cpu_us < 40_000


def test_threads_are_metered_apart() -> None:
    """The process's CPU time would be charged to each of them."""
    both = Barrier(2, timeout=10)

    def idle() -> None:
        both.wait()
        both.wait()

    def busy() -> None:
        both.wait()
        spin(0.1)
        both.wait()

    with ThreadPoolExecutor(2) as pool:
        lazy, working = pool.map(lambda body: run(body, PoolKind.THREADS), [idle, busy])

    assert lazy.cpu_us < 50_000
    assert working.cpu_us >= 100_000
    assert lazy.wall_us >= 100_000


def test_greenlets_know_their_wall_time_alone() -> None:
    """They share a thread, so nobody can tell whose CPU time it was."""
    cells = []

    def body() -> None:
        cells.append(execution.get().cell)
        gevent.sleep(0.01)
        execution.get().cell.charge(0, len(cells))
        cells.append(execution.get().cell)

    greenlets = [gevent.spawn(run, body, PoolKind.GREEN) for _ in range(2)]
    usages = [greenlet.get(timeout=10) for greenlet in greenlets]

    assert cells[:2] == cells[2:]
    assert [2, 3] == [usage.charges[0] for usage in usages]
    assert all(usage.wall_us >= 10_000 and usage.cpu_us is None for usage in usages)


def test_a_running_task_is_seen_with_its_start_and_process() -> None:
    """A sampler needs both to look at it from outside."""
    board = LocalBoard()
    before = time.monotonic_ns()
    seen = []
    Meter(board, (), PoolKind.SOLO).call(7, lambda: seen.append(board.read(7, None)))

    assert [(False, os.getpid())] == [(usage.is_final, usage.pid) for usage in seen]
    assert before <= seen[0].started_ns <= time.monotonic_ns()


def test_without_a_cell_a_task_runs_unmetered() -> None:
    """More children than the board has cells is no reason to fail a task."""

    class Full(LocalBoard):
        def begin(self, *_: object) -> None:
            return None

    assert 3 == Meter(Full(), RESOURCES, PoolKind.SOLO).call(7, lambda number: number + 1, 2)


def test_more_resources_than_a_cell_has_are_refused_before_any_task() -> None:
    """A policy is bounded below that; a charge into the neighbour's half would be worse."""
    names = tuple(f"custom{number}" for number in range(CHARGES + 1))

    with pytest.raises(ValueError, match=f"{CHARGES + 1} resources"):
        Meter(LocalBoard(), names, PoolKind.SOLO)
