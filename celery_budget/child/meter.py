"""The meter: writes what each execution uses to the board.

Stands between the pool and Celery's tracer, so that neither the task's class nor what its
body does to its own request matters. Decoding the message, storing the result and publishing
what follows in a chain are part of the execution; eager and plain calls of other tasks are part
of that in whose body they are made.

Celery's signals `task_prerun` and `task_postrun` would do as well and cost more than all the
rest: docs/explanation/metering.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

from celery.utils.log import current_process_index

from celery_budget.board import CHARGES, YIELDED, Board, PoolKind, SharedCell, charged
from celery_budget.child.execution import Execution, execution
from celery_budget.child.gauge import Reading, gauge
from celery_budget.child.stop import Stop
from celery_budget.errors import TaskYielded

#: What a pool is given instead of a target: the run's number, the target, then its arguments.
Metered = Callable[..., Any]

_UNKNOWN: Reading = (None, None, None)


class Meter:
    """Meters what is called through `call`, in this process or in children forked from it."""

    def __init__(
        self,
        board: Board,
        resources: tuple[str, ...],
        kind: PoolKind,
        *,
        can_stop: bool = False,
    ) -> None:
        self._board = board
        self._charged = charged(resources)
        if len(self._charged) > CHARGES:
            raise ValueError(f"{len(self._charged)} resources to charge; a cell has {CHARGES}")
        self._gauge = gauge(kind, resources)
        self._can_stop = can_stop
        self._stop: Stop | None = None
        self._pid = 0
        self._index: int | None = None

    def call(self, run: int, target: Callable[..., Any], *args: Any) -> Any:
        """Call a target with its arguments, as the execution with the number `run`.

        Returns:
            What the target does; `YIELDED` when its task has left, to be run again.
        """
        pid = os.getpid()
        if pid != self._pid:  # the first execution in a child
            self._pid, self._index = pid, current_process_index(base=0)
            self._stop = Stop() if self._can_stop else None
        started_ns = monotonic_ns()
        cell = self._board.begin(run, self._index, started_ns, pid)
        if cell is None:
            return target(*args)
        stop = self._stop
        mark = None if self._gauge is None else self._gauge.start()
        token = execution.set(Execution(cell, self._charged, pid, started_ns, self._gauge, mark))
        if stop is not None and isinstance(cell, SharedCell):
            stop.cell, stop.is_running = cell, True
        try:
            return target(*args)
        except TaskYielded:
            return YIELDED
        finally:
            if stop is not None:
                stop.is_running = False
            execution.reset(token)
            used = _UNKNOWN if self._gauge is None else self._gauge.since(mark)
            cell.finish((monotonic_ns() - started_ns) // 1_000, *used)


_inherited: list[Meter] = []


def metered(run: int, target: Callable[..., Any], *args: Any) -> Any:
    """Meter in a child that was forked after `connect`; children are told targets by name."""
    return _inherited[-1].call(run, target, *args)


def connect(
    board: Board, resources: tuple[str, ...], kind: PoolKind, *, can_stop: bool = False
) -> Metered:
    """Make the meter of a worker; give what its pool calls instead of a target.

        call = connect(board, policy.resources, kind)
        pool.apply_async(call, (run, target, *args))

    Args:
        board: Read by the caller. For prefork a `SharedBoard`; the pool has not started yet.
        resources: Names of all resources of the policy: what is read, and what can be charged.
        kind: Of the worker's pool.
        can_stop: Whether executions may be told to end; for prefork only.
    """
    meter = Meter(board, resources, kind, can_stop=can_stop)
    if kind is not PoolKind.PREFORK:
        return meter.call
    _inherited[:] = [meter]
    return metered
