"""The roster: what waits and what runs on one worker, and what is learned from what ended.

The dispatcher decides by it and is told apart from it because it alone decides. Nothing here knows
why a ticket starts. Rules and formulas: docs/explanation/scheduling.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from math import inf
from types import MappingProxyType
from zlib import crc32

from celery_budget.core.accounts import Accounts
from celery_budget.core.admission import Group
from celery_budget.core.bands import BandState
from celery_budget.core.census import Census, Run
from celery_budget.core.decisions import Evict, Yield
from celery_budget.core.degrading import Degrading
from celery_budget.core.forecast import Forecast
from celery_budget.core.foresight import foresee
from celery_budget.core.guests import Guests
from celery_budget.core.holding import Holding
from celery_budget.core.line import Entry
from celery_budget.core.lookahead import PARTS
from celery_budget.core.node import Node
from celery_budget.core.order import RECKON_S, Order
from celery_budget.core.patience import MOST_SAVED_S, Patience
from celery_budget.core.preemption import Preemption
from celery_budget.core.service import ServiceTimes
from celery_budget.core.shortage import LOOKS, Queued
from celery_budget.core.throttling import Throttling
from celery_budget.core.ticket import Ticket
from celery_budget.policy.model import Band, Policy
from celery_budget.policy.preemption import DEFAULT_PREEMPTION, Method, PreemptionRule
from celery_budget.policy.pressure import PressureRule

#: How long one tie-break order lasts, seconds. Rotating it keeps a name that happens to sort
#: first from always winning.
ROTATION_S = 60.0

#: Arrival numbers are this far apart, so that a ticket that is moved keeps its arrival and still
#: differs from the entry it leaves behind.
APART = 1 << 20

#: Of a task that nothing was measured of.
NOTHING_USED: Mapping[str, int] = MappingProxyType({})


class Roster(Census):
    """All that waits and runs on one worker.

    Args:
        bands: By rank, most urgent first.
        slots: Executions the worker can run at once; >= 1.
        seed: Starts the rotating tie-break.
        accounts: The worker's budgets; None without any.
        weight: Tells the weight of a tenant; None: all are equal.
        preemption: What holds for what gives way.
        ways: In which running tickets can give way on this worker.
        spare: Processes beside the slots, in which others run while some are frozen.
        pressure: When the worker's node is short of memory or io; None: nobody looks.

    Attributes:
        slots: As given, or as `resize` changed it.
        accounts: As given.
        room_elsewhere: For how many urgent tickets other workers have room, as last heard.
        forecast: What is expected of the bands for which slots may be kept by it.
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
        pressure: PressureRule | None = None,
    ) -> None:
        self.slots = slots
        self.accounts = accounts
        self.forecast = Forecast(_foreseen(bands))
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
        self._node = None if pressure is None else Node(pressure)
        self._processors = None if self._node is None else self._node.processors
        self._throttling = Throttling(
            self._order.bands, self._running, is_watched=pressure is not None
        )
        self._preemption = Preemption(preemption, ways, spare, self._order, self._running)
        #: For which band room was made, and nothing else may use it.
        self._fenced: BandState | None = None
        self.room_elsewhere = 0
        self._guests = Guests()
        #: What is to leave this worker unstarted, who came last first, and what is asked to leave
        #: its slot; both for what the node lacks.
        self._leaving: deque[Entry] = deque()
        self._asked: deque[Yield | Evict] = deque()
        #: Who waits for memory, of each band.
        self._tight = {
            state.name: Group(state.rule.rank, (), state.rule.on_ledger_loss, is_tight=True)
            for state in self._order.bands
        }

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
        self.forecast.amend(_foreseen(policy.bands))
        self._throttling.amend(self._order.bands)
        self._preemption.max_freeze_s = policy.preemption.max_freeze_s
        if self._node is not None and policy.pressure is not None:
            self._node.amend(policy.pressure)
        for entry in self._holding.all():
            self._transfer(entry, self._by_name[entry[5].band], now)

    def foresee(self, worker: str, now: float) -> bool:
        """Set reserves by what is expected; tell whether any changed.

        Args:
            worker: Name of this one among those that count arrivals.
            now: Unix seconds.
        """
        if not self.forecast.seasons:
            return False
        running = ((run[0], run[3]) for run in self._running.values())
        return foresee(self._order, self.forecast, running, worker, self.slots, now)

    def expected(self, task: str) -> float:
        """Tell how long a task of a name is expected to take, seconds."""
        return self._service[task]

    def see(self, queued: Mapping[str, Queued]) -> None:
        """Take note of what waits in the broker, by name of the band.

        Args:
            queued: Of the latest look, told once or again; of other bands nothing is known.
        """
        for state in self._order.bands:
            look = queued.get(state.name)
            if look is None:
                state.looks = ()
            elif look not in state.looks:
                state.looks = (*state.looks, look)[-LOOKS:]

    def listen(self, bands: Iterable[str], now: float) -> None:
        """Take note which bands' messages come when asked for; others are never waited for."""
        self._order.listen(bands, now)

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
        if ticket.can_degrade and state.degrading is None:
            state.degrading = Degrading()
        if not self._salted_until - ROTATION_S <= now < self._salted_until:
            rotation = int(now // ROTATION_S)
            self._salted_until = (rotation + 1) * ROTATION_S
            self._salt = crc32(f"{self._seed}:{rotation}".encode()) | 1
        if self._guests.expected and state.rule.preempts:
            self._guests.came()
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
        if self._processors is not None and state.is_lesser:
            self._processors.is_changed = True

    def _queue(self, state: BandState, entry: Entry) -> None:
        queue = state.queue
        if not queue.length:
            state.tag = max(state.tag, self._order.returning)
        queue.push(entry)

    def wake(self, groups: Iterable[Group], now: float) -> None:
        """Let groups compete again that have waited for a budget."""
        for group in groups:
            group.since = now
            if group.is_blocked:
                self._order.bands[group.rank].queue.unblock(group)

    def ended(  # noqa: C901, PLR0912 - hot path
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
        frozen_s, is_awaited, is_bound = 0.0, False, False
        if ticket.methods:
            is_bound = self._preemption.relief.is_bound(ticket)
            frozen_s, is_awaited = self._preemption.ended(ticket, state, now, has_left=has_left)
        if self._node is not None:
            ran_s = now - started - frozen_s if ran else 0.0
            self._node.ended(
                ticket, usage if ran else NOTHING_USED, now, ran_s=ran_s, is_bound=is_bound
            )
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
            if state.rule.reserve_most is not None:
                self.forecast.observe(
                    state.name, ticket.task, ticket.published, served, now, is_whole=not has_left
                )
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
        if is_awaited and self._fenced is None:
            # Also for whom the units of an account were needed, and have just come free.
            self._fenced = next((other for other in order.urgent if other.queue.length), None)

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

    def _transfer(
        self, entry: Entry, state: BandState, now: float, tight: Group | None = None
    ) -> None:
        """Let a held ticket wait in another band, or for memory, with its age."""
        fresh = entry.copy()
        fresh[4] += 1
        ticket: Ticket = fresh[5]
        if tight is not None or (ticket.group is not None and ticket.group.is_blocked):
            ticket.since = now
        self._by_name[ticket.band].queue.discard(entry)
        ticket.band = state.name
        ticket.group = tight
        if tight is not None:
            tight.is_blocked = True
        elif self.accounts is not None:
            ticket.group = self.accounts.groups.of(ticket, now)
        self._holding.replace(entry, fresh)
        self._queue(state, fresh)

    def drain(self) -> list[Ticket]:
        """Forget all held tickets and give them in the order of their arrival."""
        tickets: list[Ticket] = [entry[5] for entry in self._holding.all()]
        for state in self._order.bands:
            state.queue.clear()
        self._holding.clear()
        self._leaving.clear()
        if self.accounts is not None:
            self.accounts.clear()
        return tickets


def _foreseen(bands: Iterable[Band]) -> list[str]:
    """Name the bands of which arrivals are counted."""
    return [band.name for band in bands if band.reserve_most is not None]
