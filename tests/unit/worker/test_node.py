"""What the kernel tells of a node, read from trees of files like its own, and once from itself."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from celery_budget.worker.node import NodeGauge

MIB = 2**20
GIB = 2**30


class Machine:
    """Files as a kernel has them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.own = folder / "own"
        self.pressure = folder / "pressure"
        self.write("own", "")

    def write(self, name: str, text: str) -> None:
        """Write one file."""
        path = self.own.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")

    def group(self, name: str, limit: int | str, used: int, cache: int = 0) -> None:
        """Make a control group of version 2."""
        self.write(f"cgroup/{name}/memory.max", f"{limit}\n")
        self.write(f"cgroup/{name}/memory.current", f"{used}\n")
        self.write(f"cgroup/{name}/memory.stat", f"anon 1\ninactive_file {cache}\nslab 2\n")

    def group_v1(self, name: str, limit: int, used: int, cache: int = 0) -> None:
        """Make a control group of version 1."""
        self.write(f"cgroup/memory/{name}/memory.limit_in_bytes", f"{limit}\n")
        self.write(f"cgroup/memory/{name}/memory.usage_in_bytes", f"{used}\n")
        stat = f"inactive_file 5\ntotal_inactive_file {cache}\n"
        self.write(f"cgroup/memory/{name}/memory.stat", stat)

    def gauge(self, limit: int | None = None) -> NodeGauge:
        """Read from here."""
        return NodeGauge(limit, root=self.root, own=self.own, pressure=self.pressure)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without control groups."""
    return Machine(tmp_path)


def test_the_machine_alone(machine: Machine) -> None:
    """Where no group has a limit."""
    memory = machine.gauge().memory()

    assert psutil.virtual_memory().total == memory.limit
    assert 0 < memory.used < memory.limit


@pytest.mark.parametrize("name", ["", "jobs", "jobs/worker"])
def test_a_limit_of_any_group_above_holds(name: str, machine: Machine) -> None:
    """As in a container, where the group is the root, and on a host where it is far below."""
    machine.write("own", "0::/jobs/worker\n")
    machine.group("jobs/worker", "max", 1)
    machine.group(name, 200 * MIB, 190 * MIB, cache=10 * MIB)

    assert (180 * MIB, 200 * MIB) == machine.gauge().memory()


def test_a_group_of_version_1(machine: Machine) -> None:
    """As in containers of that time: the name is the host's, and the folder is not there."""
    machine.write("own", "5:cpu:/docker/4711\n4:memory:/docker/4711\n1:name=systemd:/\n")
    machine.group_v1("", 300 * MIB, 290 * MIB, cache=20 * MIB)

    assert (270 * MIB, 300 * MIB) == machine.gauge().memory()


def test_the_nearest_limit_counts(machine: Machine) -> None:
    """Of nested groups, and of the machine itself."""
    machine.write("own", "0::/jobs/worker\n")
    machine.group("jobs/worker", 400 * MIB, 390 * MIB)
    machine.group("jobs", 100 * GIB, 99 * GIB)

    assert (99 * GIB, 100 * GIB) == machine.gauge().memory()


def test_a_worker_may_be_given_less(machine: Machine) -> None:
    """Then its own processes count, whatever else is in its group."""
    machine.write("own", "0::/jobs\n")
    machine.group("jobs", 400 * MIB, 390 * MIB)
    memory = machine.gauge(10 * GIB).memory()

    assert 10 * GIB == memory.limit
    assert psutil.Process().memory_info().rss // 2 < memory.used < 8 * GIB


def test_a_group_that_goes_is_no_reason_to_stop(machine: Machine) -> None:
    """The machine is still there."""
    machine.write("own", "0::/jobs\n")
    machine.group("jobs", 400 * MIB, 390 * MIB)
    gauge = machine.gauge()
    machine.write("cgroup/jobs/memory.current", "what?")

    assert psutil.virtual_memory().total == gauge.memory().limit


STALLS = "some avg10=80.00 avg60=1.00 avg300=0.00 total=9\nfull avg10={} avg60=0.0 total=7\n"


def test_the_worse_stall_counts(machine: Machine) -> None:
    """Of memory and of io; that all wait, not that some do."""
    machine.write("pressure/memory", STALLS.format("12.50"))
    machine.write("pressure/io", STALLS.format("40.00"))

    assert 0.4 == machine.gauge().stall()


def test_a_container_is_asked_for_its_own_stalls(machine: Machine) -> None:
    """Not for those of its neighbours."""
    machine.write("own", "0::/jobs\n")
    machine.group("jobs", 400 * MIB, 390 * MIB)
    machine.write("cgroup/jobs/memory.pressure", STALLS.format("3.00"))
    machine.write("cgroup/jobs/io.pressure", STALLS.format("2.00"))
    machine.write("pressure/io", STALLS.format("90.00"))

    assert 0.03 == machine.gauge().stall()


def test_without_the_kernels_word_the_idle_processors_tell(machine: Machine) -> None:
    """A share, whatever the machine does meanwhile."""
    gauge = machine.gauge()

    assert 0.0 <= gauge.stall() <= 1.0


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc and /sys")
def test_this_machine() -> None:
    """Whatever it has."""
    gauge = NodeGauge()
    memory = gauge.memory()

    assert 0 < memory.used < memory.limit <= psutil.virtual_memory().total
    assert 0.0 <= gauge.stall() <= 1.0
