"""Fair queueing between the tenants of one band, and the order inside a tenant.

Start-time fair queueing (Goyal, Vin and Cheng, 1996) with slot-seconds as the length: the
tenant with the lowest tag goes first, and starting its ticket moves its tag by the expected
service time, corrected when the ticket ends. A tenant with a thousand times the backlog thus
gets no more than its turn, by its weight. Two things differ from the paper, both because tenants
come and go without number; docs/explanation/scheduling.md says why. Used by the dispatcher alone.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING

from celery_budget.core.line import MOST_DEAD, Entry, Line
from celery_budget.core.service import UNKNOWN_S

if TYPE_CHECKING:
    from celery_budget.core.admission import Group
    from celery_budget.core.ticket import Ticket

#: A batch of at most this many tickets of a tenant that had no work goes before the backlogs of
#: others, as far as its tasks are of ordinary length. With equal turns it would take twice as
#: long as alone, and make room for a backlog that has to wait much longer anyway.
SMALL_BATCH = 10


class Tenant:
    """One tenant's waiting tickets and its place in virtual time.

    Attributes:
        tag: Virtual time of its next start, slot-seconds by weight.
        cost: Virtual time for each second of a slot: 1 by its weight.
        lines: Its tickets that may start; more than one where they draw on different budgets.
        closed: Its lines that wait for a budget.
        live: How many tickets of `lines` wait.
        running: How many have a slot.
        marker: Its valid place in the order of the band; None while nothing may start.
        is_small: Whether what it sent since it had nothing waiting counts as a small batch.
        is_parked: Whether it is in the queue's list of tenants to forget.
    """

    __slots__ = (
        "closed",
        "cost",
        "is_parked",
        "is_small",
        "lines",
        "live",
        "marker",
        "name",
        "running",
        "tag",
    )

    def __init__(self, name: str, tag: float, cost: float) -> None:
        self.name = name
        self.tag = tag
        self.cost = cost
        self.lines: list[Line] = []
        self.closed: list[Line] = []
        self.live = 0
        self.running = 0
        self.marker: tuple[float, Entry, Tenant] | None = None
        self.is_small = True
        self.is_parked = False

    def head(self) -> Entry:
        """Show its next entry that may start; there must be one."""
        lines = self.lines
        if len(lines) == 1:
            return lines[0].head()
        return min(line.head() for line in lines if line.live)

    @property
    def is_over(self) -> bool:
        """Whether it neither waits nor runs."""
        return not (self.live or self.running or self.closed)


def _line(lines: list[Line], group: Group | None) -> Line:
    """Find the line of a group, or make one."""
    for line in lines:
        if line.group is group:
            return line
        if not line.live:
            line.group = group
            return line
    line = Line(group)
    lines.append(line)
    return line


class FairQueue:
    """The waiting tickets of one band, in the order in which they should start.

    Args:
        weight: Tells a tenant's share against the others that have work; > 0.

    Attributes:
        length: How many tickets may start.
        blocked: How many wait for a budget.
        allowance: How far before the others a small batch may go, slot-seconds.
    """

    __slots__ = (
        "_active",
        "_busy",
        "_markers",
        "_parked",
        "_shares",
        "_tenants",
        "_virtual",
        "_weight",
        "allowance",
        "blocked",
        "length",
    )

    def __init__(self, weight: Callable[[str], float] | None = None) -> None:
        self._weight = weight
        self._tenants: dict[str, Tenant] = {}
        self._markers: list[tuple[float, Entry, Tenant]] = []
        self._parked: list[tuple[float, str]] = []
        self._virtual = 0.0
        self._active = 0
        self._busy = 0
        self._shares = 0.0
        self.length = 0
        self.blocked = 0
        self.allowance = SMALL_BATCH * UNKNOWN_S

    def weigh(self, weight: Callable[[str], float] | None) -> None:
        """Give tenants that come from now on other weights."""
        self._weight = weight

    @property
    def tenants(self) -> int:
        """How many tenants are remembered."""
        return len(self._tenants)

    def push(self, entry: Entry) -> None:
        """Let a ticket wait."""
        ticket: Ticket = entry[5]
        name, group = ticket.tenant, ticket.group
        tenant = self._tenants.get(name)
        if tenant is None:
            cost = 1.0 if self._weight is None else 1.0 / self._weight(name)
            tenant = self._tenants[name] = Tenant(name, self._virtual - self.allowance, cost)
        if group is not None:
            group.tenants[tenant] = None
            if group.is_blocked:
                _line(tenant.closed, group).add(entry)
                group.live += 1
                self.blocked += 1
                return
        self.length += 1
        lines = tenant.lines
        # Most tenants draw on one group of budgets, or on none.
        line = lines[0] if lines and lines[0].group is group else _line(lines, group)
        line.add(entry)
        tenant.live += 1
        if tenant.live == 1:
            tenant.is_small = True
            self._return(tenant, entry)
        elif tenant.is_small and tenant.live > SMALL_BATCH:
            tenant.is_small = False
            tenant.tag = max(tenant.tag, self._virtual)
            self._mark(tenant, tenant.head())
        elif (line.early or len(lines) > 1) and entry is tenant.head():
            self._mark(tenant, entry)

    def _return(self, tenant: Tenant, entry: Entry) -> None:
        """Let a tenant compete that had nothing to start."""
        self._active += 1
        if not tenant.running:
            self._busy += 1
            self._shares += 1.0 / tenant.cost
        tenant.tag = max(tenant.tag, self._virtual - self.allowance)
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

    def first(self) -> Entry:
        """Give the entry of the head, as `head` has just shown it."""
        return self._markers[0][1]

    def pop(self, expected_s: float) -> Tenant:
        """Start the head, as `head` has just shown it, and charge its tenant.

        Args:
            expected_s: Service time, seconds.

        Returns:
            The tenant, to be settled when the ticket has ended.
        """
        tag, entry, tenant = self._markers[0]
        charge = expected_s * tenant.cost
        if self._active == 1 and tag < self._virtual:
            # Nobody else waits: what it was behind is made good by having all slots.
            tag = min(self._virtual, tag + charge)
        self.length -= 1
        tenant.running += 1
        tenant.tag = tag + charge
        self._take(tenant, entry)
        if tenant.live:
            tenant.marker = marker = (tenant.tag, tenant.head(), tenant)
            heapreplace(self._markers, marker)
        else:
            heappop(self._markers)
            tenant.marker = None
            self._active -= 1
        return tenant

    def _take(self, tenant: Tenant, entry: Entry) -> None:
        """Take a ticket that may start out of its line."""
        lines, group = tenant.lines, entry[5].group
        entry[5] = None
        tenant.live -= 1
        line = lines[0] if lines[0].group is group else _line(lines, group)
        line.take()
        if not line.live:
            if len(lines) > 1:
                lines.remove(line)
            if group is not None:
                del group.tenants[tenant]

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
        self._virtual += served_s / self._shares
        tenant.running -= 1
        tenant.tag += (served_s - expected_s) * tenant.cost
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
        tenant, group = self._tenants[entry[5].tenant], entry[5].group
        if group is not None and group.is_blocked:
            entry[5] = None
            self.blocked -= 1
            group.live -= 1
            line = _line(tenant.closed, group)
            line.take()
            if not line.live:
                tenant.closed.remove(line)
                del group.tenants[tenant]
                if not group.tenants:
                    group.is_blocked = False
                    group.waits_for = None
                if tenant.is_over:
                    self._leave(tenant)
            return
        self.length -= 1
        self._take(tenant, entry)
        if not tenant.live:
            self._end(tenant)

    def block(self, group: Group) -> None:
        """Let all tickets of a group wait for a budget; the others go on in their order."""
        group.is_blocked = True
        for tenant in group.tenants:
            line = _line(tenant.lines, group)
            tenant.lines.remove(line)
            tenant.closed.append(line)
            tenant.live -= line.live
            self.length -= line.live
            self.blocked += line.live
            group.live += line.live
            if not tenant.live:
                self._end(tenant)
            else:
                self._mark(tenant, tenant.head())

    def unblock(self, group: Group) -> None:
        """Let the tickets of a group compete again, each tenant where it was."""
        group.is_blocked = False
        for tenant in group.tenants:
            line = _line(tenant.closed, group)
            tenant.closed.remove(line)
            tenant.lines = [other for other in tenant.lines if other.live]
            tenant.lines.append(line)
            had = tenant.live
            tenant.live += line.live
            if tenant.is_small and tenant.live > SMALL_BATCH:
                tenant.is_small = False
                tenant.tag = max(tenant.tag, self._virtual)
            self.length += line.live
            self.blocked -= line.live
            group.live -= line.live
            if had:
                self._mark(tenant, tenant.head())
            else:
                self._return(tenant, tenant.head())

    def clear(self) -> None:
        """Take out all that waits."""
        self._markers.clear()
        self.length = 0
        self.blocked = 0
        for tenant in list(self._tenants.values()):
            for line in (*tenant.lines, *tenant.closed):
                if line.group is not None:
                    line.group.tenants.clear()
                    line.group.live = 0
                    line.group.is_blocked = False
                    line.group.waits_for = None
            tenant.lines = []
            tenant.closed = []
            if tenant.live:
                tenant.live = 0
                self._end(tenant)
            elif tenant.is_over:
                self._leave(tenant)

    def _end(self, tenant: Tenant) -> None:
        """Let a tenant that has nothing to start leave the order."""
        tenant.marker = None
        self._active -= 1
        if not tenant.running:
            self._rest(tenant)

    def _rest(self, tenant: Tenant) -> None:
        """Let a tenant stop counting that neither runs nor may start anything."""
        self._busy -= 1
        # Nothing is left of rounding when nobody is busy.
        self._shares = self._shares - 1.0 / tenant.cost if self._busy else 0.0
        if not tenant.closed:
            self._leave(tenant)

    def _leave(self, tenant: Tenant) -> None:
        """Forget a tenant without work as soon as forgetting makes no difference."""
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
            if not tenant.is_over:
                tenant.is_parked = False
            elif tenant.tag <= past:
                del self._tenants[tenant.name]
            else:
                heapreplace(parked, (tenant.tag, tenant.name))
                continue
            heappop(parked)
