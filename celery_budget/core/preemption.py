"""Preemption: which running tickets give way to more urgent ones, and when they go on.

Freezing loses no work, so that the choice is about fairness: first a band that has more than its
share, then the least urgent one, then what was frozen least. A ticket is never frozen for longer
than it has run: with that it ends within twice its own time, however much urgent work there is.
One that would be, goes on beside the urgent one instead, in a process more than there are slots.
Used by the dispatcher alone. Rules and formulas: docs/explanation/preemption.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from math import inf

from celery_budget.core.bands import BandState
from celery_budget.core.decisions import Thaw
from celery_budget.core.order import Order
from celery_budget.core.ticket import Ticket
from celery_budget.policy.preemption import Method, PreemptionRule

#: How long a ticket is left alone that could not be frozen, seconds: at first as long as a child
#: takes at most to begin or end a task, and twice as long each time. What has started programs may
#: keep them for long, and each try stops it for a moment.
FIRST_RETRY_S, LAST_RETRY_S = 0.002, 1.0

_AT_ONCE = -inf, 0.0

#: What was started: the dispatcher's `Run` of each, of which the band and the time count here.
Running = Mapping[Ticket, tuple[BandState, object, float, float, float, int, tuple[int, ...]]]


class Preemption:
    """What gives way on one worker.

    Args:
        rule: As declared; None where nothing can give way.
        order: The bands of the worker.
        running: What was started on it.

    Attributes:
        spare: Processes beside the slots; 0 where nothing can give way.
        outside: Tickets that were started and use no slot: frozen, or beside the slots.
        max_freeze_s: Longest time for which one is frozen at a stretch, seconds.
    """

    __slots__ = (
        "_beside",
        "_frozen",
        "_frozen_s",
        "_order",
        "_running",
        "_spared",
        "max_freeze_s",
        "outside",
        "spare",
    )

    def __init__(self, rule: PreemptionRule | None, order: Order, running: Running) -> None:
        self._order = order
        self._running = running
        self.spare = 0 if rule is None else rule.spare
        self.max_freeze_s = inf if rule is None else rule.max_freeze_s
        self.outside = 0
        #: When each was frozen, the earliest first.
        self._frozen: dict[Ticket, float] = {}
        #: Of those that have been frozen before: for how long, seconds.
        self._frozen_s: dict[Ticket, float] = {}
        self._beside: dict[Ticket, None] = {}
        #: Of those that could not be frozen: until when they are left alone, and for how long.
        self._spared: dict[Ticket, tuple[float, float]] = {}

    @property
    def frozen(self) -> tuple[Ticket, ...]:
        """What gives way now, the earliest first."""
        return tuple(self._frozen)

    def room(self, band: BandState) -> int:
        """Tell how many tickets could give way to tickets of a band that preempts."""
        left = self.spare - self.outside
        if left <= 0:
            return 0
        below = self._order.bands[band.rule.rank + 1 :]
        return min(left, sum(state.yielding for state in below))

    def make_room(self, cause: BandState, slots: int, now: float) -> tuple[Ticket | None, bool]:
        """Let a ticket give way to one that waits, so that it uses no slot from here on.

        Args:
            cause: Band of the one that waits; there is `room` for it.
            slots: Of the worker.
            now: Unix seconds.

        Returns:
            What gives way, None when nothing can; and whether it is to be frozen. Else it goes on
            beside the slots.
        """
        over = _over_share(self._order.bands, slots)
        chosen: Ticket | None = None
        best: tuple[bool, bool, int, float, float] | None = None
        for ticket, (state, _, started, *_rest) in self._running.items():
            if (
                state.rule.rank <= cause.rule.rank
                or Method.FREEZE not in ticket.methods
                or ticket in self._frozen
                or ticket in self._beside
                or self._spared.get(ticket, _AT_ONCE)[0] > now
            ):
                continue
            frozen_s = self._frozen_s.get(ticket, 0.0)
            # One whose band is owed its minimum share would have to go on at once.
            had_enough = 0 < frozen_s >= now - started - frozen_s or _is_owed(state, now)
            key = (had_enough, state.name not in over, -state.rule.rank, frozen_s, -started)
            if best is None or key < best:
                best, chosen = key, ticket
        if chosen is None or best is None:
            return None, False
        self._leave_slot(chosen)
        had_enough = best[0]
        if had_enough:
            self._beside[chosen] = None
        else:
            self._frozen[chosen] = now
        return chosen, not had_enough

    def tried_again(self, now: float) -> float:
        """Tell when a ticket that could not be frozen may be tried again; inf: there is none."""
        return min((until for until, _ in self._spared.values() if until > now), default=inf)

    def failed(self, ticket: Ticket, now: float) -> None:
        """Take note that a ticket could not be stopped: it runs on in its slot."""
        if self._frozen.pop(ticket, None) is not None:
            self._return_to_slot(ticket)
            _, before = self._spared.get(ticket, _AT_ONCE)
            pause = min(max(FIRST_RETRY_S, 2 * before), LAST_RETRY_S)
            self._spared[ticket] = now + pause, pause

    def thawed(self, ticket: Ticket, now: float) -> None:
        """Take note that a frozen ticket goes on; beside the slots, as it was given none."""
        since = self._frozen.pop(ticket, None)
        if since is not None:
            self._add(ticket, since, now)
            self._beside[ticket] = None

    def restore(self, slots: int, now: float) -> Thaw | None:
        """Let what gave way go on, before anything that is not more urgent starts."""
        for ticket, since in self._frozen.items():
            if not since <= now < since + self.max_freeze_s:
                self.thawed(ticket, now)
                return Thaw(ticket)
            break  # the earliest
        while slots - len(self._running) + self.outside - self._order.kept > 0:
            found = self._next(now)
            if found is None:
                return None
            ticket, is_owed = found
            if not is_owed and self._order.is_waiting_above(self._running[ticket][0]):
                return None
            self._return_to_slot(ticket)
            if ticket in self._frozen:
                # At once, and not after a moment for messages that may be on their way: to freeze
                # it again costs less than to let it stand still for them.
                self._add(ticket, self._frozen.pop(ticket), now)
                return Thaw(ticket)
            del self._beside[ticket]
        return None

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
            state = self._running[ticket][0]
            place = (not (ticket in self._frozen and _is_owed(state, now)), state.rule.rank)
            if best is None or place < best:
                best, chosen = place, ticket
        return None if chosen is None or best is None else (chosen, not best[0])

    def _leave_slot(self, ticket: Ticket) -> None:
        self._running[ticket][0].yielding -= 1
        self.outside += 1

    def _return_to_slot(self, ticket: Ticket) -> None:
        self._running[ticket][0].yielding += 1
        self.outside -= 1

    def _add(self, ticket: Ticket, since: float, now: float) -> None:
        self._frozen_s[ticket] = self._frozen_s.get(ticket, 0.0) + max(0.0, now - since)

    def ended(self, ticket: Ticket, state: BandState, now: float) -> float:
        """Forget a ticket that has ended; tell for how long it was frozen, seconds.

        Args:
            ticket: May give way, and is no longer running.
            state: Of its band.
            now: Unix seconds.
        """
        self._spared.pop(ticket, None)
        since = self._frozen.pop(ticket, None)
        if since is not None:
            self._add(ticket, since, now)
        if since is not None or ticket in self._beside:
            self._beside.pop(ticket, None)
            self.outside -= 1
        else:
            state.yielding -= 1
        return self._frozen_s.pop(ticket, 0.0)


def _is_owed(state: BandState, now: float) -> bool:
    return state.share is not None and state.share.is_due(now)


def _over_share(bands: Sequence[BandState], slots: int) -> set[str]:
    """Name the bands that run more than their weights give them of the slots."""
    shared = [state for state in bands if not state.rule.preempts]
    total = sum(s.rule.weight for s in shared if s.running or s.queue.length or s.queue.blocked)
    return {s.name for s in shared if s.running * total > slots * s.rule.weight}
