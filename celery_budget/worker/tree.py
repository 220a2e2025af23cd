"""A child of the pool and the programs below it, measured from outside.

Reads only what the kernel tells of processes; sampled by `worker/ceilings.py`, off the main loop.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

import psutil

#: Programs below one child that are looked at. More cost a sample tens of milliseconds, and what
#: starts more has other trouble than its ceiling.
MOST_PROGRAMS = 256

#: Whether the kernel lists a thread's children (CONFIG_PROC_CHILDREN, in the kernels of all large
#: distributions). Else psutil asks every process of the machine for its parent: 30 us each.
_HAS_LISTS = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists()

_MICROS = 1_000_000


class ProcessTree:
    """One child of the pool; `None` from a method: it has gone, or may not be looked at.

    Args:
        pid: Of the child.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._root: psutil.Process | None
        try:
            self._root = psutil.Process(pid)
        except psutil.Error:
            self._root = None

    def cpu_us(self) -> int | None:
        """Tell the CPU time of the child and all that is below it, since they began."""
        if self._root is None:
            return None
        try:
            total = _cpu_s(self._root)
        except psutil.Error:
            return None
        for program in self._programs():
            try:
                total += _cpu_s(program)
            except psutil.Error:
                continue  # has ended: its parent's time has its own from now on
        return int(total * _MICROS)

    def memory_bytes(self, limit: int) -> int | None:
        """Tell what the child and all that is below it hold resident.

        Pages that a program below shares with others, as a fork shares its parent's, count once.
        To know them is slow, so below `limit` they count in each.

        Args:
            limit: Up to which it does not matter.
        """
        own = self._own_bytes()
        programs = [] if own is None else self._programs()
        if own is None or own > limit or not programs:
            return own
        if own + sum(_resident(program) for program in programs) <= limit:
            return own
        return own + sum(_private(program) for program in programs)

    def total_bytes(self) -> int | None:
        """Tell what the process and all below it hold resident, shared pages counted once."""
        own = self._own_bytes()
        return None if own is None else own + sum(map(_private, self._programs()))

    def _own_bytes(self) -> int | None:
        """Tell what the process itself holds resident."""
        if self._root is None:
            return None
        try:
            return int(self._root.memory_info().rss)
        except psutil.Error:
            return None

    def kill(self) -> None:
        """End the programs below the child; the child itself is its pool's."""
        for program in self._programs():
            try:
                program.kill()
            except psutil.Error:
                continue  # has ended, or is not ours to end

    def _programs(self) -> list[psutil.Process]:
        """List what is below the child."""
        if not _HAS_LISTS:
            try:
                assert self._root is not None
                return self._root.children(recursive=True)[:MOST_PROGRAMS]
            except psutil.Error:
                return []
        found: list[psutil.Process] = []
        waiting = deque([self.pid])
        while waiting and len(found) < MOST_PROGRAMS:
            for pid in _children(waiting.popleft()):
                waiting.append(pid)
                try:
                    found.append(psutil.Process(pid))
                except psutil.Error:
                    continue
        return found


def has_programs(pid: int) -> bool:
    """Tell whether a process has started others that have not ended."""
    if _HAS_LISTS:
        return bool(_children(pid))
    try:
        return bool(psutil.Process(pid).children())
    except psutil.Error:
        return False  # has ended


def _children(pid: int) -> list[int]:
    """List the children of a process, whichever of its threads started them."""
    pids: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            pids.extend(map(int, (thread / "children").read_text("ascii").split()))
    except OSError:
        return pids  # has ended
    return pids


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(times.user + times.system + ended)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _private(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().uss)
    except psutil.Error:
        return _resident(process)
