"""How many bodies have run, told by the bodies at under 1 µs a task and no system call.

Each thread that runs bodies owns one small mapped file with its count. The runner adds them up
from outside. Every variant pays the same, and nothing of it happens in the worker's main process.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from pathlib import Path

_LAYOUT = struct.Struct("=Q")


class _Cell(threading.local):
    """The mapped count of the calling thread."""

    def __init__(self, directory: Path) -> None:
        path = directory / f"{os.getpid()}-{threading.get_ident()}.cell"
        # Counts that are there stay: a thread may get the identity of one that has ended, and
        # threads that run their first bodies at once may make a marker each.
        with path.open("ab") as file:
            file.truncate(_LAYOUT.size)
        with path.open("r+b") as file:
            self.count = memoryview(mmap.mmap(file.fileno(), _LAYOUT.size)).cast("Q")


class Marker:
    """Counts bodies; made in the process that runs them, after any fork."""

    def __init__(self, directory: Path) -> None:
        self._cell = _Cell(directory)

    def mark(self) -> None:
        """Count one body."""
        self._cell.count[0] += 1


def read_progress(directory: Path) -> int:
    """Add up the bodies that the workers of one run have run so far."""
    contents = (path.read_bytes() for path in directory.glob("*.cell"))
    # A cell that was just created is still empty.
    return sum(_LAYOUT.unpack(data)[0] for data in contents if len(data) == _LAYOUT.size)
