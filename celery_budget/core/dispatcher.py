"""The dispatcher: decides which held ticket starts next on one worker.

It takes tickets, ends and the time, and answers with decisions; performing them is the
caller's. The worker, the simulator and the property tests run this same code. Rules and
formulas: docs/explanation/scheduling.md.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from math import inf
from types import MappingProxyType
from zlib import crc32

from celery_budget.core.accounts import Accounts
from celery_budget.core.admission import Group
from celery_budget.core.bands import BandState
from celery_budget.core.decisions import Decision, Expire, Reason, Refuse, Start, Wait
from celery_budget.core.fairness import Tenant
from celery_budget.core.holding import Holding
from celery_budget.core.line import Entry
from celery_budget.core.lookahead import PARTS, parts
from celery_budget.core.order import RECKON_S, Order
from celery_budget.core.patience import LEAST_EXPECTED_S, MOST_SAVED_S, Patience
from celery_budget.core.preemption import Preemption
from celery_budget.core.service import ServiceTimes
from celery_budget.core.throttle import PERIOD_S
from celery_budget.core.throttling import Throttling, note_wait
from celery_budget.core.ticket import Ticket
from celery_budget.policy.budget import Action
from celery_budget.policy.model import Band, Policy
from celery_budget.policy.preemption import DEFAULT_PREEMPTION, Method, PreemptionRule

#: How long one tie-break order lasts, seconds. Rotating it keeps a name that happens to sort
#: first from always winning.
ROTATION_S = 60.0

#: Arrival numbers are this far apart, so that a ticket that is moved keeps its arrival and still
#: differs from the entry it leaves behind.
APART = 1 << 20

#: A ticket that has a slot: its band and tenant, when it started, its expected service time, what
#: was paid for its band's minimum share, its part of the look-ahead, and what was set aside of its
#: budgets. A tuple, because one is made for each execution, in a quarter of the time of an object.
Run = tuple[BandState, Tenant, float, float, float, int, tuple[int, ...]]

#: Most tickets of a band that are held for a budget, for each slot. Enough to find some behind
#: them that may start, and few, because nobody else can start what is held here: on Redis not even
#: after this worker was killed, until the visibility time-out.
BLOCKED_PER_SLOT = 16

#: What a worker wants of one band: messages in its hands, how many of them only to keep the pool
#: busy, and how many it holds. A tuple for the same reason.
Demand = tuple[int, int, int]

#: Of a task that nothing was measured of.
NOTHING_USED: Mapping[str, int] = MappingProxyType({})

#: Nothing to set aside, and nothing to do less.
_FREE: tuple[tuple[int, ...], bool] = ((), False)

_MIN_SHARE = Reason.MIN_SHARE  # looking it up in the enum costs 0.2 us on Python 3.11


class Dispatcher:
    """All that waits and runs on one worker, and the order of it.

    Args:
        bands: By rank, most urgent first.
        slots: Executions the worker can run at once; >= 1.
        seed: Starts the rotating tie-break.
        accounts: The worker's budgets; None without any.
        weight: Tells the weight of a tenant; None: all are equal.
        preemption: What holds for what gives way.
        ways: In which running tickets can give way on this worker.
        spare: Processes beside the slots, in which others run while some are frozen.

    Attributes:
        slots: As given, or as `resize` changed it.
        accounts: As given.
    """

    def __init__(
        self,
        bands: Sequence[Band],
        slots: int,
        *,
        seed: int = 0,
        accounts: Accounts | None = None,
        weight: Callable[[str], float] | None = None,
        preemption: PreemptionRule = DEFAULT_PREEMPTION,
        ways: frozenset[Method] = frozenset(),
        spare: int = 0,
    ) -> None:
        self.slots = slots
        self.accounts = accounts
        self._order = Order(bands, slots, weight)
        self._by_name = {state.name: state for state in self._order.bands}
        self._seed = seed
        self._salt = 0
        self._salted_until = -inf
        self._arrivals = 0
        self._parts = 0
        self._service = ServiceTimes()
        self._patience = Patience()
        self._holding = Holding()
        self._running: dict[Ticket, Run] = {}
        self._throttling = Throttling(self._order.bands)
        self._preemption = Preemption(preemption, ways, spare, self._order, self._running)
        #: For which band room was made, and nothing else may use it.
        self._fenced: BandState | None = None

    def resize(self, slots: int) -> None:
        """Take note that the pool grew or shrank; more may run than there are slots now."""
        self.slots = slots
        self._order.resize(slots)

    def amend(
        self,
        policy: Policy,
        paused: Container[str],
        now: float,
    ) -> None:
        """Go on under another policy of the same bands, and under other pauses.

        What runs is not touched. What is held waits with its age, for what its accounts have
        under the new policy; they were given that policy before.

        Args:
            policy: Other rules for the same bands.
            paused: Names of bands that are paused as a whole.
            now: Unix seconds.
        """
        self._order.amend(policy.bands, policy.tenant_weight if policy.tenants else None)
        for state in self._order.bands:
            if state.is_paused and state.name not in paused:
                state.resumed = now
            state.is_paused = state.name in paused
        self._throttling.amend(self._order.bands)
        self._preemption.max_freeze_s = policy.preemption.max_freeze_s
        for entry in self._holding.all():
            self._transfer(entry, self._by_name[entry[5].band], now)

    @property
    def capped(self) -> bool:
        """Whether the reserves were cut so that one slot stays shared."""
        return self._order.capped

    @property
    def free(self) -> int:
        """Slots without a ticket."""
        return max(0, self.slots - len(self._running) + self._preemption.outside)

    def has_room(self, band: str) -> bool:
        """Tell whether there may be a slot for a ticket of a band: free, or of what gives way."""
        state = self._by_name[band]
        return self.free > 0 or (state.rule.preempts and self._preemption.room(state) > 0)

    @property
    def held_total(self) -> int:
        """Tickets that wait, of all bands."""
        return self._holding.total

    def held(self, band: str) -> int:
        """Tell how many tickets of a band wait."""
        queue = self._by_name[band].queue
        return queue.length + queue.blocked

    def running(self, band: str) -> int:
        """Tell how many tickets of a band have a slot."""
        return self._by_name[band].running

    def frozen(self, band: str) -> int:
        """Tell how many of its running tickets give way to others now."""
        return sum(self._running[t][0].name == band for t in self._preemption.frozen)

    def listen(self, bands: Iterable[str], now: float) -> None:
        """Take note which bands' messages come when asked for; others are never waited for."""
        self._order.listen(bands, now)

    def throttled_to(self, band: str) -> float:
        """Tell which part of the slots a band may use, with those below it, by its throttle."""
        return self._throttling.share(self._by_name[band])

    def offer(self, ticket: Ticket, now: float) -> None:
        """Hold a ticket until it can start.

        Args:
            ticket: Of a band of this dispatcher. The same id may be held more than once, the
                same ticket may not.
            now: Unix seconds.

        Raises:
            KeyError: no such band.
            ValueError: this very ticket is held or running.
        """
        state = self._by_name[ticket.band]
        if ticket in self._running:
            raise ValueError(f"ticket {ticket.id!r} is running: offer a new one")
        if self.accounts is not None:
            ticket.group = self.accounts.groups.of(ticket, now)
        if ticket.methods and self._preemption.has_left(ticket):
            ticket.since = now
        if not self._salted_until - ROTATION_S <= now < self._salted_until:
            rotation = int(now // ROTATION_S)
            self._salted_until = (rotation + 1) * ROTATION_S
            self._salt = crc32(f"{self._seed}:{rotation}".encode()) | 1
        if ticket.published < state.opened and not state.queue.length:
            self._patience.learn(now - state.opened)
        self._arrivals += APART
        entry: Entry = [
            ticket.deadline,
            ticket.published,
            ticket.task,
            # Multiplied, because a checksum that only begins otherwise keeps most of its order.
            crc32(ticket.id.encode()) * self._salt & 0xFFFFFFFF,
            self._arrivals,
            ticket,
        ]
        self._holding.add(entry)
        self._queue(state, entry)

    def _queue(self, state: BandState, entry: Entry) -> None:
        queue = state.queue
        if not queue.length:
            state.tag = max(state.tag, self._order.returning)
        queue.push(entry)

    def decide(  # noqa: C901, PLR0911, PLR0912 - one step after the other, and no call more than needed
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
        if not holding.total:
            return preemption.restore(self.slots, now) if preemption.is_active else None
        if holding.due <= now:
            entry = holding.overdue(now)
            if entry is not None:
                return Expire(self._take(entry))
        order = self._order
        while True:
            if preemption.is_active:
                restored = preemption.restore(self.slots, now)
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
                if throttling.is_on and free > 0 and (decision is None or type(decision) is Wait):
                    return _earlier(decision, throttling.until())
                return decision
            ticket = state.queue.head()
            assert ticket is not None
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
                if ticket.group is not None:
                    answer = self._admit(cause, ticket, ticket.group, now)
                    if answer is None:
                        continue
                    if isinstance(answer, Refuse):
                        return answer, False
                decision, is_room = preemption.make_room(cause, ticket, self.slots, now)
                if is_room:
                    # A slot that is there at once is for the most urgent one, and the slot that is
                    # on its way to that one for the next.
                    self._fenced = first
                if decision is not None or is_room:
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
        """Take note that something else has let a frozen ticket go on; it uses no slot for it."""
        self._preemption.thawed(ticket, now)

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

    def wake(self, groups: Iterable[Group], now: float) -> None:
        """Let groups compete again that have waited for a budget."""
        for group in groups:
            group.since = now
            if group.is_blocked:
                self._order.bands[group.rank].queue.unblock(group)

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
        if costs:
            assert self.accounts is not None
            assert ticket.group is not None
            self.accounts.reserve(ticket.group, costs)
        if ticket.methods:
            self._preemption.started(ticket, state)
        self._running[ticket] = (state, tenant, now, expected, paid, ahead, costs)
        return Start(ticket, reason, is_degraded)

    def ended(  # noqa: C901 - hot path
        self,
        ticket: Ticket,
        now: float,
        *,
        ran: bool = True,
        has_left: bool = False,
        usage: Mapping[str, int] = NOTHING_USED,
    ) -> None:
        """Take note that a ticket has left its slot, and settle what it was charged.

        Args:
            ticket: As `decide` started it.
            now: Unix seconds.
            ran: False when it never used the slot: nothing is learned or charged.
            has_left: Whether it made room for another, and another ticket of its id is to do the
                rest: nothing is learned of its task.
            usage: Units of each resource that were measured; of others, what was set aside
                counts as used.

        Raises:
            KeyError: it has no slot.
        """
        state, tenant, started, expected, paid, ahead, costs = self._running.pop(ticket)
        order = self._order
        frozen_s = self._vacate(ticket, state, now, has_left=has_left) if ticket.methods else 0.0
        free = self.slots - len(self._running) + self._preemption.outside - 1
        spare = self._preemption.unkept(free)
        if spare <= 0:
            order.freed = now
            if self._parts < PARTS:  # else each band has a look-ahead
                order.open(spare, self._parts, now)
        state.running -= 1
        if state.reserve:
            order.keep()
        self._parts -= ahead
        served = 0.0
        if ran:
            if now > started + frozen_s:  # the clock may be set back
                served = now - started - frozen_s
            if self._patience.left_s < MOST_SAVED_S:
                self._patience.earn(served)
            if not has_left:
                self._service.observe(ticket.task, served)
            state.learn(served, self.slots)
            longest = state.longest
            if served > longest.current or now >= longest.ends:
                longest.observe(served, now)
        weight = state.rule.weight
        state.tag += (served - expected) / weight
        # Settled to nothing whenever it can be, so that rounding does not add up.
        state.unserved = state.unserved - expected / weight if state.running else 0.0
        state.queue.settle(tenant, expected, served)
        if state.share is not None:
            state.share.settle(paid, served)
        if not order.reckoned <= now < order.reckoned + RECKON_S:
            order.reckon(now)
        if costs:
            assert self.accounts is not None
            woken = self.accounts.ended(ticket, costs, usage, now, ran=ran, is_whole=not has_left)
            if woken:
                self.wake(woken, now)

    def _vacate(self, ticket: Ticket, state: BandState, now: float, *, has_left: bool) -> float:
        """Keep the slot of a ticket for whom it was to leave; tell how long it was frozen."""
        frozen_s, is_awaited = self._preemption.ended(ticket, state, now, has_left=has_left)
        if is_awaited and self._fenced is None:
            self._fenced = next((other for other in self._order.urgent if other.queue.length), None)
        return frozen_s

    def _take(self, entry: Entry) -> Ticket:
        """Take a held ticket out without starting it."""
        ticket: Ticket = entry[5]
        self._by_name[ticket.band].queue.discard(entry)
        self._holding.drop(ticket)
        return ticket

    def withdraw(self, task_id: str) -> list[Ticket]:
        """Take out all held tickets of a task id."""
        return [self._take(entry) for entry in self._holding.entries(task_id)]

    def move(self, task_id: str, band: str, now: float) -> int:
        """Let held tickets of a task id wait in another band, with their age; tell how many.

        Raises:
            KeyError: no such band.
        """
        state = self._by_name[band]
        entries = [e for e in self._holding.entries(task_id) if e[5].band != band]
        for entry in entries:
            self._transfer(entry, state, now)
        return len(entries)

    def _transfer(self, entry: Entry, state: BandState, now: float) -> None:
        """Let a held ticket wait in another band, with its age."""
        fresh = entry.copy()
        fresh[4] += 1
        ticket: Ticket = fresh[5]
        if ticket.group is not None and ticket.group.is_blocked:
            ticket.since = now
        self._by_name[ticket.band].queue.discard(entry)
        ticket.band = state.name
        if self.accounts is not None:
            ticket.group = self.accounts.groups.of(ticket, now)
        self._holding.replace(entry, fresh)
        self._queue(state, fresh)

    def drain(self) -> list[Ticket]:
        """Forget all held tickets and give them in the order of their arrival."""
        tickets: list[Ticket] = [entry[5] for entry in self._holding.all()]
        for state in self._order.bands:
            state.queue.clear()
        self._holding.clear()
        if self.accounts is not None:
            self.accounts.clear()
        return tickets

    def demand(self, band: str) -> Demand:
        """Tell what to have of a band: as much as could start now, and the look-ahead."""
        state = self._by_name[band]
        if state.is_paused or state.queue.blocked >= BLOCKED_PER_SLOT * self.slots:
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

    def find(self, task_id: str) -> list[Ticket]:
        """List the held tickets of a task id."""
        return [entry[5] for entry in self._holding.entries(task_id)]

    def listed(self, most: int) -> list[Ticket]:
        """List held tickets, the earliest arrivals first."""
        return self._holding.earliest(most)

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
        if group is not None and group.is_blocked and (group.pause or group.waits_for):
            return _blocked(group, ahead)
        reason, until = self._obstacle(state, ticket, now)
        return Wait(reason, until, ahead)

    def _obstacle(self, state: BandState, ticket: Ticket, now: float) -> tuple[Reason, float]:
        """Say what keeps a ticket of a band from a slot, and until when."""
        free = self.free
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


def _earlier(wait: Wait | None, until: float) -> Wait | None:
    """Wait for what is held back by a throttle too."""
    if until == inf or (wait is not None and wait.until <= until):
        return wait
    return Wait(Reason.THROTTLED, until, 0)


def _blocked(group: Group, ahead: int) -> Wait:
    """Say why the tickets of a group wait that is kept from competing."""
    if group.pause is not None:
        until = inf if group.pause.until is None else group.pause.until
        return Wait(Reason.PAUSED, until, ahead, pause=group.pause.target)
    lacking = group.waits_for
    assert lacking is not None
    until = lacking.free_at / 1e6 if lacking.free_at else inf
    return Wait(Reason.BUDGET, until, ahead, lacking.name)
