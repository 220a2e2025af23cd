"""The board of a pool whose tasks run in the worker's own process; see `board.py`."""

from __future__ import annotations

from collections import deque

from celery_budget.board import CHARGES, MOST, Flag, Usage

#: Executions that a `LocalBoard` remembers. Nobody looks for one that long after its end.
REMEMBERED = 4_096


class LocalBoard:
    """A cell for each execution of a pool whose tasks run in the worker's own process."""

    def __init__(self) -> None:
        self._cells: dict[int, LocalCell] = {}
        self._ended: deque[LocalCell] = deque()

    def begin(self, run: int, index: int | None, started_ns: int, pid: int) -> LocalCell:
        """Make a cell, and forget an execution that ended long ago."""
        del index
        if len(self._ended) > REMEMBERED:
            old = self._ended.popleft()
            if self._cells.get(old.run) is old:  # else the same attempt was delivered again
                del self._cells[old.run]
        cell = self._cells[run] = LocalCell(run, started_ns, pid, self._ended)
        return cell

    def read(self, run: int, index: int | None) -> Usage | None:
        """Read an execution that runs or ended lately."""
        del index
        cell = self._cells.get(run)
        return None if cell is None else cell.usage()

    def put(self, flag: Flag, run: int, index: int | None) -> bool:
        """Put up a flag for an execution that has begun."""
        del index
        cell = self._cells.get(run)
        if cell is None:
            return False
        cell.flags.add(flag)
        return True

    def take(self, flag: Flag, run: int, index: int | None) -> None:
        """Take it down."""
        del index
        cell = self._cells.get(run)
        if cell is not None:
            cell.flags.discard(flag)


class LocalCell:
    """What an execution in the worker's own process has used."""

    __slots__ = ("_charges", "_ended", "_pid", "_started_ns", "_used", "flags", "run")

    def __init__(self, run: int, started_ns: int, pid: int, ended: deque[LocalCell]) -> None:
        self.run = run
        self.flags: set[Flag] = set()
        self._started_ns = started_ns
        self._pid = pid
        self._ended = ended
        self._charges = [0] * CHARGES
        self._used: tuple[int, int | None, int | None, int | None] | None = None

    def charge(self, position: int, units: int) -> None:
        """Add to what it charged."""
        self._charges[position] = min(MOST, self._charges[position] + units)

    def charges(self) -> tuple[int, ...]:
        """Tell what it charged so far."""
        return tuple(self._charges)

    def finish(
        self, wall_us: int, cpu_us: int | None, peak_bytes: int | None, io_bytes: int | None
    ) -> None:
        """Keep what it used."""
        self._used = (wall_us, cpu_us, peak_bytes, io_bytes)
        self._ended.append(self)

    def has(self, flag: Flag) -> bool:
        """Tell whether a flag is up."""
        return flag in self.flags or (flag is Flag.DEGRADED and bool(self.run & 1))

    def usage(self) -> Usage:
        """Tell what it has used so far."""
        used = self._used
        wall, cpu, peak, io = used or (None, None, None, None)
        return Usage(
            used is not None, self._started_ns, self._pid, wall, cpu, peak, io, self.charges()
        )
