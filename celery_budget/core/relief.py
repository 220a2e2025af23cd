"""Relief: whose memory has to come free, of those that may leave. Used by `preemption.py` alone."""

from __future__ import annotations

from collections.abc import Sequence

from celery_budget.core.ticket import Ticket


def fewest(able: Sequence[tuple[Ticket, int]], excess: int) -> set[Ticket]:
    """Choose who leaves: as many as it takes, and nobody whom the others make unnecessary.

    Args:
        able: Tickets that may leave, who should leave first at the front, and what they take,
            bytes.
        excess: How much has to come free, bytes.

    Returns:
        All that take something, where all of it is not enough.
    """
    chosen: dict[Ticket, int] = {}
    freed = 0
    for ticket, takes in able:
        if freed >= excess:
            break
        if takes > 0:
            chosen[ticket] = takes
            freed += takes
    for ticket, takes in reversed(list(chosen.items())):
        if freed - takes >= excess:
            del chosen[ticket]
            freed -= takes
    return set(chosen)
