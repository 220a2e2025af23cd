"""What a state store can do, whatever it is made of; `tests/contracts` holds every one to it.

It keeps what has to outlive workers, and the ledger too. Beside a protocol for each thing that is
kept there is `State`, which holds all of them.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

#: How long a checkpoint is remembered after it was saved, seconds: a week, so that a task which
#: failed on a Friday can be run again on Monday and go on from there.
KEPT_S = 7 * 86_400


class Checkpoint(NamedTuple):
    """Progress of a task, serialized.

    Attributes:
        content_type: Of the body, as kombu's serializers name it.
        encoding: Of the body.
        body: Bytes.
    """

    content_type: str
    encoding: str
    body: bytes


class CheckpointStore(Protocol):
    """The latest checkpoint of each task that has one and has not ended.

    Calls may block for as long as its connection's time-outs allow: tasks make them, and a
    worker's main loop makes none. A checkpoint is kept for `KEPT_S` after it was saved.
    """

    def save(self, task_id: str, checkpoint: Checkpoint) -> None:
        """Put a checkpoint in the place of the one before.

        Raises:
            StateUnavailable: it cannot be reached, or did not answer in time.
        """
        ...

    def load(self, task_id: str) -> Checkpoint | None:
        """Give the latest checkpoint of a task; None when there is none.

        Raises:
            StateUnavailable: it cannot be reached, or did not answer in time.
        """
        ...

    def forget(self, task_id: str) -> None:
        """Drop the checkpoint of a task, if there is one.

        Raises:
            StateUnavailable: it cannot be reached, or did not answer in time.
        """
        ...


class State(NamedTuple):
    """What a fleet keeps of its tasks, in one place.

    Attributes:
        is_shared: Whether what one process keeps can be looked up by another one.
        checkpoints: How far tasks have come.
    """

    is_shared: bool
    checkpoints: CheckpointStore
