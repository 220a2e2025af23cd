"""A ticket: all that a decision may know about one message a worker holds."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(slots=True, eq=False)
class Ticket:
    """One message that waits for, or has, a slot.

    Not frozen because a frozen class costs 1 µs more to make on the worker's hot path;
    nobody but the dispatcher changes a ticket after `offer`, and it only its `band`.

    Attributes:
        id: The Celery task id.
        task: Task name.
        band: Name of the band it counts in.
        tenant: Whose work it is; "" when nobody said.
        deadline: Soft deadline, Unix seconds; inf when it has none.
        expires: Hard expiry, Unix seconds; inf when it has none.
        published: When the sender published it (or its ETA), Unix seconds.
        move: Which of several messages of its id it is; the highest counts. 0 until it was moved,
            retried or replaced.
    """

    id: str
    task: str
    band: str
    tenant: str = ""
    deadline: float = inf
    expires: float = inf
    published: float = 0.0
    move: int = 0
