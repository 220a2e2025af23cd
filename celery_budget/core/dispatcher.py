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
from celery_budget.core.lookahead import parts
from celery_budget.core.member import Member
from celery_budget.core.obstacles import blocked
from celery_budget.core.patience import LEAST_EXPECTED_S
from celery_budget.core.shortage import note_wait
from celery_budget.core.throttle import PERIOD_S
from celery_budget.core.ticket import Ticket
from celery_budget.policy.budget import Action

#: Nothing to set aside, and nothing to do less.
_FREE: tuple[tuple[int, ...], bool] = ((), False)

# Looking a member up in the enum costs 0.2 us on Python 3.11.
_SHARE, _MIN_SHARE = Reason.SHARE, Reason.MIN_SHARE


class Dispatcher(Member):
    """Decides what starts, what gives way and how much to ask for; see `Member` and `Roster`."""

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
        node, guests, processors = self._node, self._guests, self._processors
        if processors is not None and processors.is_changed:
            moved = self._even_out(processors, now)
            if moved is not None:
                return moved
        if not holding.total and not self._asked and not guests.is_on:
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
            if guests.is_on:
                leaves = self._receive(now)
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
                    if reason is _SHARE and free <= guests.expected:
                        state = None
            if state is None:
                decision = None
                if preemption.is_on:
                    decision, has_changed = self._make_room(free, now)
                    if has_changed:
                        continue
                if decision is None or type(decision) is Wait:
                    if guests.is_on:
                        decision = _earlier(decision, Reason.RESERVE_KEPT, guests.until)
                    if (self.room_elsewhere > 0 or guests.others) and order.urgent:
                        handed = self._hand_on(now)
                        if isinstance(handed, Return):
                            return handed
                        if handed < inf:
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
        guests = self._guests
        awaited = self._awaited() if guests.is_on else 0
        restored = self._preemption.restore(self.slots - guests.expected, now, awaited)
        if restored is not None and self._processors is not None:
            self._processors.is_changed = True
        return restored

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
        if self._processors is not None:
            self._processors.stopped(ticket)

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
            self._node.started(ticket, is_urgent=state.rule.preempts)
        self._running[ticket] = (state, tenant, now, expected, paid, ahead, costs)
        return Start(ticket, reason, is_degraded)

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
        if self._preemption.unkept(free) + state.unfilled <= 0 or self._is_kept(state, free):
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
