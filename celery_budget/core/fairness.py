"""Fair queueing between the tenants of one band, and the order inside a tenant.

Start-time fair queueing (Goyal, Vin and Cheng, 1996) with slot-seconds as the length: the
tenant with the lowest tag goes first, and starting its ticket moves its tag by the expected
service time, corrected when the ticket ends. A tenant with a thousand times the backlog thus
gets no more than its turn. Two things differ from the paper, both because tenants come and go
without number; docs/explanation/scheduling.md says why. Used by the dispatcher alone.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import Any

from celery_budget.core.service import UNKNOWN_S
from celery_budget.core.ticket import Ticket

#: [deadline, published, task, tie, sequence, ticket]; the ticket is None once it was taken out.
#: A list, compared in C; the sequence is unique, so tickets are never compared.
Entry = list[Any]

#: Entries taken out that a list may carry before it is rebuilt, beside as many live ones.
MOST_DEAD = 64

#: A batch of at most this many tickets of a tenant that had no work goes before the backlogs of
#: others, as far as its tasks are of ordinary length. With equal turns it would take twice as
#: long as alone, and make room for a backlog that has to wait much longer anyway.
SMALL_BATCH = 10


class Tenant:
    """One tenant's waiting tickets and its place in virtual time.

    Tickets mostly come in the order in which they should start. Those form `line`, which costs
    the same however long it is; only the others need the heap.

    Attributes:
        tag: Virtual time of its next start, slot-seconds.
        line: Entries in order; those before `first` are gone.
        early: Heap of the entries that came out of order.
        live: How many tickets wait.
        running: How many have a slot.
        marker: Its valid place in the order of the band; None while nothing waits.
        is_small: Whether what it sent since it had nothing waiting counts as a small batch.
        is_parked: Whether it is in the queue's list of tenants to forget.
    """

    __slots__ = (
        "early",
        "first",
        "is_parked",
        "is_small",
        "line",
        "live",
        "marker",
        "name",
        "running",
        "tag",
    )

    def __init__(self, name: str, tag: float) -> None:
        self.name = name
        self.tag = tag
        self.line: list[Entry] = []
        self.first = 0
        self.early: list[Entry] = []
        self.live = 0
        self.running = 0
        self.marker: tuple[float, Entry, Tenant] | None = None
        self.is_small = True
        self.is_parked = False

    def add(self, entry: Entry) -> None:
        """Let one more ticket wait."""
        line = self.line
        if not line or line[-1] < entry:
            line.append(entry)
        else:
            heappush(self.early, entry)
        self.live += 1

    def head(self) -> Entry:
        """Show its next entry; something must be waiting."""
        line, early = self.line, self.early
        while early and early[0][5] is None:
            heappop(early)
        first, end = self.first, len(line)
        while first < end and line[first][5] is None:
            first += 1
        if first > MOST_DEAD and first * 2 > end:
            del line[:first]
            end -= first
            first = 0
        self.first = first
        if early and (first == end or early[0] < line[first]):
            return early[0]
        return line[first]

    def clear(self) -> None:
        """Forget entries that were taken out; nothing may be waiting."""
        self.line.clear()
        self.early.clear()
        self.first = 0
        self.live = 0
        self.marker = None

    def compact(self) -> None:
        """Drop what was taken out from the middle, if it outweighs what waits."""
        if len(self.line) - self.first + len(self.early) > 2 * self.live + MOST_DEAD:
            self.line = [entry for entry in self.line if entry[5] is not None]
            self.first = 0
            self.early = [entry for entry in self.early if entry[5] is not None]
            heapify(self.early)


class FairQueue:
    """The waiting tickets of one band, in the order in which they should start.

    Attributes:
        length: How many tickets wait.
        allowance: How far before the others a small batch may go, slot-seconds.
    """

    __slots__ = (
        "_active",
        "_busy",
        "_markers",
        "_parked",
        "_tenants",
        "_virtual",
        "allowance",
        "length",
    )

    def __init__(self) -> None:
        self._tenants: dict[str, Tenant] = {}
        self._markers: list[tuple[float, Entry, Tenant]] = []
        self._parked: list[tuple[float, str]] = []
        self._virtual = 0.0
        self._active = 0
        self._busy = 0
        self.length = 0
        self.allowance = SMALL_BATCH * UNKNOWN_S

    @property
    def tenants(self) -> int:
        """How many tenants are remembered."""
        return len(self._tenants)

    def push(self, entry: Entry) -> None:
        """Let a ticket wait."""
        name = entry[5].tenant
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = Tenant(name, self._virtual - self.allowance)
        self.length += 1
        tenant.add(entry)
        if tenant.live == 1:
            self._active += 1
            if not tenant.running:
                self._busy += 1
            tenant.tag = max(tenant.tag, self._virtual - self.allowance)
            tenant.is_small = True
            self._mark(tenant, entry)
        elif tenant.is_small and tenant.live > SMALL_BATCH:
            tenant.is_small = False
            tenant.tag = max(tenant.tag, self._virtual)
            self._mark(tenant, tenant.head())
        elif tenant.early and tenant.early[0] is entry and entry is tenant.head():
            self._mark(tenant, entry)

    def _mark(self, tenant: Tenant, entry: Entry) -> None:
        """Put a tenant's first ticket into the order of the band; its earlier mark is void."""
        markers = self._markers
        tenant.marker = marker = (tenant.tag, entry, tenant)
        if len(markers) > 2 * self._active + MOST_DEAD:
            # The new one is among them: it is its tenant's valid one only once it is here.
            markers[:] = [mark for mark in markers if mark[2].marker is mark]
            heapify(markers)
        heappush(markers, marker)

    def head(self) -> Ticket | None:
        """Show the ticket that should start next."""
        markers = self._markers
        while markers:
            marker = markers[0]
            tenant = marker[2]
            if tenant.marker is not marker:
                heappop(markers)
                continue
            ticket: Ticket | None = marker[1][5]
            if ticket is not None:
                return ticket
            # It was taken out: the tenant's next ticket stands in its place.
            tenant.marker = fresh = (tenant.tag, tenant.head(), tenant)
            heapreplace(markers, fresh)
        return None

    def pop(self, expected_s: float) -> Tenant:
        """Start the head, as `head` has just shown it, and charge its tenant.

        Args:
            expected_s: Service time, seconds.

        Returns:
            The tenant, to be settled when the ticket has ended.
        """
        tag, entry, tenant = self._markers[0]
        if self._active == 1 and tag < self._virtual:
            # Nobody else waits: what it was behind is made good by having all slots.
            tag = min(self._virtual, tag + expected_s)
        entry[5] = None
        self.length -= 1
        tenant.running += 1
        tenant.tag = tag + expected_s
        tenant.live -= 1
        if tenant.live:
            tenant.marker = marker = (tenant.tag, tenant.head(), tenant)
            heapreplace(self._markers, marker)
        else:
            heappop(self._markers)
            tenant.clear()
            self._active -= 1
        return tenant

    def settle(self, tenant: Tenant, expected_s: float, served_s: float) -> None:
        """Correct a tenant's charge when one of its tickets has ended.

        Args:
            tenant: As `pop` gave it.
            expected_s: As `pop` was told.
            served_s: Actual service time, seconds.
        """
        # The virtual time follows what was served, shared by all who have work: were it to
        # follow tags, as in the paper, a stream of new tenants would hold it still, and those
        # who had their turn would wait, and be remembered, for ever. Were it to follow
        # expectations, a wrong one would put whoever comes next far behind.
        self._virtual += served_s / self._busy
        tenant.running -= 1
        tenant.tag += served_s - expected_s
        if tenant.live:
            if self._active == 1:
                tenant.marker = marker = (tenant.tag, tenant.head(), tenant)
                self._markers = [marker]
            else:
                self._mark(tenant, tenant.head())
        elif not tenant.running:
            self._rest(tenant)
        if self._parked:
            self._forget()

    def discard(self, entry: Entry) -> None:
        """Take out a ticket that will not start from here."""
        tenant = self._tenants[entry[5].tenant]
        entry[5] = None
        self.length -= 1
        tenant.live -= 1
        if tenant.live:
            tenant.compact()
            return
        tenant.clear()
        self._active -= 1
        if not tenant.running:
            self._rest(tenant)

    def clear(self) -> None:
        """Take out all that waits."""
        self._markers.clear()
        self._active = 0
        self.length = 0
        for tenant in list(self._tenants.values()):
            if tenant.live:
                tenant.clear()
                if not tenant.running:
                    self._rest(tenant)

    def _rest(self, tenant: Tenant) -> None:
        """Forget a tenant without work as soon as forgetting makes no difference."""
        self._busy -= 1
        if tenant.is_parked:
            return
        if tenant.tag <= self._virtual - self.allowance:
            del self._tenants[tenant.name]
        else:
            tenant.is_parked = True
            heappush(self._parked, (tenant.tag, tenant.name))

    def _forget(self) -> None:
        parked = self._parked
        past = self._virtual - self.allowance
        while parked and parked[0][0] <= past:
            tenant = self._tenants[parked[0][1]]
            if tenant.live or tenant.running:
                tenant.is_parked = False
            elif tenant.tag <= past:
                del self._tenants[tenant.name]
            else:
                heapreplace(parked, (tenant.tag, tenant.name))
                continue
            heappop(parked)
