"""Preemption: which running tickets give way to more urgent ones, and when they go on.

The choice is about fairness and about work that is lost: first a band that has more than its
share, then the least urgent one, then what has given way least and loses least. A ticket is never
frozen for longer than it has run: with that it ends within twice its own time, however much urgent
work there is. One that would be, goes on beside the urgent one instead, in a process more than
there are slots. What leaves instead (`departures.py`) frees its slot a moment later. Used by the
dispatcher alone. Rules and formulas: docs/explanation/preemption.md.
"""

from __future__ import annotations

from itertools import chain
from math import inf

from celery_budget.core.bands import BandState
from celery_budget.core.decisions import Evict, Freeze, Stay, Thaw, Yield
from celery_budget.core.leeway import Leeway
from celery_budget.core.order import Order
from celery_budget.core.relief import Place, Relief, Running, place_of
from celery_budget.core.ticket import Ticket
from celery_budget.policy.preemption import Method, PreemptionRule

#: How long a ticket is left alone that could not be frozen, seconds: at first as long as a child
#: takes at most to begin or end a task, and twice as long each time. What has started programs may
#: keep them for long, and each try stops it for a moment.
FIRST_RETRY_S, LAST_RETRY_S = 0.002, 1.0

_AT_ONCE = -inf, 0.0


class Preemption(Leeway):
    """What gives way on one worker; see `Leeway`.

    Args:
        rule: As declared.
        ways: In which tickets can give way on this worker.
        spare: Processes beside the slots.
        order: The bands of the worker.
        running: What was started on it. The methods of a ticket are those that the worker has.

    Attributes:
        max_freeze_s: Longest time for which one is frozen at a stretch, seconds.
        relief: Lets tickets leave for what they take.
        still: Tickets that are frozen in slots of their own, as they would keep busy a processor
            that a more urgent one needs.
    """

    __slots__ = ("_beside", "_frozen", "_frozen_s", "_running", "max_freeze_s", "relief", "still")

    def __init__(
        self,
        rule: PreemptionRule,
        ways: frozenset[Method],
        spare: int,
        order: Order,
        running: Running,
    ) -> None:
        super().__init__(ways, spare, order)
        self._running = running
        self.max_freeze_s = rule.max_freeze_s
        #: When each was frozen, the earliest first.
        self._frozen: dict[Ticket, float] = {}
        #: Of those that have been frozen before: for how long, seconds.
        self._frozen_s: dict[Ticket, float] = {}
        self._beside: dict[Ticket, None] = {}
        self.still: dict[Ticket, None] = {}
        self.relief = Relief(order, running, self._departures, self._frozen, self._spared)

    @property
    def frozen(self) -> tuple[Ticket, ...]:
        """What gives way now, the earliest first."""
        return tuple(self._frozen)

    def is_frozen(self, ticket: Ticket) -> bool:
        """Tell whether a ticket stands still."""
        return ticket in self._frozen

    @property
    def is_active(self) -> bool:
        """Whether something gives way now, or was asked to."""
        return self.outside > 0 or self._departures.asked > 0 or bool(self.still)

    def started(self, ticket: Ticket, state: BandState) -> None:
        """Take note of a ticket that starts and may give way."""
        self._departures.started(ticket)
        self._count(ticket, state, 1)

    def _count(self, ticket: Ticket, state: BandState, change: int) -> None:
        """Count a ticket that gets a slot (1) or gives it up (-1) by how it could give way."""
        if self._departures.can_leave(ticket):
            state.leaving += change
        elif Method.FREEZE in ticket.methods:
            state.yielding += change

    def make_room(
        self, cause: BandState, head: Ticket, now: float
    ) -> tuple[Freeze | Yield | Evict | None, bool]:
        """Let a ticket give way to one that waits.

        Args:
            cause: Band of the one that waits; there is `room` for it.
            head: The one that waits.
            now: Unix seconds.

        Returns:
            What is to be done; and whether there is a slot from here on: one goes on beside the
            slots if nothing is to be done for it.
        """
        if self.still and self.outside < self.spare and self._take_still(cause):
            return None, True
        found = self._cheapest(cause.rule.rank, now)
        if found is None:
            return None, False
        chosen, way, had_enough = found
        if way is not Method.FREEZE:
            return self.relief.release(chosen, way, now, cause=head), False
        self._leave_slot(chosen)
        if had_enough:
            self._beside[chosen] = None
            return None, True
        self._frozen[chosen] = now
        return Freeze(chosen, head), True

    def empty(self, now: float) -> Yield | Evict | None:
        """Ask a ticket to leave for one that is not here yet; None where nobody can."""
        found = self._cheapest(self._order.urgent[-1].rule.rank, now, is_for_guest=True)
        if found is None:
            return None
        ticket, way, _ = found
        return self.relief.release(ticket, way, now, is_for_guest=True)

    def _cheapest(
        self, rank: int, now: float, *, is_for_guest: bool = False
    ) -> tuple[Ticket, Method, bool] | None:
        """Choose what gives way to a band of a rank, and how; None where nothing can.

        Args:
            rank: Only what is below it is chosen.
            now: Unix seconds.
            is_for_guest: Leave out what can be frozen: that can be done when the guest is here.

        Returns:
            Also whether it would only be moved beside the slots.
        """
        over = self._order.over_share()
        chosen: tuple[Ticket, Method, bool] | None = None
        best: tuple[bool, Place] | None = None
        for ticket, (state, _, started, *_rest) in self._running.items():
            if state.rule.rank <= rank:
                continue
            for method in ticket.methods:
                if method is Method.FREEZE and self.outside >= self.spare:
                    continue
                answer = self._price(method, ticket, state, started, now)
                if answer is None:
                    continue
                if is_for_guest and method is Method.FREEZE:
                    break
                had_enough, price = answer
                key = had_enough, place_of(state, over, price, started)
                if best is None or key < best:
                    best, chosen = key, (ticket, method, had_enough)
                break  # the first one that can be done
        return chosen

    def _take_still(self, cause: BandState) -> bool:
        """Take its slot from a ticket that is frozen already, the least urgent one."""
        below = [
            (self._running[ticket][0].rule.rank, ticket)
            for ticket in self.still
            if self._running[ticket][0].rule.rank > cause.rule.rank
        ]
        if not below:
            return False
        _, ticket = max(below, key=lambda each: each[0])
        del self.still[ticket]
        self._leave_slot(ticket)
        return True

    def stoppable(self, now: float) -> list[Ticket]:
        """List the tickets of lesser bands that could be frozen in their slots.

        The one that should be first at the front, as for slots; see `place_of`.
        """
        over = self._order.over_share()
        able = []
        for ticket, (state, _, started, *_rest) in self._running.items():
            if not state.is_lesser or Method.FREEZE not in ticket.methods:
                continue
            answer = self._price(Method.FREEZE, ticket, state, started, now)
            if answer is not None and not answer[0]:
                able.append((place_of(state, over, answer[1], started), ticket))
        able.sort(key=lambda each: each[0])
        return [ticket for _, ticket in able]

    def stop(self, ticket: Ticket, now: float) -> None:
        """Freeze a ticket in its slot."""
        self._frozen[ticket] = now
        self.still[ticket] = None

    def _price(
        self, method: Method, ticket: Ticket, state: BandState, started: float, now: float
    ) -> tuple[bool, float] | None:
        """Tell what it costs a ticket to give way in one way; None: it cannot be done now.

        Returns:
            Whether it has given way so much that it would only be moved beside the slots; and what
            it has given, would lose and would let others wait, seconds.
        """
        if (
            ticket in self._frozen
            or ticket in self._beside
            or self._spared.get(ticket, _AT_ONCE)[0] > now
        ):
            return None
        # One whose band is owed its minimum share would have to go on at once.
        is_due = state.is_owed(now)
        if method is not Method.FREEZE:
            if is_due or self._departures.may_leave(ticket, method, started, now) > now:
                return None
            return False, self._departures.price(ticket, method, now - started)
        if self._departures.is_coming(ticket, now):
            return None
        frozen_s = self._frozen_s.get(ticket, 0.0)
        return is_due or 0 < frozen_s >= now - started - frozen_s, frozen_s

    def has_left(self, ticket: Ticket) -> bool:
        """Tell whether a ticket of this id has left a slot of this worker before."""
        return self._departures.has_left(ticket)

    def coming(self, now: float) -> int:
        """Tell how many slots are on their way, of tickets that were asked to leave."""
        return self._departures.coming(now)[0]

    def tried_again(self, now: float) -> float:
        """Tell when it may be worth while to look for room again; inf: when something ends."""
        tries = [until for until, _ in self._spared.values() if until > now]
        tries.append(self._departures.coming(now)[1])
        for ticket, (_, _, started, *_rest) in self._running.items():
            for method in ticket.methods:
                if method is not Method.FREEZE:
                    at = self._departures.may_leave(ticket, method, started, now)
                    if at > now:
                        tries.append(at)
        return min(tries)

    def failed(self, ticket: Ticket, now: float) -> None:
        """Take note that a ticket could not be stopped or asked: it runs on in its slot."""
        if self._frozen.pop(ticket, None) is None:
            self._departures.failed(ticket)
        elif ticket in self.still:
            del self.still[ticket]
        else:
            self._return_to_slot(ticket)
        if ticket in self._running:
            _, before = self._spared.get(ticket, _AT_ONCE)
            pause = min(max(FIRST_RETRY_S, 2 * before), LAST_RETRY_S)
            self._spared[ticket] = now + pause, pause

    def thawed(self, ticket: Ticket, now: float) -> None:
        """Take note that a frozen ticket goes on: in its slot, or beside the slots without one."""
        since = self._frozen.pop(ticket, None)
        if since is None:
            return
        self._add(ticket, since, now)
        if ticket in self.still:
            del self.still[ticket]
        else:
            self._beside[ticket] = None

    def restore(self, slots: int, now: float, awaited: int = 0) -> Thaw | Stay | None:
        """Let what gave way go on, before anything that is not more urgent starts.

        Args:
            slots: Of the worker, without those that are kept for guests.
            now: Unix seconds.
            awaited: Slots that have to become free for guests.
        """
        waiting = awaited + sum(state.queue.length for state in self._order.urgent)
        spared = self._departures.spared(waiting, now)
        if spared is not None:
            return Stay(spared)
        for ticket, since in self._frozen.items():
            if not since <= now < since + self.max_freeze_s:
                if ticket in self.still:
                    # In its slot nothing else keeps it from being frozen again at once.
                    self._spared[ticket] = now + self.max_freeze_s, LAST_RETRY_S
                self.thawed(ticket, now)
                return Thaw(ticket)
            break  # the earliest
        while (free := slots - len(self._running) + self.outside) > 0:
            found = self._next(now)
            if found is None or not self._has_place(*found, free):
                return None
            ticket, _ = found
            self._return_to_slot(ticket)
            if ticket in self._frozen:
                # At once, and not after a moment for messages that may be on their way: to freeze
                # it again costs less than to let it stand still for them.
                self._add(ticket, self._frozen.pop(ticket), now)
                return Thaw(ticket)
            del self._beside[ticket]
        return None

    def _has_place(self, ticket: Ticket, is_owed: bool, free: int) -> bool:
        """Tell whether a ticket that gave way may have a slot again."""
        order = self._order
        state = self._running[ticket][0]
        # In its slot it could give way again, so that even a kept one is lent to it.
        return self.unkept(free) + order.lends_to(state) > 0 and (
            is_owed or not order.is_waiting_above(state)
        )

    def _next(self, now: float) -> tuple[Ticket, bool] | None:
        """Choose what gets a slot again first.

        A frozen one whose band is owed its minimum share, then by rank, those that go on beside
        the slots before frozen ones, and the earliest.

        Returns:
            A ticket, and whether its band is owed its share; None when nothing gives way.
        """
        best: tuple[bool, int] | None = None
        chosen: Ticket | None = None
        for ticket in chain(self._beside, self._frozen):
            if ticket in self.still:
                continue
            state = self._running[ticket][0]
            place = (not (ticket in self._frozen and state.is_owed(now)), state.rule.rank)
            if best is None or place < best:
                best, chosen = place, ticket
        return None if chosen is None or best is None else (chosen, not best[0])

    def _leave_slot(self, ticket: Ticket) -> None:
        self._count(ticket, self._running[ticket][0], -1)
        self.outside += 1

    def _return_to_slot(self, ticket: Ticket) -> None:
        self._count(ticket, self._running[ticket][0], 1)
        self.outside -= 1

    def _add(self, ticket: Ticket, since: float, now: float) -> None:
        self._frozen_s[ticket] = self._frozen_s.get(ticket, 0.0) + max(0.0, now - since)

    def ended(
        self, ticket: Ticket, state: BandState, now: float, *, has_left: bool
    ) -> tuple[float, bool]:
        """Forget a ticket that has ended.

        Args:
            ticket: May give way, and is no longer running.
            state: Of its band.
            now: Unix seconds.
            has_left: Whether it comes back to do the rest.

        Returns:
            For how long it was frozen, seconds; and whether its slot was waited for.
        """
        self._spared.pop(ticket, None)
        since = self._frozen.pop(ticket, None)
        if since is not None:
            self._add(ticket, since, now)
        if ticket in self.still:
            del self.still[ticket]
            self._count(ticket, state, -1)
        elif since is not None or ticket in self._beside:
            self._beside.pop(ticket, None)
            self.outside -= 1
        else:
            self._count(ticket, state, -1)
        is_awaited = self._departures.ended(ticket, now, has_left=has_left)
        return self._frozen_s.pop(ticket, 0.0), is_awaited
