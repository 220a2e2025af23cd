"""The board: what a worker's main process and the executions of tasks see of each other.

An execution writes what it uses, the main process reads it and puts up flags. Children of the
prefork pool share one piece of memory with the main process, `SharedBoard`; pools inside the
process use a `LocalBoard` (`local_board.py`). Nothing here waits, locks or calls the kernel.

`child/meter.py` writes, the worker's main process reads. Times are the machine's monotonic
clock, which its processes share.
"""

from __future__ import annotations

from array import array
from enum import StrEnum
from mmap import mmap
from struct import Struct
from typing import NamedTuple, Protocol

#: Children of one worker that have a cell. Pages that no child touches cost nothing, and an
#: execution in a child beyond is not metered.
CELLS = 1_024

#: Resources that one execution can charge: a policy may name 16 of its own, and `network`. The
#: rest keeps the halves of a cell on cache lines of their own.
CHARGES = 24

#: What every pool measures or counts by itself; all else that a policy names is charged.
METERED = frozenset({"starts", "slots", "cpu", "memory", "io", "runtime"})

#: Most units of one resource that an execution can use; larger numbers lose digits in Lua.
MOST = 2**53 - 1

#: Length of what a child's execution can be told before it has to end: a resource, two numbers
#: and the place of a rule.
NOTICE_BYTES = 512

#: What a pool gets for the result of an execution that left its slot, to be run again later.
YIELDED = "celery-budget: yielded"

_RUNNING, _FINAL = 1, 2
_UNKNOWN = 2**64 - 1
_FIELDS = 8  # run, state, started_ns, pid, wall_us, cpu_us, peak_bytes, io_bytes
_HALF = _FIELDS + CHARGES
_HEAD = 8  # turn, then the flags
_WORD = 8
_NOTICE = _HEAD + 2 * _HALF
_CELL = _NOTICE + NOTICE_BYTES // _WORD
_FOUR, _ALL = Struct("@4Q"), Struct(f"@{_HALF}Q")
#: In the order of their fields.
_MEASURED = ("runtime", "cpu", "memory", "io")
_NOTHING = memoryview(array("Q", [_UNKNOWN] * 4 + [0] * CHARGES))  # from wall_us on


class PoolKind(StrEnum):
    """How a pool runs tasks, which decides what can be metered."""

    PREFORK = "prefork"
    THREADS = "threads"
    SOLO = "solo"
    GREEN = "green"


class Flag(StrEnum):
    """What the main process tells an execution."""

    YIELD = "yield"
    DEGRADED = "degraded"
    STOP = "stop"
    EVICT = "evict"


_FLAGS = {Flag.YIELD: 1, Flag.DEGRADED: 2, Flag.STOP: 3, Flag.EVICT: 4}  # words of the cell's head


class Usage(NamedTuple):
    """What one execution has used; a tuple, as one is read for each execution.

    None stands for unknown: the pool cannot meter it, the policy does not name it, the kernel
    would not tell, or the execution has not ended.

    Attributes:
        is_final: Whether the execution has ended; until then only charges grow.
        started_ns: When it began, nanoseconds of the monotonic clock.
        pid: The process it runs in.
        wall_us: Microseconds from begin to end.
        cpu_us: Microseconds of CPU time, in user and kernel mode.
        peak_bytes: Most memory the process held resident meanwhile.
        io_bytes: Bytes read from and written to storage.
        charges: Units that it charged, in the order of `charged`.
    """

    is_final: bool
    started_ns: int
    pid: int
    wall_us: int | None
    cpu_us: int | None
    peak_bytes: int | None
    io_bytes: int | None
    charges: tuple[int, ...]

    def units(self, charged: tuple[str, ...]) -> dict[str, int]:
        """Tell what is known of it, by resource: bytes, or millionths of all else.

        Args:
            charged: Names of what it can charge, in the order of `charges`.
        """
        measured = zip(_MEASURED, self[3:7], strict=True)
        known = {resource: units for resource, units in measured if units is not None}
        if charged:
            known.update(zip(charged, self.charges, strict=False))
        return known


class Cell(Protocol):
    """Where one execution writes; only its own thread does."""

    def charge(self, position: int, units: int) -> None:
        """Add to what it charged; at most `MOST` in all."""
        ...

    def charges(self) -> tuple[int, ...]:
        """Tell what it charged so far, in the order of `charged`."""
        ...

    def finish(
        self, wall_us: int, cpu_us: int | None, peak_bytes: int | None, io_bytes: int | None
    ) -> None:
        """Write what it used: the execution has ended."""
        ...

    def has(self, flag: Flag) -> bool:
        """Tell whether the main process has put up a flag for this execution."""
        ...


class Board(Protocol):
    """Both kinds of board.

    `run` numbers an execution: 64 bits, not 0, and chosen by the main process, so that another
    delivery of the same attempt of a task is another run. An odd one is degraded from the start:
    which child will run it is not known before it has begun. `index` is the number of the child
    that runs it; None in pools without children, and for a reader when the child has gone.
    """

    def begin(self, run: int, index: int | None, started_ns: int, pid: int) -> Cell | None:
        """Open a cell for an execution; None where the board has none for this child."""
        ...

    def read(self, run: int, index: int | None) -> Usage | None:
        """Read what an execution has used; None when it has not begun or was overwritten."""
        ...

    def put(self, flag: Flag, run: int, index: int | None) -> bool:
        """Put up a flag for one execution; others in the same child do not see it.

        Returns:
            False where the execution has no cell (yet).
        """
        ...

    def take(self, flag: Flag, run: int, index: int | None) -> None:
        """Take a flag down again."""
        ...


def charged(resources: tuple[str, ...]) -> tuple[str, ...]:
    """List the resources that tasks charge; their place is that in `Usage.charges`.

    Args:
        resources: All that the policy names; at most `CHARGES` of them not metered.
    """
    return tuple(resource for resource in resources if resource not in METERED)


class SharedBoard:
    """A cell for each child of a prefork pool, in memory made before the fork.

    A cell has two halves in turn: a child may have begun its next task before the main process
    reads what the last one used, and a child that replaces a killed one leaves its half alone.
    Each word has one writer and is written whole. The word `run` is 0 while its half is being
    emptied and is looked at before and after reading, so that nobody gets the numbers of
    another execution; `state` is read before and written after the numbers it vouches for. The
    result of a task comes through a pipe, which orders memory on every processor.

    A flag holds the run it is meant for. Nobody has to clear it between two tasks. The notice of
    the flag to stop is written before the flag.
    """

    def __init__(self, cells: int = CELLS) -> None:
        self._cells = cells
        self._memory = mmap(-1, cells * _CELL * _WORD)
        self._words = memoryview(self._memory).cast("Q")

    def begin(self, run: int, index: int | None, started_ns: int, pid: int) -> SharedCell | None:
        """Empty the half that was not used last and give it to an execution."""
        if index is None or index >= self._cells:
            return None
        words = self._words
        head = index * _CELL
        turn = words[head] ^ 1
        half = head + _HEAD + turn * _HALF
        _FOUR.pack_into(self._memory, half * _WORD, 0, _RUNNING, started_ns, pid)
        words[half + 4 : half + _HALF] = _NOTHING
        words[half] = run
        words[head] = turn
        return SharedCell(self._memory, words, head, half, run)

    def read(self, run: int, index: int | None) -> Usage | None:
        """Read an execution of a child; for the next-to-last one at the latest.

        Of a child that has gone nobody can tell the number: all cells are searched.
        """
        if index is None:
            found = (self.read(run, each) for each in range(self._cells))
            return next((usage for usage in found if usage is not None), None)
        if index >= self._cells:
            return None
        words = self._words
        head = index * _CELL
        last = words[head]
        for turn in (last, last ^ 1):
            half = head + _HEAD + turn * _HALF
            if words[half] != run:
                continue
            values = _ALL.unpack_from(self._memory, half * _WORD)
            if words[half] != run or values[0] != run:
                return None
            _, state, started_ns, pid, wall, cpu, peak, io = values[:_FIELDS]
            return Usage(
                state == _FINAL,
                started_ns,
                pid,
                None if wall == _UNKNOWN else wall,
                None if cpu == _UNKNOWN else cpu,
                None if peak == _UNKNOWN else peak,
                None if io == _UNKNOWN else io,
                values[_FIELDS:],
            )
        return None

    def put(self, flag: Flag, run: int, index: int | None) -> bool:
        """Put up a flag for one execution of a child."""
        if index is None or index >= self._cells:
            return False
        self._words[index * _CELL + _FLAGS[flag]] = run
        return True

    def take(self, flag: Flag, run: int, index: int | None) -> None:
        """Take it down, unless it is up for another execution by now."""
        if index is not None and index < self._cells:
            place = index * _CELL + _FLAGS[flag]
            if self._words[place] == run:
                self._words[place] = 0

    def stop(self, run: int, index: int, notice: bytes) -> None:
        """Put up the flag for one execution of a child to end, with what it is to be told.

        Args:
            run: Whose execution.
            index: The child's number.
            notice: Without zero bytes; what is beyond `NOTICE_BYTES` is cut off.
        """
        if index < self._cells:
            begin = (index * _CELL + _NOTICE) * _WORD
            text = notice[:NOTICE_BYTES].ljust(NOTICE_BYTES, b"\0")
            self._memory[begin : begin + NOTICE_BYTES] = text
            self.put(Flag.STOP, run, index)


class SharedCell:
    """One half of a child's cell, for the execution that writes there."""

    __slots__ = ("_half", "_head", "_memory", "_run", "_words")

    def __init__(
        self, memory: mmap, words: memoryview[int], head: int, half: int, run: int
    ) -> None:
        self._memory = memory
        self._words = words
        self._head = head
        self._half = half
        self._run = run

    def charge(self, position: int, units: int) -> None:
        """Add to what it charged."""
        place = self._half + _FIELDS + position
        self._words[place] = min(MOST, self._words[place] + units)

    def charges(self) -> tuple[int, ...]:
        """Tell what it charged so far."""
        return tuple(self._words[self._half + _FIELDS : self._half + _HALF])

    def finish(
        self, wall_us: int, cpu_us: int | None, peak_bytes: int | None, io_bytes: int | None
    ) -> None:
        """Write what it used, then that this is all."""
        _FOUR.pack_into(
            self._memory,
            (self._half + 4) * _WORD,
            wall_us,
            _UNKNOWN if cpu_us is None else cpu_us,
            _UNKNOWN if peak_bytes is None else peak_bytes,
            _UNKNOWN if io_bytes is None else io_bytes,
        )
        self._words[self._half + 1] = _FINAL

    def has(self, flag: Flag) -> bool:
        """Tell whether a flag is up for this execution; one read of memory."""
        if flag is Flag.DEGRADED and self._run & 1:
            return True
        return self._words[self._head + _FLAGS[flag]] == self._run

    def notice(self) -> bytes:
        """Read what the execution is told that has to end; b"" while it has not."""
        if not self.has(Flag.STOP):
            return b""
        begin = (self._head + _NOTICE) * _WORD
        return bytes(self._memory[begin : begin + NOTICE_BYTES]).rstrip(b"\0")
