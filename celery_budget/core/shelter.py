"""The shelter: keeps what there is too little for from starting, and lets lesser work leave for it.

Lesser bands are closed while the node is under pressure; a ticket that would take more memory than
is left waits aside, and others go on. Both go back to the broker, where workers on other nodes can
have them. While urgent tickets need the processors, lesser ones stand still. Units of a capacity
are taken back from lesser tickets for more urgent ones, wherever in the fleet these wait. Used by
the dispatcher alone. Rules: docs/explanation/node-pressure.md, docs/explanation/preemption.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from celery_budget.core.allowance import Allowance
from celery_budget.core.bands import BandState
from celery_budget.core.decisions import Evict, Freeze, Reason, Return, Thaw, Yield
from celery_budget.core.node import Node
from celery_budget.core.obstacles import is_too_large
from celery_budget.core.pressure import Sample
from celery_budget.core.processors import LITTLE, Processors, Use
from celery_budget.core.relief import fewest
from celery_budget.core.roster import Roster
from celery_budget.core.standing import Standing
from celery_budget.core.standings import claims_of, standings
from celery_budget.core.ticket import Ticket

#: So long a ticket waits here for memory before another worker may have it, seconds: whoever is
#: fetched again by a worker that cannot run it costs a message twice a second at most.
ASIDE_S = 2.0


class Shelter(Roster):
    """A roster that looks after the node; see `Roster`."""

    def look(
        self, sample: Sample, using: Mapping[Ticket, int], now: float, use: Use | None = None
    ) -> None:
        """Follow a look at the node; what is to be done for it comes with the next decisions.

        Args:
            sample: What it told.
            using: What running tickets take, bytes; see `Node.using`.
            now: Unix seconds.
            use: Of its processors; None where nobody looked at them.
        """
        node = self._node
        assert node is not None
        node.look(sample, using, now)
        if use is not None and self._processors is not None:
            self._processors.look(use)
        self._throttling.shortage = node.pressure.shortage
        closed = set()
        for state in self._order.bands:
            state.is_closed = node.pressure.is_high and state.is_lesser
            if state.is_closed:
                closed.add(state.name)
        self._leaving.clear()
        if node.excess and node.pressure.rule.evict:
            self._asked.extend(self._preemption.relief.ask(using, node.excess, closed, now))
        for entry in reversed(self._holding.all() if self._holding.total else ()):
            ticket: Ticket = entry[5]
            state = self._by_name[ticket.band]
            is_aside = is_too_large(ticket)
            if is_aside and not self._is_awaited(node, state, ticket, now):
                self._transfer(entry, state, now)
            elif (
                state.is_closed
                or (is_aside and not ticket.since <= now < ticket.since + ASIDE_S)
                or now >= max(state.squeezed, ticket.published) + ASIDE_S
            ):
                self._leaving.append(entry)

    def standings(self, now: float) -> dict[Allowance, Standing]:
        """Tell how tickets here stand to capacities, for a report to the ledger.

        Args:
            now: Unix seconds.
        """
        urgent = self._order.urgent
        if self.accounts is None or not urgent:
            return {}
        rooms = {state.rule.rank: self._room_for(state) for state in urgent}
        stock = self._preemption.relief.stock(now) if self._preemption.is_on else {}
        return standings(claims_of(self.accounts.blocked, rooms, now), stock)

    def _give_back(self, owing: dict[Allowance, None], now: float) -> None:
        """Let running tickets leave for units of capacities that were called back from them."""
        for allowance in owing:
            if self._order.is_preempting(allowance.owed_to):
                self._asked.extend(self._preemption.relief.take_back(allowance, now))
        owing.clear()

    def _keep(self, ticket: Ticket, now: float) -> None:
        """Keep what a ticket needs of its accounts, if the slot for it is on its way."""
        coming = self._preemption.coming(now)
        if coming and ticket.group is not None:
            assert self.accounts is not None
            costs = self.accounts.costs(ticket.group, ticket)
            self.accounts.keep(ticket.group, costs, coming, now)

    def _is_set_aside(self, node: Node, state: BandState, ticket: Ticket, now: float) -> bool:
        """Let the head of a queue wait for memory, if there is too little for it."""
        if not self._is_awaited(node, state, ticket, now):
            return False
        self._transfer(state.queue.first(), state, now, self._tight[state.name])
        return True

    def _is_awaited(self, node: Node, state: BandState, ticket: Ticket, now: float) -> bool:
        """Tell whether there is too little memory for a ticket; an urgent one gets some."""
        lacks = node.lacks(ticket)
        if lacks and state.rule.preempts and node.pressure.rule.evict:
            below = {other.name for other in self._order.bands[state.rule.rank + 1 :]}
            self._asked.extend(self._preemption.relief.ask(node.using, lacks, below, now))
        return lacks > 0

    def _depart(self) -> Yield | Evict | Return | None:
        """Let the next one leave of those for which the node has too little."""
        if self._asked:
            return self._asked.popleft()
        while self._leaving:
            entry = self._leaving.popleft()
            if entry[5] is not None:  # it was not taken out meanwhile
                state = self._by_name[entry[5].band]
                ticket = self._take(entry)
                is_aside = is_too_large(ticket)
                ticket.group = None
                if state.is_closed:
                    return Return(ticket, Reason.PRESSURE)
                return Return(ticket, Reason.MEMORY if is_aside else Reason.CPU)
        return None

    def _even_out(self, processors: Processors, now: float) -> Freeze | Thaw | None:
        """Let lesser tickets stand still while urgent ones need the processors, and go on."""
        preemption = self._preemption
        urgent = lesser = 0.0
        for ticket, (state, *_rest) in self._running.items():
            if preemption.is_frozen(ticket):
                continue
            if state.rule.preempts:
                urgent += processors.of(ticket)
            else:
                lesser += processors.of(ticket)
        # While nothing urgent computes, nothing is in its way.
        room = processors.room - urgent if urgent > LITTLE else inf
        for ticket in preemption.still:
            fits = lesser + processors.of(ticket) <= room + LITTLE
            if fits or self._running[ticket][0].is_owed(now):
                processors.stopped(ticket)
                preemption.thawed(ticket, now)
                return Thaw(ticket)
        if lesser > room + LITTLE:
            stops = self._in_the_way(processors, lesser - room - LITTLE, now)
            if stops is not None:
                processors.stopped(stops)
                preemption.stop(stops, now)
                return Freeze(stops)
        for state in self._order.bands:
            if state.is_lesser:
                wish = self._next_wish(processors, state)
                is_squeezed = wish > LITTLE and lesser + wish > room + LITTLE
                state.squeezed = min(state.squeezed, now) if is_squeezed else inf
        processors.is_changed = False
        return None

    def _in_the_way(self, processors: Processors, excess: float, now: float) -> Ticket | None:
        """Choose who stands still next; None when nobody can.

        Args:
            processors: Of the node.
            excess: How many of them have to come free.
            now: Unix seconds.
        """
        able = [
            (ticket, round(1_000 * processors.of(ticket)))
            for ticket in self._preemption.stoppable(now)
            if processors.of(ticket) > LITTLE
        ]
        chosen = fewest(able, round(1_000 * excess))
        return next((ticket for ticket, _ in able if ticket in chosen), None)

    def _next_wish(self, processors: Processors, state: BandState) -> float:
        """Tell how many processors what a band starts next would keep busy; 0: nobody knows."""
        head = state.queue.head() if state.queue.length else None
        return 0.0 if head is None else processors.expected(head.task)
