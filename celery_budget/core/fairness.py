"""Fair queueing between the tenants of one band.

Start-time fair queueing (Goyal, Vin and Cheng, 1996) with slot-seconds as the length: a ticket's
start tag is the later of the virtual time and its tenant's finish tag, the lowest start tag goes
first, and starting it moves the tenant's finish tag by the expected service time. A tenant with a
thousand times the backlog thus gets no more than its turn. Among equal tags, and inside a
tenant: earliest deadline, then age, task type, rotating seed.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any

from celery_budget.core.ticket import Ticket

#: [deadline, published, task, tie, sequence, ticket]; the ticket is None once it was taken out.
#: A list, compared in C; the sequence is unique, so tickets are never compared.
Entry = list[Any]

#: Entries taken out that a heap may carry before it is rebuilt, beside as many live ones.
MOST_DEAD = 64


class Tenant:
    """One tenant's waiting tickets and its place in virtual time."""

    __slots__ = ("debt", "entries", "finish", "live", "marker", "name", "running")

    def __init__(self, name: str, finish: float) -> None:
        self.name = name
        self.finish = finish
        self.debt = 0.0
        self.entries: list[Entry] = []
        self.live = 0
        self.running = 0
        self.marker: tuple[float, Entry, Tenant] | None = None


class FairQueue:
    """The waiting tickets of one band, in the order in which they should start."""

    __slots__ = ("_active", "_idle", "_markers", "_tenants", "_virtual", "length")

    def __init__(self) -> None:
        self._tenants: dict[str, Tenant] = {}
        self._markers: list[tuple[float, Entry, Tenant]] = []
        self._idle: list[tuple[float, str]] = []
        self._virtual = 0.0
        self._active = 0
        self.length = 0

    @property
    def tenants(self) -> int:
        """How many tenants are remembered."""
        return len(self._tenants)

    def push(self, entry: Entry) -> None:
        """Let a ticket wait."""
        name = entry[5].tenant
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = Tenant(name, self._virtual)
        self.length += 1
        tenant.live += 1
        entries = tenant.entries
        heappush(entries, entry)
        if tenant.live == 1:
            self._active += 1
            self._mark(tenant, max(self._virtual, tenant.finish))
        elif entries[0] is entry and tenant.marker is not None:
            self._mark(tenant, tenant.marker[0])

    def _mark(self, tenant: Tenant, start: float) -> None:
        """Put the tenant's first ticket into the order of the band; earlier marks are void."""
        tenant.marker = (start, tenant.entries[0], tenant)
        heappush(self._markers, tenant.marker)

    def head(self) -> Ticket | None:
        """Show the ticket that should start next."""
        markers = self._markers
        while markers:
            marker = markers[0]
            start, entry, tenant = marker
            if tenant.marker is not marker:
                heappop(markers)
                continue
            if entry[5] is not None:
                ticket: Ticket = entry[5]
                return ticket
            # It was taken out: the tenant's next ticket stands in its place.
            heappop(markers)
            self._skip_dead(tenant)
            self._mark(tenant, start)
        return None

    def pop(self, cost: float) -> Tenant:
        """Start the head: take it out and charge its tenant.

        Args:
            cost: Expected service time, seconds.

        Returns:
            The tenant, to be settled when the ticket has ended.
        """
        start, entry, tenant = heappop(self._markers)
        heappop(tenant.entries)
        entry[5] = None
        self.length -= 1
        tenant.live -= 1
        tenant.running += 1
        # A debt from tickets that took longer than expected moves the tag too; what was less
        # than expected may not move it back before the start, or turns could be saved up.
        finish = start + cost + tenant.debt
        tenant.debt = min(0.0, finish - start)
        tenant.finish = max(start, finish)
        # The virtual time goes on as in an ideal fair server, even when there is always a new
        # tenant whose start tag is the current time: else those who had their turn would wait
        # for ever, and be remembered for ever.
        self._virtual = max(start, self._virtual + cost / self._active)
        if tenant.live:
            self._skip_dead(tenant)
            self._mark(tenant, tenant.finish)
        else:
            tenant.marker = None
            tenant.entries.clear()
            self._active -= 1
        self._forget_idle()
        return tenant

    def settle(self, tenant: Tenant, excess: float) -> None:
        """Correct a tenant's charge when one of its tickets has ended.

        Args:
            tenant: As `pop` gave it.
            excess: Actual less expected service time, seconds.
        """
        tenant.running -= 1
        if tenant.live:
            tenant.debt += excess
            return
        tenant.finish += excess
        if not tenant.running:
            self._retire(tenant)

    def discard(self, entry: Entry) -> None:
        """Take out a ticket that will not start from here."""
        tenant = self._tenants[entry[5].tenant]
        entry[5] = None
        self.length -= 1
        tenant.live -= 1
        if not tenant.live:
            tenant.marker = None
            tenant.entries.clear()
            self._active -= 1
            if not tenant.running:
                self._retire(tenant)
        elif len(tenant.entries) > 2 * tenant.live + MOST_DEAD:
            self._compact(tenant)
        if len(self._markers) > 2 * self._active + MOST_DEAD:
            self._markers = [mark for mark in self._markers if mark[2].marker is mark]
            heapify(self._markers)

    def _compact(self, tenant: Tenant) -> None:
        start = 0.0 if tenant.marker is None else tenant.marker[0]
        tenant.entries = [entry for entry in tenant.entries if entry[5] is not None]
        heapify(tenant.entries)
        self._mark(tenant, start)

    @staticmethod
    def _skip_dead(tenant: Tenant) -> None:
        entries = tenant.entries
        while entries[0][5] is None:
            heappop(entries)

    def _retire(self, tenant: Tenant) -> None:
        """Forget a tenant without work, at once or when its last turn is paid off."""
        if tenant.finish <= self._virtual:
            self._tenants.pop(tenant.name, None)
        else:
            heappush(self._idle, (tenant.finish, tenant.name))

    def _forget_idle(self) -> None:
        idle = self._idle
        while idle and idle[0][0] <= self._virtual:
            _, name = heappop(idle)
            tenant = self._tenants.get(name)
            if tenant is not None and not tenant.live and not tenant.running:
                self._retire(tenant)
