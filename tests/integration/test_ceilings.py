"""Ceilings on real workers: what uses too much is told, then stopped, and nothing else is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
import pytest

from tests.budgets import Budgets, Make, publish
from tests.conftest import WaitFor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="samples /proc")

MIB = 2**20

#: A child of the test app holds some 60 MiB before it runs anything.
MEMORY = "150MiB"


def ended(budgets: Budgets, task_id: str, wait_for: WaitFor) -> dict[str, Any]:
    """Wait for what is stored of a task's end."""
    wait_for(lambda: budgets.meta(task_id) is not None, what=f"the end of {task_id}")
    meta = budgets.meta(task_id)
    assert meta is not None
    return meta


def has_ended(pid: int) -> Callable[[], bool]:
    """Give a condition: no such process runs."""

    def condition() -> bool:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        return True

    return condition


def test_a_task_above_its_memory_ends_with_the_reason_and_its_neighbours_go_on(
    make: Make, wait_for: WaitFor
) -> None:
    """The kernel would have killed whoever holds most, and told nobody why."""
    budgets = make({"ceilings": {"task:*.hoard": {"memory": MEMORY}}})
    budgets.start(slots=10)
    sender = budgets.sender()
    gate = budgets.directory / "gate"
    neighbours = publish(sender.wait, [("n", str(gate), number) for number in range(9)])
    wait_for(lambda: len(budgets.times("started", "n")) == 9, what="nine neighbours")
    (hoarder,) = publish(sender.hoard, [("h", 300)])
    meta = ended(budgets, hoarder, wait_for)
    gate.touch()

    assert ("FAILURE", "CeilingExceeded") == (meta["status"], meta["result"]["exc_type"])
    resource, used, limit, path = meta["result"]["exc_message"]
    assert ("memory", MEMORY, 'ceilings."task:*.hoard".memory') == (resource, limit, path)
    assert 150 < int(used.removesuffix("MiB"))
    assert "is told to end: memory" in budgets.workers[0].log
    assert all(ended(budgets, each, wait_for)["status"] == "SUCCESS" for each in neighbours)
    beside = {entry["pid"] for entry in budgets.journal.entries("started", key="n")}
    now = psutil.Process(budgets.workers[0].pid).children(recursive=True)
    assert 9 == len(beside & {child.pid for child in now})


def test_a_task_that_does_not_listen_is_killed_after_the_grace(
    make: Make, wait_for: WaitFor
) -> None:
    """A body may catch everything; its memory must come back all the same."""
    budgets = make({"ceilings": {"task:*": {"memory": MEMORY, "grace": "200ms"}}})
    (worker,) = budgets.start(slots=2)
    sender = budgets.sender()
    (hoarder,) = publish(sender.hoard, [("h", 300, True)], acks_late=True)
    meta = ended(budgets, hoarder, wait_for)
    (held,) = budgets.journal.entries("begun")
    wait_for(has_ended(held["pid"]), what="the end of the child")
    after = publish(sender.note, [("after", number) for number in range(20)])

    assert ("FAILURE", "CeilingExceeded") == (meta["status"], meta["result"]["exc_type"])
    assert "told" in {entry["event"] for entry in budgets.journal.entries()}
    assert all(ended(budgets, each, wait_for)["status"] == "SUCCESS" for each in after)
    assert 2 == len(psutil.Process(worker.pid).children())
    assert "is stopped: memory" in worker.log
    assert "WorkerLostError" not in worker.log
    assert 0 == budgets.length("celery")


def test_without_a_grace_nothing_is_told_first(make: Make, wait_for: WaitFor) -> None:
    """Some would rather lose the clean-up than the machine."""
    budgets = make({"ceilings": {"task:*": {"memory": MEMORY, "grace": "0s"}}})
    budgets.start()
    (hoarder,) = publish(budgets.sender().hoard, [("h", 300, True)])

    assert "CeilingExceeded" == ended(budgets, hoarder, wait_for)["result"]["exc_type"]
    assert not budgets.times("told", "h")


def test_memory_of_a_program_that_the_task_has_started_counts(
    make: Make, wait_for: WaitFor
) -> None:
    """ffmpeg takes the memory, not the task that started it; and it must end with the task."""
    budgets = make({"ceilings": {"task:*": {"memory": MEMORY, "grace": "100ms"}}})
    budgets.start()
    (hoarder,) = publish(budgets.sender().hoard_elsewhere, [("h", 300)])
    meta = ended(budgets, hoarder, wait_for)
    (held,) = budgets.journal.entries("begun")

    assert "memory" == meta["result"]["exc_message"][0]
    wait_for(has_ended(held["pid"]), what="the end of the program")


@pytest.mark.parametrize(("resource", "task"), [("cpu", "spin"), ("runtime", "tidy")])
def test_processor_and_wall_time_have_ceilings(
    make: Make, wait_for: WaitFor, resource: str, task: str
) -> None:
    """A soft time limit knows the wall clock alone, and one number for each task type."""
    budgets = make({"ceilings": {"task:*": {resource: "300ms"}}})
    budgets.start()
    sender = budgets.sender()
    (within,) = publish(getattr(sender, task), [("within", 0.01)])
    (beyond,) = publish(getattr(sender, task), [("beyond", 600)])
    meta = ended(budgets, beyond, wait_for)

    assert "CeilingExceeded" == meta["result"]["exc_type"]
    assert [resource, "300ms"] == meta["result"]["exc_message"][0:3:2]
    assert "SUCCESS" == ended(budgets, within, wait_for)["status"]
    if task == "tidy":
        assert ["CeilingExceeded"] == [
            entry["error"] for entry in budgets.journal.entries("tidied", key="beyond")
        ]


def test_what_a_task_leaves_behind_is_not_the_next_ones_fault(
    make: Make, wait_for: WaitFor
) -> None:
    """A child that keeps 300 MiB would end every task after it that may have 150."""
    ceilings = {"task:*.keep": {"memory": "600MiB"}, "task:*": {"memory": MEMORY}}
    budgets = make({"ceilings": ceilings})
    (worker,) = budgets.start(slots=1)
    sender = budgets.sender()
    (keeper,) = publish(sender.keep, [("k", 300)])
    after = publish(sender.pause, [("after", 0.2, number) for number in range(3)])

    assert "SUCCESS" == ended(budgets, keeper, wait_for)["status"]
    assert ["SUCCESS"] * 3 == [ended(budgets, each, wait_for)["status"] for each in after]
    assert "and is replaced" in worker.log
    (kept,) = budgets.journal.entries("kept")
    wait_for(has_ended(kept["pid"]), what="the end of the child")


def test_a_soft_time_limit_stays_what_it_is(make: Make, wait_for: WaitFor) -> None:
    """Both use the same signal."""
    budgets = make({"ceilings": {"task:*": {"memory": MEMORY}}})
    budgets.start()
    (limited,) = publish(budgets.sender().tidy, [("t", 600)], soft_time_limit=1)

    assert "SoftTimeLimitExceeded" == ended(budgets, limited, wait_for)["result"]["exc_type"]
    (tidied,) = budgets.journal.entries("tidied")
    assert "SoftTimeLimitExceeded" == tidied["error"]


def test_a_warm_shutdown_does_not_wait_for_a_runaway(make: Make, wait_for: WaitFor) -> None:
    """The loop has ended then, and the ceilings hold all the same."""
    budgets = make({"ceilings": {"task:*": {"runtime": "2s", "grace": "1s"}}})
    (worker,) = budgets.start()
    publish(budgets.sender().hoard, [("h", 1, True)])
    wait_for(lambda: budgets.times("begun", "h") != [], what="the task")

    assert 0 == worker.stop(timeout_s=20)
    assert "is stopped: runtime" in worker.log


def test_a_pool_that_cannot_stop_a_task_says_so(make: Make) -> None:
    """A ceiling that silently does not hold is worse than none."""
    budgets = make({"ceilings": {"task:*": {"memory": MEMORY}}})
    (worker,) = budgets.start(pool="threads")

    assert "--pool prefork" in worker.log


def test_a_ceiling_below_what_a_child_begins_with_is_told(make: Make) -> None:
    """Every task would be stopped, each with a reason that looks like its own."""
    budgets = make({"ceilings": {"task:*": {"memory": "1MiB"}}})
    (worker,) = budgets.start()

    assert "The lowest ceiling of memory is 1MiB" in worker.log
    assert psutil.Process(worker.pid).memory_info().rss > MIB
    assert os.getpid() != worker.pid
