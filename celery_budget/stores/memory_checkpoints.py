"""Checkpoints in memory: the reference for other stores, and for pools of one process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from celery_budget.stores.state import KEPT_S, Checkpoint


class MemoryCheckpoints:
    """Checkpoints in a dict, lost with the process.

    Args:
        clock: Gives microseconds.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._lock = Lock()
        #: With the time until which each is kept, the earliest first.
        self._kept: OrderedDict[str, tuple[int, Checkpoint]] = OrderedDict()

    def save(self, task_id: str, checkpoint: Checkpoint) -> None:
        """Replace the one before; see `CheckpointStore.save`."""
        with self._lock:
            now = self._forget_old()
            self._kept[task_id] = now + KEPT_S * 1_000_000, checkpoint
            self._kept.move_to_end(task_id)

    def load(self, task_id: str) -> Checkpoint | None:
        """Look it up; see `CheckpointStore.load`."""
        with self._lock:
            self._forget_old()
            found = self._kept.get(task_id)
            return None if found is None else found[1]

    def forget(self, task_id: str) -> None:
        """Drop it; see `CheckpointStore.forget`."""
        with self._lock:
            self._kept.pop(task_id, None)

    def _forget_old(self) -> int:
        now = self._clock()
        while self._kept and next(iter(self._kept.values()))[0] <= now:
            self._kept.popitem(last=False)
        return now
