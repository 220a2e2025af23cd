"""The dispatcher: decides which held ticket starts next on one worker.

It takes tickets, ends and the time, and answers with decisions; performing them is the
caller's. The worker, the simulation and the property tests run this same code. Rules and
formulas: docs/explanation/scheduling.md.
"""

from __future__ import annotations

from math import inf

from celery_budget.core.admission import Group
from celery_budget.core.bands import BandState
from celery_budget.core.decisions import (
    Decision,
    Expire,
    Reason,
    Refuse,
    Return,
    Start,
    Stay,
    Thaw,
    Wait,
)
from celery_budget.core.lookahead import PARTS, parts
from celery_budget.core.obstacles import blocked
from celery_budget.core.patience import LEAST_EXPECTED_S
from celery_budget.core.shelter import Shelter
from celery_budget.core.shortage import note_wait
from celery_budget.core.throttle import PERIOD_S
from celery_budget.core.ticket import Ticket
from celery_budget.policy.budget import Action

#: Most tickets of a band that are held for a budget, for each slot. Enough to find some behind
#: them that may start, and few, because nobody else can start what is held here: on Redis not even
#: after this worker was killed, until the visibility time-out.
BLOCKED_PER_SLOT = 16

#: So long an urgent ticket waits for a slot of a worker on which nothing can give way before it is
#: left to one that has room, seconds: twice what a worker tells others of its room while it works.
HAND_ON_S = 0.1

#: What a worker wants of one band: messages in its hands, how many of them only to keep the pool
#: busy, and how many it holds. A tuple because one is made after each start and end.
Demand = tuple[int, int, int]

#: Nothing to set aside, and nothing to do less.
_FREE: tuple[tuple[int, ...], bool] = ((), False)

_MIN_SHARE = Reason.MIN_SHARE  # looking it up in the enum costs 0.2 us on Python 3.11


class Dispatcher(Shelter):
    """Decides what starts, what gives way and how much to ask for; see `Shelter` and `Roster`."""

    def has_room(self, band: str) -> bool:
        """Tell whether there may be a slot for a ticket of a band: free, or of what gives way."""
        state = self._by_name[band]
        return self.free > 0 or (state.rule.preempts and self._preemption.room(state) > 0)

    def decide(  # noqa: C901, PLR0911, PLR0912, PLR0915 - one step after the other, and no call more than needed
        self, now: float
    ) -> Decision | None:
        """Give the next action; the caller performs it and asks again.

        Args:
            now: Unix seconds.

        Returns:
            A start, which counts as running from here on; a freeze or a thaw of what runs; an
            expiry or a refusal; a wait until a time at which to ask again; None when nothing can
            change before something arrives or ends, or the ledger answers.
        """
        preemption = self._preemption
        holding = self._holding
        throttling = self._throttling
        # Also after the clock was set back.
        if throttling.has_levels and not throttling.due - PERIOD_S <= now < throttling.due:
            throttling.step(self.slots, self.free, now)
        if throttling.is_on:
            throttling.hold_back(self.slots, now)
        if preemption.is_on:
            preemption.now = now
        if self.accounts is not None and self.accounts.owing:
            self._give_back(self.accounts.owing, now)
        node = self._node
        processors = None if node is None else node.processors
        if processors is not None and processors.is_changed:
            moved = self._even_out(processors, now)
            if moved is not None:
                return moved
        if not holding.total and not self._asked:
            return self._restore(now) if preemption.is_active else None
        if holding.due <= now:
            entry = holding.overdue(now)
            if entry is not None:
                return Expire(self._take(entry))
        order = self._order
        while True:
            if self._asked or self._leaving:
                leaves = self._depart()
                if leaves is not None:
                    return leaves
            if preemption.is_active:
                restored = self._restore(now)
                if restored is not None:
                    return restored
            free = self.slots - len(self._running) + preemption.outside
            state = fenced = self._fenced
            reason = Reason.RANK
            self._fenced = None
            if (
                fenced is None
                or not fenced.queue.length
                or free <= 0
                or preemption.unkept(free) + fenced.unfilled <= 0
            ):
                state = None
                if free > 0:
                    spare = preemption.unkept(free)
                    state, reason = order.choose(spare, now)
                    if state is None and spare == 0:
                        state, reason = self._borrow(now)
            if state is None:
                decision = None
                if preemption.is_on:
                    decision, has_changed = self._make_room(free, now)
                    if has_changed:
                        continue
                if decision is None or type(decision) is Wait:
                    if self.room_elsewhere > 0 and order.urgent:
                        handed = self._hand_on(now)
                        if isinstance(handed, Return):
                            return handed
                        decision = _earlier(decision, Reason.NO_SLOT, handed)
                    if throttling.is_on and free > 0:
                        decision = _earlier(decision, Reason.THROTTLED, throttling.until())
                return decision
            ticket = state.queue.head()
            assert ticket is not None
            if node is not None and self._is_set_aside(node, state, ticket, now):
                continue
            admitted = _FREE
            if ticket.group is not None:
                answer = self._admit(state, ticket, ticket.group, now)
                if answer is None:
                    continue
                if isinstance(answer, Refuse):
                    return answer
                admitted = answer
            expected = self._service[ticket.task]
            if expected >= LEAST_EXPECTED_S and reason is not _MIN_SHARE and state is not fenced:
                until = self._gather(state, expected, free, now)
                if until > now:
                    self._patience.wait(free, now)
                    return Wait(Reason.GATHER, until, 0)
            return self._start(state, ticket, expected, reason, now, admitted)

    def _restore(self, now: float) -> Thaw | Stay | None:
        """Let what gave way go on, before anything that is not more urgent starts."""
        restored = self._preemption.restore(self.slots, now)
        if restored is not None and self._node is not None and self._node.processors is not None:
            self._node.processors.is_changed = True
        return restored

    def _hand_on(self, now: float) -> Return | float:
        """Leave an urgent ticket to another worker, where it could start at once.

        Returns:
            That it goes back to the broker; or when that is to be looked at again, Unix seconds.
        """
        until = inf
        for state in self._order.urgent:
            # What a look-ahead has brought starts soon, or the window would bring it again.
            if not state.queue.length or self._preemption.coming(now) or self.demand(state.name)[1]:
                continue
            ticket = state.queue.head()
            assert ticket is not None
            at = max(ticket.published, ticket.since) + HAND_ON_S
            if now < at:
                until = min(until, at)
                continue
            self.room_elsewhere -= 1
            taken = self._take(state.queue.first())
            taken.group = None
            return Return(taken, Reason.NO_SLOT)
        return until

    def _borrow(self, now: float) -> tuple[BandState | None, Reason]:
        """Choose what may use a slot that is kept for a band, as it would give way to that."""
        state, reason = self._order.choose(1, now)
        if state is not None:
            head = state.queue.head()
            assert head is not None
            if self._preemption.lends_to(head, state):
                return state, reason
        return None, reason

    def _make_room(self, free: int, now: float) -> tuple[Decision | None, bool]:
        """Let a running ticket give way to one that waits in a band above, if there is such.

        Returns:
            What is to be done, and whether to decide again as there is a slot now.
        """
        preemption = self._preemption
        order = self._order
        waiting = 0
        first: BandState | None = None
        for cause in order.urgent:
            # With the slot of one more there has to be one for it, not only for a reserve.
            needs_room = preemption.unkept(free + 1, taken=1) + cause.unfilled > 0
            while cause.queue.length and needs_room and preemption.room(cause):
                first = first or cause
                if preemption.coming(now) >= waiting + cause.queue.length:
                    break  # slots for all of them are on their way
                ticket = cause.queue.head()
                assert ticket is not None
                if self._node is not None and self._is_set_aside(self._node, cause, ticket, now):
                    continue
                if ticket.group is not None:
                    answer = self._admit(cause, ticket, ticket.group, now)
                    if answer is None:
                        continue
                    if isinstance(answer, Refuse):
                        return answer, False
                decision, is_room = preemption.make_room(cause, ticket, now)
                if is_room:
                    # A slot that is there at once is for the most urgent one, and the slot that is
                    # on its way to that one for the next.
                    self._fenced = first
                if decision is not None or is_room:
                    self._keep(ticket, now)
                    return decision, decision is None
                break
            waiting += cause.queue.length
        until = preemption.tried_again(now) if waiting else inf
        return None if until == inf else Wait(Reason.NO_SLOT, until, 0), False

    def failed(self, ticket: Ticket, now: float) -> None:
        """Take note that a ticket could not give way: it runs on, and another may do so."""
        self._preemption.failed(ticket, now)
        self._fenced = None

    def thawed(self, ticket: Ticket, now: float) -> None:
        """Take note that something else has let a frozen ticket go on."""
        self._preemption.thawed(ticket, now)
        if self._node is not None and self._node.processors is not None:
            self._node.processors.stopped(ticket)

    def _admit(
        self, state: BandState, ticket: Ticket, group: Group, now: float
    ) -> tuple[tuple[int, ...], bool] | Refuse | None:
        """Ask the budgets whether the head of a queue may start.

        Returns:
            What to set aside for it, and whether it is to do less; None when it waits for a
            budget or in another band from now on.
        """
        accounts = self.accounts
        assert accounts is not None
        if group.pause is not None:
            group.since = now
            state.queue.block(group)
            return None
        costs = accounts.costs(group, ticket)
        action, allowance, is_degraded = verdict = accounts.judge(group, costs, now)
        if action is None or allowance is None:
            return costs, is_degraded
        if action is Action.SHED:
            entry = state.queue.first()
            return Refuse(self._take(entry), allowance.name, allowance.budget.path)
        lower = self._order.below(state)
        if action is Action.DEMOTE and lower is not None:
            ticket.excused |= {allowance.budget.path}
            self._transfer(state.queue.first(), lower, now)
            return None
        others = accounts.block(group, verdict, costs, now)
        state.queue.block(group)
        if others:
            self.wake(others, now)
        return None

    def _gather(self, state: BandState, expected: float, free: int, now: float) -> float:
        """Tell until when a ticket gives way to messages that may arrive; in the past: start it."""
        patience = self._patience.limit(expected)
        if not self._order.freed <= now < self._order.freed + patience:
            return -inf
        return self._order.gather(state, patience, self._preemption.unkept(free), now)

    def _start(
        self,
        state: BandState,
        ticket: Ticket,
        expected: float,
        reason: Reason,
        now: float,
        admitted: tuple[tuple[int, ...], bool],
    ) -> Start:
        self._order.advance(state, reason)
        tenant = state.queue.pop(expected)
        self._holding.drop(ticket)
        if not state.queue.length:
            # Its window has room again, and the next message may be on its way.
            state.opened = now
        if self._patience.since != inf:
            self._patience.end(now)
        if state.waits is not None:
            note_wait(state, state.waits, ticket, now)
        weighted = expected / state.rule.weight
        state.tag += weighted
        state.unserved += weighted
        state.running += 1
        if state.reserve:
            self._order.keep()
        paid = state.share.pay() if state.share and reason is _MIN_SHARE else 0.0
        # An unknown task may run for an hour: nothing is fetched to follow it.
        ahead = parts(expected) if ticket.task in self._service else 0
        self._parts += ahead
        costs, is_degraded = admitted
        if ticket.is_degraded or (
            ticket.can_degrade and state.degrading is not None and state.degrading.is_on
        ):
            is_degraded = True
        if costs:
            assert self.accounts is not None
            assert ticket.group is not None
            self.accounts.reserve(ticket.group, costs)
        if ticket.methods:
            self._preemption.started(ticket, state)
        if self._node is not None:
            self._node.started(ticket)
            if self._node.processors is not None:
                self._node.processors.started(ticket, is_urgent=state.rule.preempts)
        self._running[ticket] = (state, tenant, now, expected, paid, ahead, costs)
        return Start(ticket, reason, is_degraded)

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

    def explain(self, task_id: str, now: float) -> Wait | None:
        """Say why a held ticket waits; None when none of that id is held.

        Takes time in proportion to what is held: for questions, not for decisions.
        """
        entries = self._holding.entries(task_id)
        if not entries:
            return None
        arrival, ticket = entries[0][4:]
        state = self._by_name[ticket.band]
        ahead = sum(
            other[4] < arrival and other[5].band == ticket.band for other in self._holding.all()
        )
        group = ticket.group
        if (
            group is not None
            and group.is_blocked
            and (group.pause or group.waits_for or group.is_tight)
        ):
            return blocked(group, ahead)
        reason, until = self._obstacle(state, ticket, now)
        return Wait(reason, until, ahead)

    def _obstacle(self, state: BandState, ticket: Ticket, now: float) -> tuple[Reason, float]:
        """Say what keeps a ticket of a band from a slot, and until when."""
        free = self.free
        if state.is_closed or (free and state.squeezed < inf):
            return Reason.PRESSURE if state.is_closed else Reason.CPU, ticket.expires
        if not free:
            return Reason.NO_SLOT, ticket.expires
        if self._preemption.unkept(free) + state.unfilled <= 0:
            return Reason.RESERVE_KEPT, ticket.expires
        if state.is_throttled:
            return Reason.THROTTLED, self._throttling.until()
        until = self._gather(state, self._service[ticket.task], free, now)
        if until > now:
            return Reason.GATHER, until
        return Reason.BEHIND, ticket.expires


def _earlier(wait: Wait | None, reason: Reason, until: float) -> Wait | None:
    """Look again at that time too."""
    if until == inf or (wait is not None and wait.until <= until):
        return wait
    return Wait(reason, until, 0)
