"""The node that a worker runs on, as the kernel tells of it: memory in use, and stalls.

A worker in a container has what its control group has; without a limit there, what the machine has.
Read by `worker/pressure.py`, off the main loop.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import psutil

from celery_budget.worker.cgroups import OWN, ROOT, folders
from celery_budget.worker.tree import ProcessTree

_PRESSURE = Path("/proc/pressure")


class Memory(NamedTuple):
    """Memory of a node, bytes.

    Attributes:
        used: What is in use and could not be dropped at once.
        limit: What there is.
    """

    used: int
    limit: int


class Reading(Protocol):
    """One way to learn of memory."""

    def read(self) -> Memory | None:
        """Read it; None where it cannot be read (any more)."""
        ...


class System:
    """Memory of the machine."""

    def read(self) -> Memory:
        """Read it."""
        found = psutil.virtual_memory()
        return Memory(found.total - found.available, found.total)


class Group:
    """Memory of a control group that has a limit.

    Args:
        folder: Of the group.
        limit, usage, cache: Names of the files with these, and of the line of `memory.stat` with
            file pages that nobody used lately, which the kernel drops before anything else.
    """

    def __init__(self, folder: Path, limit: str, usage: str, cache: str) -> None:
        self.folder = folder
        self._limit = limit
        self._usage = usage
        self._cache = cache

    def read(self) -> Memory | None:
        """Read it; None without a limit."""
        try:
            limit = int((self.folder / self._limit).read_text("ascii"))
            used = int((self.folder / self._usage).read_text("ascii"))
            for line in (self.folder / "memory.stat").read_text("ascii").splitlines():
                name, _, value = line.partition(" ")
                if name == self._cache:
                    return Memory(max(0, used - int(value)), limit)
        except (OSError, ValueError):  # it has gone, or says "max"
            return None
        return Memory(used, limit)


class Tree:
    """Memory of a worker and all below it, where it may use no more than that.

    Args:
        limit: Bytes.
    """

    def __init__(self, limit: int) -> None:
        self._tree = ProcessTree(os.getpid())
        self._limit = limit

    def read(self) -> Memory | None:
        """Read it."""
        used = self._tree.total_bytes()
        return None if used is None else Memory(used, self._limit)


class NodeGauge:
    """What a worker can tell of its node.

    Args:
        limit: Memory that the worker may use, bytes; None: whatever the node has.
        root: Where control groups are.
        own: Which ones this process is in.
        pressure: Where the kernel tells of stalls.
    """

    def __init__(
        self,
        limit: int | None = None,
        *,
        root: Path = ROOT,
        own: Path = OWN,
        pressure: Path = _PRESSURE,
    ) -> None:
        self._readings: list[Reading] = [System()]
        if limit is not None:
            self._readings = [Tree(limit)]
        groups = list(_groups(root, own))
        if limit is None:
            self._readings += groups
        folders = [group.folder for group in groups if (group.folder / "io.pressure").exists()]
        names = [folders[0] / f"{name}.pressure" for name in ("memory", "io")] if folders else []
        self._stalls = names or [pressure / name for name in ("memory", "io")]
        self._times = psutil.cpu_times()

    def memory(self) -> Memory:
        """Read the memory of the node: of several limits that which is nearest."""
        found = [reading.read() for reading in self._readings]
        return max((each for each in found if each), key=_part, default=System().read())

    def stall(self) -> float:
        """Tell in which part of the last seconds all that had work waited for memory or io.

        Of ten seconds, by the kernel (pressure stall information, Linux 4.20); where it has not
        that, the part since the last call in which processors were idle for io.
        """
        found = [stall for stall in map(_stalled, self._stalls) if stall is not None]
        before, self._times = self._times, psutil.cpu_times()
        if found:
            return max(found)
        total = sum(self._times) - sum(before)
        waited = getattr(self._times, "iowait", 0.0) - getattr(before, "iowait", 0.0)
        return min(1.0, max(0.0, waited / total)) if total > 0 else 0.0


def _part(memory: Memory) -> float:
    return memory.used / memory.limit if memory.limit else 0.0


def _groups(root: Path, own: Path) -> Iterator[Group]:
    """List the control groups that this process is in and that may have a limit, nearest first."""
    newer = ("memory.max", "memory.current", "inactive_file")
    older = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    for folder, is_newer in folders(root, own, "memory", newer[0], older[0]):
        yield Group(folder, *(newer if is_newer else older))


def _stalled(file: Path) -> float | None:
    """Read the part of the last ten seconds in which everything stalled; None: nobody tells."""
    try:
        for line in file.read_text("ascii").splitlines():
            kind, average, *_ = line.split()
            if kind == "full":
                return float(average.removeprefix("avg10=")) / 100
    except (OSError, ValueError):
        return None
    return None
