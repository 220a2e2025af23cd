"""Metering against what the kernel says itself, in children of a real prefork pool."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from statistics import median

import pytest
from billiard import current_process
from billiard.pool import Pool
from celery import Celery
from celery.app.trace import build_tracer

from celery_budget import budget
from celery_budget.board import PoolKind, SharedBoard, Usage
from celery_budget.child.meter import connect
from tests.conftest import WaitFor

# The pool forks as Celery's does; pytest's own threads do not matter to its children.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

RESOURCES = ("cpu", "io", "memory", "tokens", "usd")
MIB = 2**20

linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own numbers are in /proc")

_runs = count(1)
app = Celery("metering", set_as_current=False)


def _cpu_s() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN))
    )


def _status(field: str) -> int:
    """Bytes of a field of the process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1_024 for line in lines if line.startswith(f"{field}:"))


def _io() -> int:
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"]) + int(lines["write_bytes"])


@app.task(shared=False)
def spin(cpu_s: float) -> None:
    """Use CPU time, half of it in the kernel's mode."""
    end = time.process_time() + cpu_s
    while time.process_time() < end:
        os.sched_yield()


@app.task(shared=False)
def spin_elsewhere(cpu_s: float) -> None:
    """Let another program use CPU time."""
    code = f"import time\nwhile time.process_time() < {cpu_s}: pass"
    subprocess.run([sys.executable, "-S", "-c", code], check=True)


@app.task(shared=False)
def allocate(mib: int) -> int:
    """Hold memory and let it go; tell the kernel's own high-water mark."""
    held = bytearray(mib * MIB)
    held[::4_096] = b"1" * len(held[::4_096])
    del held
    return _status("VmHWM")


@app.task(shared=False)
def allocate_elsewhere(mib: int) -> int:
    """Let another program hold memory; tell what that and this had at most."""
    code = (
        f"held = bytearray(b'1') * ({mib} << 20)\n"
        "print(next(l.split()[1] for l in open('/proc/self/status') if 'VmHWM' in l))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return int(done.stdout) * 1_024 + _status("VmHWM")


@app.task(shared=False)
def start_small() -> int:
    """Run a program that needs next to nothing."""
    subprocess.run(["true"], check=True)
    return _status("VmHWM")


@app.task(shared=False)
def write(path: str, mib: int) -> int:
    """Write to storage; tell what the kernel counted."""
    before = _io()
    with Path(path).open("wb") as file:
        file.write(os.urandom(mib * MIB))
        file.flush()
        os.fsync(file.fileno())
    return _io() - before


@app.task(shared=False)
def write_elsewhere(path: str, mib: int) -> int:
    """Let another program write to storage."""
    before = _io()
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={mib}", "conv=fsync"],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return _io() - before


@app.task(shared=False)
def spend(usd: str, tokens: int) -> None:
    """Charge in steps."""
    for _ in range(4):
        budget.charge(usd=usd)
    budget.charge(tokens=tokens)


@app.task(shared=False)
def spend_and_die() -> None:
    """Be killed as the kernel kills who has taken too much memory."""
    budget.charge(usd=2)
    os.kill(os.getpid(), signal.SIGKILL)


def trace(name: str, args: tuple[object, ...]) -> tuple[int, float, object]:
    """Trace a task as Celery does; tell the child's number, CPU seconds used and what came out."""
    before = _cpu_s()
    task = app.tasks[f"{__name__}.{name}"]
    tracer = build_tracer(task.name, task, app=app)
    traced = tracer("id", args, {}, {"id": "id"})
    assert traced.info is None, traced.retval
    return current_process().index, _cpu_s() - before, traced.retval


class Metered:
    """A pool of one child under the meter."""

    def __init__(self) -> None:
        self.board = SharedBoard()
        self.call = connect(self.board, RESOURCES, PoolKind.PREFORK)
        self.pool = Pool(1, lost_worker_timeout=0.1)

    def start(self, task: Callable[..., object], *args: object) -> int:
        """Let the child begin a task; give the run's number."""
        run = next(_runs)
        self.pool.apply_async(self.call, (run, trace, task.__name__, args))
        return run

    def run(self, task: Callable[..., object], *args: object) -> tuple[Usage, float, int]:
        """Run a task; tell its usage, its CPU seconds by the kernel, and what it returned."""
        run = next(_runs)
        pending = self.pool.apply_async(self.call, (run, trace, task.__name__, args))
        index, cpu_s, value = pending.get(timeout=60)
        usage = self.board.read(run, index)
        assert usage is not None
        assert usage.is_final
        return usage, cpu_s, value


@pytest.fixture(scope="module")
def metered() -> Iterator[Metered]:
    """Start a metered pool."""
    made = Metered()
    yield made
    made.pool.terminate()


@pytest.fixture
def fresh() -> Iterator[Metered]:
    """Start a metered pool for one test."""
    made = Metered()
    yield made
    made.pool.terminate()


@pytest.mark.parametrize("cpu_s", [0.001, 0.01, 0.1, 0.5, 2.0])
def test_cpu_time_is_what_the_kernel_counted(metered: Metered, cpu_s: float) -> None:
    """A budget of CPU seconds is money where processors are rented."""

    def excess_us(spun_s: float) -> tuple[float, float]:
        """Run a few times; tell by how much the meter and the kernel differ, and the latter."""
        runs = [metered.run(spin, spun_s) for _ in range(1 if spun_s > 0.1 else 15)]
        return (
            median((usage.cpu_us or 0) - truth * 1e6 for usage, truth, _ in runs),
            median(truth * 1e6 for _, truth, _ in runs),
        )

    # What is around the tracer counts as well, and takes its time on a slow machine.
    around, _ = excess_us(0.0)
    excess, truth_us = excess_us(cpu_s)

    assert truth_us >= cpu_s * 1e6
    assert abs(excess - around) <= 0.03 * truth_us


def test_cpu_time_of_programs_that_a_task_waits_for_counts(metered: Metered) -> None:
    """Much heavy work is done by another program: ffmpeg, a compiler, a browser."""
    usage, truth, _ = metered.run(spin_elsewhere, 0.3)

    assert truth >= 0.3
    assert truth * 1e6 == pytest.approx(usage.cpu_us, rel=0.03)


@linux
def test_peak_memory_is_that_of_this_execution(metered: Metered) -> None:
    """A child that once ran a large task must not make all later ones look large."""
    # What the children were born with: this process has run other tests before.
    born = _status("VmRSS")
    for mib in (200, 64, 200, 8):
        usage, _, truth = metered.run(allocate, mib)

        assert usage.peak_bytes >= mib * MIB
        assert truth == pytest.approx(usage.peak_bytes, rel=0.05)
        assert usage.peak_bytes - mib * MIB < born + 50 * MIB


@linux
def test_peak_memory_of_a_larger_program_is_added(metered: Metered) -> None:
    """The machine holds both at once."""
    usage, _, truth = metered.run(allocate_elsewhere, 400)

    assert truth >= 400 * MIB
    assert truth == pytest.approx(usage.peak_bytes, rel=0.05)


@linux
def test_a_small_program_does_not_double_the_peak(fresh: Metered) -> None:
    """The kernel says of it that it had as much as the process that started it."""
    usage, _, truth = fresh.run(start_small)

    assert truth == pytest.approx(usage.peak_bytes, rel=0.05)


@linux
@pytest.mark.parametrize("task", [write, write_elsewhere])
def test_io_is_what_went_to_storage(
    metered: Metered, task: Callable[..., object], tmp_path: Path
) -> None:
    """By the task and by the programs that it waits for. On a RAM disk nothing does."""
    usage, _, truth = metered.run(task, str(tmp_path / "file"), 5)

    # What is around the body may read a page of a module.
    assert truth == pytest.approx(usage.io_bytes, abs=MIB)
    assert usage.io_bytes >= 5 * MIB or not truth


def test_charges_come_back_from_a_child(metered: Metered) -> None:
    """In the order of the policy's resources, without the metered ones."""
    usage, _, _ = metered.run(spend, "0.03", 1500)

    assert (1_500_000_000, 120_000, 0) == usage.charges[:3]


def test_a_killed_child_leaves_what_was_known(fresh: Metered, wait_for: WaitFor) -> None:
    """What it had charged is spent, and the next child in its place must not hide it."""
    run = fresh.start(spend_and_die)
    wait_for(
        lambda: (usage := fresh.board.read(run, 0)) is not None and usage.charges[1] > 0,
        what="the task to charge",
    )
    lost = fresh.board.read(run, 0)
    wait_for(
        lambda: [child.pid for child in fresh.pool._pool] != [lost.pid],
        what="the child to be replaced",
    )
    fresh.run(spin, 0.001)

    assert lost == fresh.board.read(run, 0)
    assert (False, 2_000_000, None) == (lost.is_final, lost.charges[1], lost.cpu_us)
    assert lost.started_ns < time.monotonic_ns()
