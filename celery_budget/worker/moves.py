"""Moves this worker knows of: which copy of a moved task is the current one.

A message cannot be taken out of a broker by its id. Moving publishes a copy under the same task
id with a higher move number; whoever meets the older message drops it. Workers learn of moves
as they learn of revokes: by broadcast, from each other when they start, and from their state
database. What a worker forgets costs one run of a copy that should have been dropped.

A task that was moved may publish its id anew: to retry, or by `replace`. Such a message names no
move and is newer than any move before it. So messages of one id are ordered by version: first by
how often the id was handed on, then by move number.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_budget.core.ticket import Ticket

#: Moves remembered. As for revokes (`celery.worker.state.REVOKES_MAX`): an operator moves
#: hundreds, not millions, and an entry is some 150 bytes.
MOST = 50_000

#: Move numbers are below it (`headers.MAX_MOVE`); versions count hand-overs in multiples of it.
HANDED_ON = 2**31

#: Retries counted for one replacement of the task; more cost one run of a stale copy at most.
MOST_RETRIES = 2**16

#: Key in the worker's state database.
KEY = "celery_budget.moves"


def version(headers: Mapping[str, object], move: int) -> int:
    """Order the messages of one task id: the highest is the current one.

    Args:
        headers: Of the message, as Celery writes them.
        move: Move number in its stamp.
    """
    nesting, retries = headers.get("replaced_task_nesting"), headers.get("retries")
    if not nesting and not retries:
        return move
    handed_on = (nesting if isinstance(nesting, int) else 0) * MOST_RETRIES
    handed_on += min(retries, MOST_RETRIES - 1) if isinstance(retries, int) else 0
    return handed_on * HANDED_ON + move


class Moves:
    """What is known of moves.

    Attributes:
        numbers: Task id to the highest known version that was moved, oldest forgotten first.
    """

    def __init__(self) -> None:
        self.numbers: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self.numbers)

    def learn(self, task_id: str, number: int) -> bool:
        """Remember a move; tell whether it was news."""
        if number <= self.numbers.get(task_id, 0):
            return False
        self.numbers[task_id] = number
        self.numbers.move_to_end(task_id)
        if len(self.numbers) > MOST:
            self.numbers.popitem(last=False)
        return True

    def number(self, task_id: str) -> int:
        """Tell the current version of a task; 0 when it was never moved."""
        return self.numbers.get(task_id, 0)

    def is_current(self, ticket: Ticket) -> bool:
        """Tell whether no newer copy of a message is known; learns from the message itself."""
        if ticket.move % HANDED_ON:
            self.learn(ticket.id, ticket.move)
        elif not self.numbers:
            return True
        return ticket.move >= self.numbers.get(ticket.id, 0)

    def known(self, most: int) -> list[tuple[str, int]]:
        """List the newest moves, oldest of them first."""
        return list(self.numbers.items())[-most:]

    def merge(self, moves: Iterable[tuple[str, int]]) -> int:
        """Learn many moves; tell how many were news."""
        return sum(self.learn(task_id, number) for task_id, number in moves)

    def store(self, database: Any) -> None:
        """Keep the moves in a worker's open state database; None keeps nothing."""
        if database is not None:
            database[KEY] = json.dumps(list(self.numbers.items()))

    @classmethod
    def restore(cls, database: Any) -> Moves:
        """Read the moves kept by an earlier run of this worker."""
        moves = cls()
        if database is not None and KEY in database:
            moves.merge(
                (str(task_id), int(number)) for task_id, number in json.loads(database[KEY])
            )
        return moves
