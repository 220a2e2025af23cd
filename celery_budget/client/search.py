"""Searching the broker for a task: what was found, where, and how far the search went.

Shared by the transports' own modules, `polled.py` and `amqp.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from celery_budget.errors import MoveError
from celery_budget.producer.sounding import Sounding
from celery_budget.worker.moves import HANDED_ON

if TYPE_CHECKING:
    from celery import Celery

    from celery_budget.client.copy import Target

#: Longest time one search may take, seconds: as long as a person waits for a command.
MOST_S = 5.0


@dataclass(frozen=True, slots=True)
class Found:
    """A task's message in the broker.

    Attributes:
        queue: Where it waits; None: a worker fetched it and has not acknowledged it.
        task: Task name.
        band: Band its stamp names, else the band that owns its queue, else None.
        at: When it was published, Unix seconds; 0.0: unknown.
        move: Its move number.
        version: Its version, see `worker/moves.py`.
    """

    queue: str | None
    task: str
    band: str | None
    at: float
    move: int
    version: int

    def next_move(self, known: int) -> int:
        """Number the copy so that it is newer than this message and than a known version."""
        is_same_run = known // HANDED_ON == self.version // HANDED_ON
        return max(self.move, known % HANDED_ON if is_same_run else 0) + 1


@dataclass(frozen=True, slots=True)
class Search:
    """How a search ended.

    Attributes:
        found: The message, or None.
        is_complete: Whether all queues were searched to their end.
        places: What was searched, e.g. "queue celery".
    """

    found: Found | None
    is_complete: bool
    places: tuple[str, ...]


#: Says where a task goes that was found in a band; raises what forbids the move.
Choose = Callable[[str | None], "Target"]

#: Tells the workers that a copy of this version was published.
Announce = Callable[[int], None]


class Queues(Protocol):
    """What the client asks of one kind of broker."""

    #: Whether a search takes messages out of the queues for its time.
    takes: bool

    def find(self, task_id: str) -> Search:
        """Search for a task without disturbing anybody."""
        ...

    def move(
        self, task_id: str, choose: Choose, known: int, announce: Announce
    ) -> tuple[Found, Target, int] | Search:
        """Move a waiting message, or say how far it was searched for.

        Args:
            task_id: Whose message.
            choose: Says where to.
            known: Highest version known elsewhere; older copies are left alone.
            announce: Called when the copy is safe in its queue.

        Returns:
            What was found, where it went, and the copy's move number.
        """
        ...


class OtherQueues:
    """The queues of an app on a transport whose messages can be neither searched nor taken."""

    takes = True

    def __init__(self, app: Celery) -> None:
        self._app = app

    def find(self, task_id: str) -> Search:  # noqa: ARG002 - the id cannot be looked for
        """Tell only whether the task can be in a queue at all: whether any message waits."""
        return search_by_depth(self._app)

    def move(
        self,
        task_id: str,
        choose: Choose,  # noqa: ARG002
        known: int,  # noqa: ARG002
        announce: Announce,  # noqa: ARG002
    ) -> tuple[Found, Target, int] | Search:
        """Refuse.

        Raises:
            MoveError: always.
        """
        raise MoveError(
            task_id,
            "no worker holds it, and the queues of this transport cannot be searched; "
            "give signature= to publish it anew",
        )


def search_by_depth(app: Celery) -> Search:
    """Tell whether any message waits: the only question every broker answers."""
    counts = depths(app)
    return Search(
        None,
        is_complete=not any(counts.values()),
        places=tuple(f"queue {name}" for name in counts),
    )


def depths(app: Celery) -> dict[str, int]:
    """Count the messages that wait in each queue of the app; a queue that does not exist has 0."""
    counts: dict[str, int] = {}
    with app.connection_or_acquire() as connection, Sounding(connection) as sounding:
        for name in list(app.amqp.queues):
            counts[name] = sounding.depth(app.amqp.queues[name])
    return counts
