"""What the kernel tells of a process or a thread: CPU time, peak memory, storage traffic.

One system call answers all three, `getrusage`, for the process and for its children that have
ended; the clock of the process is quicker for its CPU time alone. Called by `child/meter.py` at
both ends of an execution.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage, struct_rusage
from time import process_time_ns, thread_time_ns
from typing import Any, Protocol

from celery_budget.board import PoolKind

#: Of `ru_maxrss`; only macOS counts bytes.
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1_024

#: Of `ru_inblock` and `ru_oublock` on Linux: read_bytes and write_bytes of /proc/self/io,
#: whatever the block size of the file system.
_BLOCK_BYTES = 512

#: There exactly where the kernel counts storage traffic; without, the blocks above stay 0.
_ACCOUNTING = Path("/proc/self/io")

_CLEAR_REFS = "/proc/self/clear_refs"
_RESET_PEAK = b"5"

#: A quarter more. The kernel counts resident pages for each processor and adds them up now and
#: then: by tens of MiB too late on large machines, and the peak a child was born with, taken
#: for its own, would double that of the process.
_CLEARLY = 1.25

#: CPU time in µs, peak memory in bytes, storage traffic in bytes; None stands for unknown.
#: A bare tuple: one is made for each task.
Reading = tuple[int | None, int | None, int | None]


class Gauge(Protocol):
    """Measures since `start`; what that returns belongs to one execution."""

    def start(self) -> Any:
        """Begin to measure."""
        ...

    def since(self, mark: Any) -> Reading:
        """Tell what was used since `mark`; while the execution runs, and when it has ended."""
        ...


def gauge(kind: PoolKind, resources: Collection[str]) -> Gauge | None:
    """Choose what can be and has to be read; None: nothing.

    Args:
        kind: Of the pool that runs the tasks.
        resources: Names of the resources that the policy speaks of.
    """
    if kind is PoolKind.PREFORK:
        wanted = {"cpu", "memory", "io"}.intersection(resources)
        return ProcessGauge(wanted) if wanted else None
    if kind is not PoolKind.GREEN and "cpu" in resources:
        return ThreadGauge()
    return None


#: Whether the peak was set back, the process and its ended children, CPU nanoseconds.
Mark = tuple[bool, struct_rusage | None, struct_rusage, int]


class ProcessGauge:
    """Measures a process that runs one task at a time, and the children that the task waits for.

    Peak memory is that of the whole process: what it held before the task and pages that it
    shares with others count, as they do for whoever limits the process. The kernel's high-water
    mark is set back at the start; where it cannot be, a peak is known only if it is the highest
    so far.

    A child's peak is added if it is the highest of all children so far and clearly above the
    process's own: a child is born with the peak of the process that bore it, so that a lower one
    says nothing.
    """

    def __init__(self, resources: Collection[str]) -> None:
        self._cpu = "cpu" in resources
        self._memory = "memory" in resources
        self._io = "io" in resources and _ACCOUNTING.exists()
        # Ended children as of the last reading, which is the end of an execution when the next
        # one starts; one that is waited for between the two counts for the later one, and a
        # system call is saved.
        self._others: struct_rusage | None = None

    def start(self) -> Mark:
        """Set the high-water mark back and note the rest."""
        is_reset = self._memory and _reset_peak()
        own = getrusage(RUSAGE_SELF) if self._memory or self._io else None
        return is_reset, own, self._others or getrusage(RUSAGE_CHILDREN), process_time_ns()

    def since(self, mark: Mark) -> Reading:
        """Subtract."""
        is_reset, own, others, time_ns = mark
        cpu = peak = io = None
        if self._cpu:
            cpu = (process_time_ns() - time_ns) // 1_000
        others_now = self._others = getrusage(RUSAGE_CHILDREN)
        if cpu is not None:
            seconds = others_now.ru_utime + others_now.ru_stime - others.ru_utime - others.ru_stime
            cpu += max(0, round(seconds * 1e6))
        if own is None:
            return cpu, None, None
        own_now = getrusage(RUSAGE_SELF)
        if self._memory and (is_reset or own_now.ru_maxrss > own.ru_maxrss):
            peak = own_now.ru_maxrss
            if others_now.ru_maxrss > max(_CLEARLY * peak, others.ru_maxrss):
                peak += others_now.ru_maxrss
            peak *= _MAXRSS_BYTES
        if self._io:
            blocks = _blocks(own_now) + _blocks(others_now) - _blocks(own) - _blocks(others)
            io = max(0, blocks) * _BLOCK_BYTES
        return cpu, peak, io


class ThreadGauge:
    """Measures the CPU time of one thread; threads that it starts are not seen."""

    def start(self) -> int:
        """Note the thread's CPU time, nanoseconds."""
        return thread_time_ns()

    def since(self, mark: int) -> Reading:
        """Subtract."""
        return (thread_time_ns() - mark) // 1_000, None, None


def _blocks(usage: struct_rusage) -> int:
    return usage.ru_inblock + usage.ru_oublock


def _reset_peak() -> bool:
    """Set the process's high-water mark back to what it holds now; tell whether that worked."""
    try:
        # Opened each time: a body may close descriptors that it does not know, and the number
        # of a kept one would then be that of a file of its own.
        clear_refs = os.open(_CLEAR_REFS, os.O_WRONLY)
        try:
            os.write(clear_refs, _RESET_PEAK)
        finally:
            os.close(clear_refs)
    except OSError:
        return False
    return True
