"""The processors of a node, read from trees of files like the kernel's, and once from itself."""

from __future__ import annotations

import os
import sys
import time
from multiprocessing import Event, Process
from pathlib import Path

import pytest

from celery_budget.core.ticket import Ticket
from celery_budget.worker.processors import ProcessorGauge
from tests.unit.core.worker import ticket

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")


class Machine:
    """Control groups as a kernel has them.

    Args:
        folder: Where they are to be.
        own: What `/proc/self/cgroup` says.
    """

    def __init__(self, folder: Path, own: str) -> None:
        self.root = folder / "cgroup"
        self.own = folder / "own"
        self.own.write_text(own, encoding="ascii")

    def write(self, name: str, text: str) -> None:
        """Write one file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")

    def gauge(self) -> ProcessorGauge:
        """Read from here."""
        return ProcessorGauge(root=self.root, own=self.own)


def usable() -> int:
    """Tell on how many processors this process may run."""
    return len(os.sched_getaffinity(0))


def test_without_a_limit_it_has_those_on_which_it_may_run(tmp_path: Path) -> None:
    """Of a machine some may be for others."""
    machine = Machine(tmp_path, "0::/jobs\n")
    machine.write("jobs/cpu.max", "max 100000\n")
    every = os.sched_getaffinity(0)

    assert usable() == machine.gauge().look({}).processors
    os.sched_setaffinity(0, {min(every)})
    try:
        assert 1 == machine.gauge().look({}).processors
    finally:
        os.sched_setaffinity(0, every)


def test_a_container_may_use_no_more_than_its_group(tmp_path: Path) -> None:
    """The least of all above it; of these the use counts, and not that of the machine."""
    machine = Machine(tmp_path, "0::/jobs/worker\n")
    machine.write("jobs/cpu.max", "50000 100000\n")
    machine.write("jobs/cpu.stat", "usage_usec 1000000\nuser_usec 3\n")
    machine.write("jobs/worker/cpu.max", "max 100000\n")
    begun = time.monotonic()
    gauge = machine.gauge()
    machine.write("jobs/cpu.stat", "usage_usec 901000000\nuser_usec 3\n")
    use = gauge.look({})

    assert 0.5 == use.processors
    assert use.busy * (time.monotonic() - begun) >= 900


def test_older_groups_tell_it_in_other_files(tmp_path: Path) -> None:
    """Time in nanoseconds, and where there is no limit a quota below zero."""
    machine = Machine(tmp_path, "4:cpu,cpuacct:/jobs\n")
    machine.write("cpu/cpu.cfs_quota_us", "-1\n")
    machine.write("cpu/cpu.cfs_period_us", "100000\n")
    machine.write("cpu/jobs/cpu.cfs_quota_us", "25000\n")
    machine.write("cpu/jobs/cpu.cfs_period_us", "100000\n")
    machine.write("cpuacct/jobs/cpuacct.usage", "1000000000\n")
    gauge = machine.gauge()
    machine.write("cpuacct/jobs/cpuacct.usage", "901000000000\n")
    use = gauge.look({})

    assert 0.25 == use.processors
    assert use.busy > 1.0


@pytest.mark.parametrize("text", ["", "nonsense\n", "0 0\n"])
def test_a_file_that_says_nothing_is_no_limit(tmp_path: Path, text: str) -> None:
    """Nobody reads it but us, and nobody is to die of it."""
    machine = Machine(tmp_path, "0::/jobs\n")
    machine.write("jobs/cpu.max", text)

    assert usable() == machine.gauge().look({}).processors


def test_it_sees_who_computes(tmp_path: Path) -> None:
    """A child that does, one that waits, and one that has gone; nobody else did."""
    is_over = Event()
    busy, idle = Process(target=_compute, args=(is_over,)), Process(target=is_over.wait)
    gone = Process(target=int)
    gauge = Machine(tmp_path, "").gauge()
    for process in (busy, idle, gone):
        process.start()
    gone.join()
    pids: dict[Ticket, int] = {
        ticket("optional"): process.pid or 0 for process in (busy, idle, gone)
    }
    try:
        first = gauge.look(pids)
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            sum(range(1_000))
        use = gauge.look(pids)
    finally:
        is_over.set()
        for process in (busy, idle):
            process.join()

    computes, waits, _ = pids
    assert not first.tasks
    assert {computes, waits} == set(use.tasks)
    assert use.tasks[computes] > 0.1
    assert use.tasks[waits] < 0.05
    # This process is none of its tasks.
    assert 0 < use.busy - use.others <= use.tasks[computes] + 0.2


def _compute(is_over: Event) -> None:  # type: ignore[valid-type]
    while not is_over.is_set():  # type: ignore[attr-defined]
        sum(range(1_000))
