"""Ends the execution that was told to end: the child's side of ceilings and evictions.

The signal is that of Celery's soft time limit, which tasks, C extensions and debuggers already
know to live with; what to raise stands on the board. Whoever put the signal's handler there before
gets every signal that the board does not explain.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from celery._state import get_current_task
from msgspec import json

from celery_budget.board import Flag, SharedCell
from celery_budget.errors import CeilingExceeded, TaskYielded


class Stop:
    """Raises in the body of an execution that has to end; one for each child.

    Made in the child's main thread, which is where its tasks run.

    Attributes:
        cell: Of the execution that runs or, between two, of the one that ended last.
        is_running: Whether an execution runs that may still be ended.
    """

    def __init__(self) -> None:
        self.cell: SharedCell | None = None
        self.is_running = False
        # billiard's name of it; the same on every platform that has prefork pools.
        self._previous: Callable[..., Any] | int | None = signal.signal(
            signal.SIGUSR1, self._on_signal
        )

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        cell = self.cell
        notice = b"" if cell is None else cell.notice()
        if notice:
            if self.is_running:
                raise CeilingExceeded(*json.decode(notice, type=tuple[str, str, str, str]))
            # Else it has ended meanwhile, and the child must live on.
        elif cell is not None and cell.has(Flag.EVICT):
            # Not where the result of a body that has ended is stored: it would be run again.
            if self.is_running and _is_in_body(frame):
                raise TaskYielded
        elif callable(self._previous):
            self._previous(number, frame)


def _is_in_body(frame: FrameType | None) -> bool:
    """Tell whether a frame is below the task's body; where that is not Python nobody can tell."""
    task = get_current_task()
    if task is None:
        return False
    code = getattr(getattr(task.run, "__func__", task.run), "__code__", None)
    if code is None:
        return True
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False
