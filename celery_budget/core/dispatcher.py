"""The dispatcher: decides which held ticket starts next on one worker.

It takes tickets, ends and the time, and answers with decisions; performing them is the
caller's. The worker, the simulator and the property tests run this same code. Rules and
formulas: docs/explanation/scheduling.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from math import inf
from zlib import crc32

from celery_budget.core.bands import BandState
from celery_budget.core.decisions import Expire, Reason, Start, Wait
from celery_budget.core.fairness import MOST_DEAD, Entry, Tenant
from celery_budget.core.lookahead import look_ahead
from celery_budget.core.service import NEWEST, Peak, ServiceTimes
from celery_budget.core.ticket import Ticket
from celery_budget.policy.model import Band

#: Longest wait of a lesser ticket for messages of bands that go before it, seconds, after a slot
#: became free: a message that was asked for is here within 1 to 3 ms on Redis and RabbitMQ.
GATHER_S = 0.005

#: And at most this part of its expected service time, so that the wait costs no throughput.
GATHER_PART = 0.02

#: How long one tie-break order lasts, seconds. Rotating it keeps a name that happens to sort
#: first from always winning.
ROTATION_S = 60.0


#: How often the rates of minimum shares follow the measured service times, seconds.
RECKON_S = 0.25


class Running:
    """A ticket that has a slot, and what was charged for it."""

    __slots__ = ("band", "expected", "started", "tenant")

    def __init__(self, band: BandState, tenant: Tenant, started: float, expected: float) -> None:
        self.band = band
        self.tenant = tenant
        self.started = started
        self.expected = expected


class Dispatcher:
    """All that waits and runs on one worker, and the order of it.

    Args:
        bands: By rank, most urgent first.
        slots: Executions the worker can run at once; >= 1.
        seed: Starts the rotating tie-break.

    Attributes:
        slots: As given, or as `resize` changed it.
        capped: Whether the reserves were cut so that one slot stays shared.
    """

    def __init__(self, bands: Sequence[Band], slots: int, *, seed: int = 0) -> None:
        self._bands = [BandState(band) for band in bands]
        self._by_name = {state.rule.name: state for state in self._bands}
        self._urgent = [state for state in self._bands if state.rule.preempts]
        self._shared = [state for state in self._bands if not state.rule.preempts]
        self._owed = [state for state in self._bands if state.rule.min_share]
        self._seed = seed
        self._rotation = -1
        self._salt = 0
        self._sequence = 0
        self._virtual = 0.0
        self._kept = 0
        self._releases = 0.0
        self._reckoned = 0.0
        self._blocking = Peak(30.0)
        self._service = ServiceTimes()
        self._held: dict[str, list[Entry]] = {}
        self._held_total = 0
        self._running: dict[Ticket, Running] = {}
        self._expiring: list[tuple[float, int, Entry]] = []
        self.slots = slots
        self.capped = False
        self._cap_reserves()

    def _cap_reserves(self) -> None:
        """Cut reserves, the least urgent band's first, so that one slot stays shared."""
        left = max(0, self.slots - 1)
        self.capped = False
        for state in self._bands:
            state.reserve = min(state.rule.reserve, left)
            left -= state.reserve
            self.capped |= state.reserve < state.rule.reserve
        self._keep()
        for state in self._owed:
            state.reckon(self.slots, self._blocking.value, 0.0)

    @property
    def free(self) -> int:
        """Slots without a ticket."""
        return max(0, self.slots - len(self._running))

    @property
    def held_total(self) -> int:
        """Tickets that wait, of all bands."""
        return self._held_total

    def held(self, band: str) -> int:
        """Tell how many tickets of a band wait."""
        return self._by_name[band].queue.length

    def running(self, band: str) -> int:
        """Tell how many tickets of a band have a slot."""
        return self._by_name[band].running

    def resize(self, slots: int) -> None:
        """Take note that the pool grew or shrank; more may run than there are slots now."""
        self.slots = slots
        self._cap_reserves()

    def listen(self, bands: Iterable[str], now: float) -> None:
        """Take note which bands' messages come when asked for; others are never waited for."""
        asked = frozenset(bands)
        for state in self._bands:
            state.is_asked = state.rule.name in asked
            state.opened = now

    def offer(self, ticket: Ticket, now: float) -> None:
        """Hold a ticket until it can start.

        Args:
            ticket: Of a band of this dispatcher. The same id may be held more than once.
            now: Unix seconds.

        Raises:
            KeyError: no such band.
        """
        state = self._by_name[ticket.band]
        rotation = int(now // ROTATION_S)
        if rotation != self._rotation:
            self._rotation = rotation
            self._salt = crc32(f"{self._seed}:{rotation}".encode())
        self._sequence += 1
        entry: Entry = [
            ticket.deadline,
            ticket.published,
            ticket.task,
            crc32(ticket.id.encode(), self._salt),
            self._sequence,
            ticket,
        ]
        self._hold(state, entry)

    def _hold(self, state: BandState, entry: Entry) -> None:
        ticket: Ticket = entry[5]
        if not state.queue.length:
            state.floor = self._virtual
        state.queue.push(entry)
        self._held_total += 1
        self._held.setdefault(ticket.id, []).append(entry)
        if ticket.expires != inf:
            heappush(self._expiring, (ticket.expires, entry[4], entry))

    def decide(self, now: float) -> Start | Expire | Wait | None:
        """Give the next action; the caller performs it and asks again.

        Args:
            now: Unix seconds.

        Returns:
            A start, which counts as running from here on; an expiry; a wait until a time at which
            to ask again; None when nothing can change before something arrives or ends.
        """
        if not self._held_total:
            return None
        if self._expiring and self._expiring[0][0] <= now:
            expired = self._expire(now)
            if expired is not None:
                return expired
        free = self.slots - len(self._running)
        if free <= 0:
            return None
        chosen, reason = self._choose(free, now)
        if chosen is None:
            return None
        ticket = chosen.queue.head()
        assert ticket is not None
        expected = self._service.expected(ticket.task)
        if reason is not Reason.MIN_SHARE:
            until = self._gather(chosen, min(GATHER_S, GATHER_PART * expected), free, now)
            if until > now:
                return Wait(Reason.GATHER, until, 0)
        tenant = chosen.queue.pop(expected)
        self._drop(ticket)
        if not chosen.rule.preempts:
            self._virtual = max(self._virtual, chosen.start_tag())
        chosen.charge(expected)
        chosen.running += 1
        if chosen.reserve:
            self._keep()
        self._running[ticket] = Running(chosen, tenant, now, expected)
        self._releases += 1.0 / expected
        return Start(ticket, reason)

    def _usable(self, state: BandState, free: int) -> int:
        """Free slots that are not kept for other bands."""
        return free - self._kept + (state.unfilled if state.reserve else 0)

    def _keep(self) -> None:
        """Count the free slots that are kept for the bands that reserved them."""
        self._kept = sum(state.unfilled for state in self._bands)

    def _choose(self, free: int, now: float) -> tuple[BandState | None, Reason]:
        """Choose the band that starts next, of those that hold something."""
        for state in self._owed:
            if state.queue.length and state.is_owed(now) and self._usable(state, free) > 0:
                return state, Reason.MIN_SHARE
        for state in self._urgent:
            if state.queue.length and self._usable(state, free) > 0:
                return state, self._reason(state, free, Reason.RANK)
        best: BandState | None = None
        best_tag = inf
        for state in self._shared:
            if state.queue.length:
                tag = state.start_tag()
                if tag < best_tag and self._usable(state, free) > 0:
                    best, best_tag = state, tag
        if best is None:
            return None, Reason.NO_SLOT
        return best, self._reason(best, free, Reason.SHARE)

    def _reason(self, state: BandState, free: int, otherwise: Reason) -> Reason:
        if state.reserve > state.running:
            shared = self._usable(state, free) - state.unfilled
            if shared <= 0:
                return Reason.RESERVED
        return otherwise

    def _gather(self, chosen: BandState, patience: float, free: int, now: float) -> float:
        """Tell until when messages of bands that go before `chosen` may still arrive.

        Windows are closed while no slot is free, so that right after one became free nothing may
        be held but what arrived first. Deciding at once would make it a race.
        """
        until = -inf
        for state in self._bands:
            if (
                state is not chosen
                and state.is_asked
                and not state.queue.length
                and now < state.opened + patience
                and self._goes_before(state, chosen, now)
                and self._usable(state, free) > 0
            ):
                until = max(until, state.opened + patience)
        return until

    def _goes_before(self, state: BandState, chosen: BandState, now: float) -> bool:
        if state.is_owed(now):
            return True
        if state.rule.preempts:
            return not chosen.rule.preempts or state.rule.rank < chosen.rule.rank
        if chosen.rule.preempts:
            return False
        return (max(state.finish, self._virtual), state.rule.rank) < (
            chosen.start_tag(),
            chosen.rule.rank,
        )

    def ended(self, ticket: Ticket, now: float, *, ran: bool = True) -> None:
        """Take note that a ticket has left its slot, and settle what it was charged.

        Args:
            ticket: As `decide` started it.
            now: Unix seconds.
            ran: False when it never used the slot: nothing is learned or charged.

        Raises:
            KeyError: it has no slot.
        """
        run = self._running.pop(ticket)
        state = run.band
        self._open(self.slots - len(self._running) - 1, now)
        state.running -= 1
        if state.reserve:
            self._keep()
        self._releases = self._releases - 1.0 / run.expected if self._running else 0.0
        if ran:
            service_s = max(0.0, now - run.started)
            self._service.observe(ticket.task, service_s)
            state.expected += NEWEST * (service_s - state.expected)
            state.longest.observe(service_s, now)
            self._blocking.observe(service_s, now)
        else:
            service_s = 0.0
        excess = service_s - run.expected
        state.queue.settle(run.tenant, excess)
        state.settle(excess)
        if self._owed and now >= self._reckoned + RECKON_S:
            self._reckoned = now
            for owed in self._owed:
                owed.reckon(self.slots, self._blocking.value, now)

    def _open(self, free: int, now: float) -> None:
        """Note which bands had no slot to start in until now that a ticket ends.

        Args:
            free: Slots that were free before it ended.
            now: Unix seconds.
        """
        if free > self._kept:
            return  # every band had one
        for state in self._bands:
            if self._usable(state, free) <= 0:
                state.opened = now

    def withdraw(self, task_id: str) -> list[Ticket]:
        """Take out all held tickets of a task id."""
        withdrawn: list[Ticket] = []
        for entry in self._held.pop(task_id, ()):
            ticket: Ticket = entry[5]
            self._by_name[ticket.band].queue.discard(entry)
            self._held_total -= 1
            withdrawn.append(ticket)
        self._compact()
        return withdrawn

    def move(self, task_id: str, band: str) -> int:
        """Let held tickets of a task id wait in another band, with their age; tell how many.

        Raises:
            KeyError: no such band.
        """
        state = self._by_name[band]
        entries = list(self._held.get(task_id, ()))
        copies = [entry.copy() for entry in entries]
        self.withdraw(task_id)
        for copy in copies:
            copy[5].band = band
            self._hold(state, copy)
        return len(copies)

    def drain(self) -> list[Ticket]:
        """Forget all held tickets and give them in the order of their arrival."""
        entries = [entry for entries in self._held.values() for entry in entries]
        entries.sort(key=lambda entry: entry[4])
        tickets: list[Ticket] = [entry[5] for entry in entries]
        for entry, ticket in zip(entries, tickets, strict=True):
            self._by_name[ticket.band].queue.discard(entry)
        self._held.clear()
        self._held_total = 0
        self._expiring.clear()
        return tickets

    def window(self, band: str) -> int:
        """Tell how many more messages of a band to ask for.

        As many as could start now, and the look-ahead.
        """
        state = self._by_name[band]
        usable = self._usable(state, self.slots - len(self._running))
        return max(0, max(0, usable) + self.look_ahead(band) - state.queue.length)

    def look_ahead(self, band: str) -> int:
        """Tell how many messages of a band keep the pool busy while tasks are short."""
        free = self.slots - len(self._running)
        releases = self._releases
        if free > 0:
            releases += free / self._by_name[band].expected
        return look_ahead(releases, self.slots)

    def find(self, task_id: str) -> list[Ticket]:
        """List the held tickets of a task id."""
        return [entry[5] for entry in self._held.get(task_id, ())]

    def listed(self, most: int) -> list[Ticket]:
        """List held tickets, the earliest arrivals first."""
        tickets: list[Ticket] = []
        for entries in self._held.values():
            tickets += [entry[5] for entry in entries]
            if len(tickets) >= most:
                break
        return tickets[:most]

    def explain(self, task_id: str, now: float) -> Wait | None:
        """Say why a held ticket waits; None when none of that id is held.

        Takes time in proportion to what is held: for questions, not for decisions.
        """
        entries = self._held.get(task_id)
        if not entries:
            return None
        entry = entries[0]
        ticket: Ticket = entry[5]
        state = self._by_name[ticket.band]
        ahead = sum(
            other[4] < entry[4] and other[5].band == ticket.band
            for others in self._held.values()
            for other in others
        )
        free = self.slots - len(self._running)
        if free <= 0:
            return Wait(Reason.NO_SLOT, ticket.expires, ahead)
        if self._usable(state, free) <= 0:
            return Wait(Reason.RESERVE_KEPT, ticket.expires, ahead)
        until = self._gather(state, GATHER_S, free, now)
        if until > now:
            return Wait(Reason.GATHER, until, ahead)
        return Wait(Reason.BEHIND, ticket.expires, ahead)

    def _expire(self, now: float) -> Expire | None:
        while self._expiring and self._expiring[0][0] <= now:
            entry = heappop(self._expiring)[2]
            ticket = entry[5]
            if ticket is not None:
                self._by_name[ticket.band].queue.discard(entry)
                self._drop(ticket)
                return Expire(ticket)
        return None

    def _drop(self, ticket: Ticket) -> None:
        """Take a ticket out of the index of held ones."""
        self._held_total -= 1
        entries = self._held[ticket.id]
        if len(entries) == 1:
            del self._held[ticket.id]
        else:
            # Its entry has just lost its ticket.
            self._held[ticket.id] = [entry for entry in entries if entry[5] is not None]
        self._compact()

    def _compact(self) -> None:
        if len(self._expiring) > 2 * self._held_total + MOST_DEAD:
            self._expiring = [item for item in self._expiring if item[2][5] is not None]
            heapify(self._expiring)
