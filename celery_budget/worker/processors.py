"""The processors of the node that a worker runs on: how many there are, and who keeps them busy.

A worker in a container has what its control group may use; without a limit there, those of the
machine on which it may run. Read by `worker/pressure.py`, off the main loop.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from time import monotonic

import psutil

from celery_budget.core.processors import Use
from celery_budget.core.ticket import Ticket
from celery_budget.worker.cgroups import OWN, ROOT, folders
from celery_budget.worker.tree import ProcessTree


class _Group:
    """Processor time of a control group that may use no more than so much of it.

    Args:
        folder: Of the group.
        is_newer: Whether it is of version 2.
        root: Of all groups.
    """

    def __init__(self, folder: Path, root: Path, *, is_newer: bool) -> None:
        self._folder = folder
        self._is_newer = is_newer
        self._usage = folder / "cpu.stat"
        if not is_newer:
            self._usage = root / "cpuacct" / folder.relative_to(root / "cpu") / "cpuacct.usage"

    def limit(self) -> float | None:
        """Tell how many processors it may use at once; None without a limit."""
        try:
            if self._is_newer:
                quota, period = (self._folder / "cpu.max").read_text("ascii").split()
            else:
                quota = (self._folder / "cpu.cfs_quota_us").read_text("ascii")
                period = (self._folder / "cpu.cfs_period_us").read_text("ascii")
            limit = int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):  # it says "max", or has gone
            return None
        return limit if limit > 0 else None

    def used_s(self) -> float | None:
        """Tell how long processors were in use by it, seconds; None where nothing tells."""
        try:
            text = self._usage.read_text("ascii")
            if not self._is_newer:
                return int(text) / 1e9
            for line in text.splitlines():
                name, _, value = line.partition(" ")
                if name == "usage_usec":
                    return int(value) / 1e6
        except (OSError, ValueError):
            return None
        return None


class ProcessorGauge:
    """What a worker can tell of its node's processors.

    Args:
        root: Where control groups are.
        own: Which ones this process is in.
    """

    def __init__(self, *, root: Path = ROOT, own: Path = OWN) -> None:
        self._groups = [
            _Group(folder, root, is_newer=is_newer)
            for folder, is_newer in folders(root, own, "cpu", "cpu.max", "cpu.cfs_quota_us")
        ]
        self._process = psutil.Process()
        self._tree = ProcessTree(os.getpid())
        self._tasks: dict[Ticket, float] = {}
        self._read()

    def _read(self) -> None:
        self._at = monotonic()
        self._processors, self._busy_s = self._node()
        self._own_s = self._of_tasks_s()

    def _node(self) -> tuple[float, float]:
        """Tell how many processors there are, and how long they were in use, seconds."""
        usable = _usable()
        limits = [(limit, group) for group in self._groups if (limit := group.limit()) is not None]
        if limits:
            limit, group = min(limits, key=lambda each: each[0])
            used_s = group.used_s()
            if limit < len(usable) and used_s is not None:
                return limit, used_s
        times = psutil.cpu_times(percpu=True)
        seen = [times[number] for number in usable if number < len(times)]
        return len(usable), sum(
            sum(each) - each.idle - getattr(each, "iowait", 0.0) for each in seen
        )

    def _of_tasks_s(self) -> float:
        """Tell how long this worker's children have used processors, seconds."""
        total_us = self._tree.cpu_us()
        times = self._process.cpu_times()
        return 0.0 if total_us is None else total_us / 1e6 - times.user - times.system

    def look(self, pids: Mapping[Ticket, int]) -> Use:
        """Tell what was in use since the last look.

        Args:
            pids: Of the children that run tickets.
        """
        since, busy_s, own_s = self._at, self._busy_s, self._own_s
        self._read()
        passed_s = max(self._at - since, 1e-6)
        busy = max(0.0, self._busy_s - busy_s) / passed_s
        others = max(0.0, busy - max(0.0, self._own_s - own_s) / passed_s)
        before, self._tasks = self._tasks, {}
        used: dict[Ticket, float] = {}
        for ticket, pid in pids.items():
            cpu_us = ProcessTree(pid).cpu_us()
            if cpu_us is None:
                continue
            self._tasks[ticket] = cpu_us / 1e6
            if ticket in before:
                used[ticket] = max(0.0, self._tasks[ticket] - before[ticket]) / passed_s
        return Use(self._processors, busy, others, used)


def _usable() -> list[int]:
    """List the numbers of the processors on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
