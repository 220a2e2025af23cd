"""The held tickets by id and by expiry; their order to start is the bands' matter.

One id may be held more than once: a broker redelivers. Used by the dispatcher alone.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import islice
from math import inf

from celery_budget.core.line import MOST_DEAD, Entry
from celery_budget.core.ticket import Ticket


class Holding:
    """What is held, to be found again.

    Attributes:
        total: How many tickets are held.
        due: Unix seconds before which none expires.
    """

    __slots__ = ("_by_id", "_expiring", "_twins", "due", "total")

    def __init__(self) -> None:
        self._by_id: dict[str, Entry] = {}
        self._twins: dict[str, list[Entry]] = {}
        self._expiring: list[tuple[float, int, Entry]] = []
        self.total = 0
        self.due = inf

    def add(self, entry: Entry) -> None:
        """Remember one more.

        Raises:
            ValueError: this very ticket is held already.
        """
        ticket: Ticket = entry[5]
        first = self._by_id.setdefault(ticket.id, entry)
        if first is not entry:
            twins = self._twins.get(ticket.id, [])
            if any(known[5] is ticket for known in (first, *twins)):
                raise ValueError(f"ticket {ticket.id!r} is held already: offer a new one")
            self._twins[ticket.id] = [*twins, entry]
        self.total += 1
        if ticket.expires != inf:
            heappush(self._expiring, (ticket.expires, entry[4], entry))
            self.due = self._expiring[0][0]

    def drop(self, ticket: Ticket) -> None:
        """Forget one whose entry may have lost its ticket already."""
        self.total -= 1
        if not self._twins or ticket.id not in self._twins:
            del self._by_id[ticket.id]
        else:
            entries = [self._by_id[ticket.id], *self._twins.pop(ticket.id)]
            left = [entry for entry in entries if entry[5] is not None and entry[5] is not ticket]
            self._by_id[ticket.id] = left[0]
            if len(left) > 1:
                self._twins[ticket.id] = left[1:]
        expiring = self._expiring
        if expiring and len(expiring) > 2 * self.total + MOST_DEAD:
            self._expiring = [item for item in expiring if item[2][5] is not None]
            heapify(self._expiring)

    def replace(self, entry: Entry, fresh: Entry) -> None:
        """Let another entry of the same ticket stand in its place."""
        task_id = fresh[5].id
        if self._by_id[task_id] is entry:
            self._by_id[task_id] = fresh
        else:
            twins = self._twins[task_id]
            twins[twins.index(entry)] = fresh
        if fresh[5].expires != inf:
            heappush(self._expiring, (fresh[5].expires, fresh[4], fresh))

    def overdue(self, now: float) -> Entry | None:
        """Show a held entry that has expired; it stays held."""
        expiring = self._expiring
        while expiring and expiring[0][0] <= now:
            if expiring[0][2][5] is not None:
                return expiring[0][2]
            heappop(expiring)
        self.due = expiring[0][0] if expiring else inf
        return None

    def entries(self, task_id: str) -> list[Entry]:
        """List the entries of an id, the earliest arrival first."""
        entry = self._by_id.get(task_id)
        return [] if entry is None else [entry, *self._twins.get(task_id, ())]

    def all(self) -> list[Entry]:
        """List all entries, the earliest arrival first."""
        entries = [*self._by_id.values(), *(e for twins in self._twins.values() for e in twins)]
        entries.sort(key=lambda entry: entry[4])
        return entries

    def earliest(self, most: int) -> list[Ticket]:
        """List tickets, the earliest arrivals first, each id's other copies behind its first."""
        tickets: list[Ticket] = []
        for task_id in islice(self._by_id, most):
            tickets += [entry[5] for entry in self.entries(task_id)]
        return tickets[:most]

    def clear(self) -> None:
        """Forget all."""
        self._by_id.clear()
        self._twins.clear()
        self._expiring.clear()
        self.total = 0
        self.due = inf
