"""A line: the waiting tickets of one tenant that start, or wait for a budget, together.

Used by `fairness.py` alone.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_budget.core.admission import Group

#: [deadline, published, task, tie, sequence, ticket]; the ticket is None once it was taken out.
#: A list, compared in C; the sequence is unique, so tickets are never compared.
Entry = list[Any]

#: Entries taken out that a list may carry before it is rebuilt, beside as many live ones.
MOST_DEAD = 64


class Line:
    """Entries in order.

    Tickets mostly come in the order in which they should start. Those form a list, which costs
    the same however long it is; only the others need the heap.

    Attributes:
        group: What its tickets draw on; None: no budget.
        live: How many tickets wait.
        early: Heap of the entries that came out of order.
    """

    __slots__ = ("_entries", "_first", "early", "group", "live")

    def __init__(self, group: Group | None) -> None:
        self.group = group
        self.live = 0
        self._entries: list[Entry] = []
        self._first = 0
        self.early: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Let one more ticket wait."""
        entries = self._entries
        if not entries or entries[-1] < entry:
            entries.append(entry)
        else:
            heappush(self.early, entry)
        self.live += 1

    def head(self) -> Entry:
        """Show its next entry; something must be waiting."""
        entries, early = self._entries, self.early
        while early and early[0][5] is None:
            heappop(early)
        first, end = self._first, len(entries)
        while first < end and entries[first][5] is None:
            first += 1
        if first > MOST_DEAD and first * 2 > end:
            del entries[:first]
            end -= first
            first = 0
        self._first = first
        if early and (first == end or early[0] < entries[first]):
            return early[0]
        return entries[first]

    def take(self) -> None:
        """Count one ticket less; its entry has lost it."""
        self.live -= 1
        if not self.live:
            self._entries.clear()
            self.early.clear()
            self._first = 0
        elif len(self._entries) - self._first + len(self.early) > 2 * self.live + MOST_DEAD:
            # What was taken out from the middle outweighs what waits.
            self._entries = [entry for entry in self._entries if entry[5] is not None]
            self._first = 0
            self.early = [entry for entry in self.early if entry[5] is not None]
            heapify(self.early)
