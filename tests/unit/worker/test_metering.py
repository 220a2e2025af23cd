"""Metering in the main process: what is read of an execution, and when."""

from __future__ import annotations

from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from celery_budget.board import Board, PoolKind
from celery_budget.child.meter import Metered, connect
from celery_budget.worker.eventer import BillingEventer
from celery_budget.worker.intake import Held
from celery_budget.worker.metering import Metering

RESOURCES = ("cpu", "usd")


@pytest.fixture
def metering() -> Metering:
    """Make the meter of a worker with threads."""
    return Metering(SimpleNamespace(), PoolKind.THREADS, RESOURCES, connect, can_stop=False)


def started(metering: Metering, **eventer: Any) -> Held:
    """Begin the execution of a ticket."""
    held = Held("1", "task", "a")
    worker = SimpleNamespace(**eventer) if eventer else None
    held.request = SimpleNamespace(worker_pid=11, eventer=worker)
    held.started = monotonic() - 60
    held.usage = None
    held.frozen_s = 0.0
    metering.begin(held, is_degraded=False)
    return held


def test_what_an_execution_used_is_read_once(metering: Metering) -> None:
    """The event of its end and its settlement ask, one after the other."""
    held = started(metering)
    metering.metered(held.run, lambda: None)
    used = metering.usage(held)

    assert {"runtime", "cpu", "usd"} == set(used)
    assert used is metering.usage(held)


def test_what_still_runs_is_read_again(metering: Metering) -> None:
    """It was told that it is terminated; what it uses until its end is not known then."""
    held = started(metering)
    seen = []
    metering.metered(held.run, lambda: seen.append(metering.usage(held)))

    assert {"runtime", "usd"} == set(seen[0])
    assert seen[0]["runtime"] >= 60_000_000  # by the clock
    assert {"runtime", "cpu", "usd"} == set(metering.usage(held))


def test_a_child_that_has_gone_is_read_for_its_settlement_only() -> None:
    """Its process number may be that of another program, which no ceiling may stop."""
    boards: list[Board] = []

    def keeping(
        board: Board, resources: tuple[str, ...], kind: PoolKind, *, can_stop: bool
    ) -> Metered:
        boards.append(board)
        return connect(board, resources, kind, can_stop=can_stop)

    empty = SimpleNamespace(_pool=SimpleNamespace(_pool=[]))
    metering = Metering(empty, PoolKind.PREFORK, RESOURCES, keeping, can_stop=False)
    held = started(metering)
    boards[0].begin(held.run, 3, 1, 11).charge(0, 5)

    assert metering.read(held) is None
    assert 5 == metering.usage(held)["usd"]


@pytest.mark.parametrize(
    ("eventer", "is_billed"),
    [
        ({}, False),
        ({"enabled": False, "groups": set()}, False),
        ({"enabled": True, "groups": {"worker"}}, False),
        ({"enabled": True, "groups": set()}, True),
    ],
    ids=str,
)
def test_nothing_is_prepared_for_events_that_nobody_asked_for(
    metering: Metering, eventer: dict[str, Any], is_billed: bool
) -> None:
    """Most workers run without -E, and each microsecond there is theirs."""
    held = started(metering, **eventer)

    assert isinstance(held.request.eventer, BillingEventer) is is_billed


def test_time_in_which_it_was_frozen_is_no_runtime(metering: Metering) -> None:
    """It did nothing meanwhile, and a budget of runtime is not for waiting."""
    held = started(metering)
    held.frozen_s = 59.0

    assert 2_000_000 > metering.usage(held)["runtime"]
