"""A process and the programs below it, seen from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from celery_budget.worker.tree import ProcessTree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

MIB = 2**20

#: Holds memory, says so, and lets a child of its own hold some as well.
_CODE = """
import os, sys
held = bytearray(b"1") * (40 << 20)
pid = os.fork()
if pid == 0:
    own = bytearray(b"1") * (20 << 20)
    end = sum(os.times()[:2]) + 0.2
    while sum(os.times()[:2]) < end:
        pass
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)
os.waitpid(pid, 0)
"""


@pytest.fixture
def program() -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with 40 MiB and a fork of it with 20 more, until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", _CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        yield running
        running.kill()
        assert running.stdin is not None
        running.stdin.close()


def test_memory_below_counts_and_what_is_shared_counts_once(
    program: subprocess.Popen[bytes],
) -> None:
    """A fork has the 40 MiB of its parent as well, and they are there once."""
    tree = ProcessTree(program.pid)
    own = psutil.Process(program.pid).memory_info().rss
    precise = tree.memory_bytes(0)
    coarse = tree.memory_bytes(own)

    assert precise is not None
    assert own == precise  # alone above the limit: nobody asks further
    assert coarse is not None
    assert 19 * MIB < coarse - own < 30 * MIB


def test_up_to_the_limit_nobody_asks_what_is_shared(program: subprocess.Popen[bytes]) -> None:
    """That is slow, and changes nothing there."""
    own = psutil.Process(program.pid).memory_info().rss

    assert own == ProcessTree(program.pid).memory_bytes(10**12)


def test_cpu_time_below_counts(program: subprocess.Popen[bytes]) -> None:
    """The parent has done nothing but wait."""
    used = ProcessTree(program.pid).cpu_us()

    assert used is not None
    assert used >= 190_000


def test_what_is_below_can_be_ended(program: subprocess.Popen[bytes]) -> None:
    """A program whose task is killed would run on for nobody."""
    (child,) = psutil.Process(program.pid).children()
    ProcessTree(program.pid).kill()

    assert psutil.wait_procs([child], timeout=30)[1] == []
    assert program.wait(timeout=30) == 0


def test_a_process_that_has_gone_tells_nothing() -> None:
    """It ends between two looks, whenever it likes."""
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    tree = ProcessTree(gone.pid)

    assert tree.cpu_us() is None
    assert tree.memory_bytes(0) is None
    tree.kill()


def test_the_worker_itself_can_be_asked() -> None:
    """Its children begin with about what it has."""
    own = ProcessTree(os.getpid()).memory_bytes(0)

    assert own is not None
    assert own > 10 * MIB
