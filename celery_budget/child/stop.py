"""Ends the execution that the main process has told to end: the child's side of ceilings.

The signal is that of Celery's soft time limit, which tasks, C extensions and debuggers already
know to live with; what to raise stands on the board. Whoever put the signal's handler there before
gets every signal that the board does not explain.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from msgspec import json

from celery_budget.board import SharedCell
from celery_budget.errors import CeilingExceeded


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

    def _on_signal(self, number: int, frame: object) -> None:
        notice = b"" if self.cell is None else self.cell.notice()
        if not notice:
            if callable(self._previous):
                self._previous(number, frame)
            return
        if self.is_running:
            raise CeilingExceeded(*json.decode(notice, type=tuple[str, str, str, str]))
        # Else it has ended meanwhile, and the child must live on.
