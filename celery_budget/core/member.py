"""The member: what one worker of a fleet asks for, leaves to others, and makes room for.

An urgent ticket that is stuck on one worker is handed on to one that has room. Workers tell each
other of both through the ledger, so that room can be made before the message comes. Used by the
dispatcher alone. Rules: docs/explanation/preemption.md.
"""

from __future__ import annotations

from math import inf

from celery_budget.core.bands import BandState
from celery_budget.core.decisions import Evict, Reason, Return, Yield
from celery_budget.core.exchange import MOST_ROOM
from celery_budget.core.guests import HAND_ON_S
from celery_budget.core.lookahead import PARTS
from celery_budget.core.shelter import Shelter

#: Most tickets of a band that are held for a budget, for each slot. Enough to find some behind
#: them that may start, and few, because nobody else can start what is held here: on Redis not even
#: after this worker was killed, until the visibility time-out.
BLOCKED_PER_SLOT = 16

#: What a worker wants of one band: messages in its hands, how many of them only to keep the pool
#: busy, and how many it holds. A tuple because one is made after each start and end.
Demand = tuple[int, int, int]

#: What a worker tells the others: for how many urgent tickets it has room, how many of its own wait
#: (below zero: could start), and for how many it could let others leave.
Urgency = tuple[int, int, int]


class Member(Shelter):
    """A shelter among others; see `Shelter` and `Roster`."""

    def has_room(self, band: str) -> bool:
        """Tell whether there may be a slot for a ticket of a band: free, or of what gives way."""
        state = self._by_name[band]
        return self.free > 0 or (state.rule.preempts and self._preemption.room(state) > 0)

    def demand(self, band: str) -> Demand:
        """Tell what to have of a band: as much as could start now, and the look-ahead."""
        state = self._by_name[band]
        if (
            state.is_paused
            or state.is_closed
            or state.squeezed < inf
            or state.queue.blocked >= BLOCKED_PER_SLOT * self.slots
        ):
            return 0, 0, state.queue.length
        free = self.slots - len(self._running) + self._preemption.outside
        usable = free - self._order.kept + state.unfilled
        preemption = self._preemption
        if preemption.is_on or self._order.given:
            usable = min(free, preemption.unkept(free) + state.unfilled)
            if usable < free:
                usable = min(free, usable + preemption.lends(state))
            if state.rule.preempts:
                usable += preemption.room(state)
            elif self._guests.expected:
                usable = min(usable, max(free - self._guests.expected, state.unfilled))
        if self._throttling.is_on and not state.rule.preempts:
            usable = min(usable, self._throttling.room(state, self.slots))
        ahead = (self._parts + state.rounding + (free * state.parts if free > 0 else 0)) // PARTS
        if ahead > state.most_ahead:  # noqa: PLR1730 - hot path
            ahead = state.most_ahead
        return ahead + usable if usable > 0 else ahead, ahead, state.queue.length

    def window(self, band: str) -> int:
        """Tell how many more messages of a band to ask for."""
        wanted, _, held = self.demand(band)
        return max(0, wanted - held)

    def _hand_on(self, now: float) -> Return | float:
        """Leave an urgent ticket to another worker, where it could start at once.

        Returns:
            That it goes back to the broker; or when that is to be looked at again, Unix seconds.
        """
        until = inf
        guests = self._guests
        for state in self._order.urgent:
            # What a look-ahead has brought starts soon, or the window would bring it again.
            if not state.queue.length or self._preemption.coming(now) or self.demand(state.name)[1]:
                continue
            if guests.others and not guests.is_stuck:
                guests.has_news = True
            if self.room_elsewhere <= 0:
                continue
            ticket = state.queue.head()
            assert ticket is not None
            at = max(ticket.published, ticket.since) + HAND_ON_S
            if now < at and not guests.promised:
                until = min(until, at)
                continue
            self.room_elsewhere -= 1
            guests.promised = max(0, guests.promised - 1)
            taken = self._take(state.queue.first())
            taken.group = None
            return Return(taken, Reason.NO_SLOT)
        return until

    def _lack(self, now: float) -> int:
        """Tell how many urgent tickets have no slot on its way; below zero: slots left over."""
        urgent = self._order.urgent
        held = [state for state in urgent if state.queue.length]
        # What a look-ahead has brought starts soon.
        waiting = sum(state.queue.length for state in held if not self.demand(state.name)[1])
        coming = self._preemption.coming(now)
        usable = self._usable_by(urgent[0])
        lack = waiting - coming - usable - self._preemption.at_once(urgent[0])
        # As long as slots are coming, the rest is not handed on either.
        return min(lack, 0) if coming else lack

    def urgency(self, now: float) -> Urgency:
        """Write what a report tells the others of urgent tickets.

        Args:
            now: Unix seconds.
        """
        guests = self._guests
        guests.has_news = False
        if not self._order.urgent:
            return 0, 0, 0
        waiting = guests.told(self._lack(now))
        guests.is_stuck = waiting > 0
        places = 0 if guests.is_stuck or not guests.may_come(now) else self._preemption.places()
        return (
            min(self.urgent_room(), MOST_ROOM),
            max(-MOST_ROOM, min(waiting, MOST_ROOM)),
            min(places, MOST_ROOM),
        )

    def expect(self, waiting: int, workers: int, now: float) -> None:
        """Take note for how many urgent tickets of others to make room.

        Args:
            waiting: As the ledger answered.
            workers: Of the fleet, this one among them.
            now: Unix seconds.
        """
        guests = self._guests
        guests.others = workers - 1 if self._order.urgent else 0
        guests.promised = max(0, -waiting)
        if waiting > 0 and guests.may_come(now):
            guests.begin(waiting, now)

    @property
    def has_news(self) -> bool:
        """Whether others should hear at once of urgent tickets here, or that room is theirs."""
        return self._guests.has_news

    def is_watching(self, now: float) -> bool:
        """Tell whether this worker should hear soon of urgent tickets elsewhere, or others of its.

        Args:
            now: Unix seconds.
        """
        guests = self._guests
        if guests.is_stuck or guests.is_on:
            return guests.others > 0
        return guests.may_come(now) and self._preemption.places() > 0

    def _awaited(self) -> int:
        """Tell how many running tickets are to leave for guests."""
        expected = self._guests.expected
        return max(0, expected - self._usable_by(self._order.urgent[0])) if expected else 0

    def _is_kept(self, state: BandState, free: int) -> bool:
        """Tell whether the free slots are kept for guests from a band."""
        return not state.rule.preempts and free <= self._guests.expected and not state.unfilled

    def _receive(self, now: float) -> Yield | Evict | None:
        """Let a ticket leave for a guest, if slots are lacking; let go of guests that are late."""
        guests = self._guests
        if guests.is_over(now) or not self._order.urgent:
            guests.end(now)
            return None
        if not guests.expected:
            return None
        # What waits here has the first claim to all that is coming.
        lacking = guests.expected + min(0, self._lack(now))
        if lacking <= 0:
            return None
        preemption = self._preemption
        unfilled = self._order.urgent[0].unfilled
        # As for tickets that are here: the slot of one more has to be one for it.
        if preemption.unkept(self.free + 1, taken=1) + unfilled > 0:
            decision = preemption.empty(now)
            if decision is not None:
                guests.asked()
                return decision
        guests.forgo(min(lacking, guests.expected), now)
        return None
