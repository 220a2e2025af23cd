"""What tasks and publishers of a run leave behind for the runner, in files of its directory.

Each task of an overload run appends one line; each publisher writes when it began and ended.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Published:
    """When a publisher's first publish began and its last one ended, monotonic seconds."""

    begun: float
    ended: float


@dataclass(frozen=True, slots=True)
class Record:
    """One task that ran to its end.

    Attributes:
        band: Band it was published for.
        published: When `apply_async` was called, seconds on the machine's monotonic clock.
        started: When its body was reached, same clock.
        ended: When its body returned, same clock.
    """

    band: str
    published: float
    started: float
    ended: float

    @property
    def wait_s(self) -> float:
        """Time from publish to start of body."""
        return self.started - self.published


class Journal:
    """Writes the records of one process, one `write` call each."""

    def __init__(self, directory: Path) -> None:
        path = directory / f"{os.getpid()}.records"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, band: str, published: float, started: float, ended: float) -> None:
        """Append one task."""
        os.write(self._file, f"{band} {published!r} {started!r} {ended!r}\n".encode())


def read_records(directory: Path, pid: int | None = None) -> list[Record]:
    """Collect what one process, or all of one run, wrote; in no order."""
    lines = (
        line.split()
        for path in directory.glob(f"{'*' if pid is None else pid}.records")
        for line in path.read_text().splitlines()
    )
    return [Record(band, float(p), float(s), float(e)) for band, p, s, e in lines]


def write_published(directory: Path, kind: str, published: Published) -> None:
    """Leave a publisher's times; they appear all at once."""
    draft = directory / f"{kind}.draft"
    draft.write_text(f"{published.begun!r} {published.ended!r}")
    draft.rename(directory / f"{kind}.published")


def read_published(directory: Path, kind: str) -> Published | None:
    """Give a publisher's times, or None as long as it publishes."""
    try:
        begun, ended = (directory / f"{kind}.published").read_text().split()
    except FileNotFoundError:
        return None
    return Published(float(begun), float(ended))
