"""The shelter: keeps what the node has too little for from starting, and lets it leave.

Lesser bands are closed while the node is under pressure; a ticket that would take more memory than
is left waits aside, and others go on. Both go back to the broker, where workers on other nodes can
have them. Used by the dispatcher alone. Rules: docs/explanation/node-pressure.md.
"""

from __future__ import annotations

from collections.abc import Mapping

from celery_budget.core.bands import BandState
from celery_budget.core.decisions import Evict, Reason, Return, Yield
from celery_budget.core.node import Node
from celery_budget.core.obstacles import is_too_large
from celery_budget.core.pressure import Sample
from celery_budget.core.roster import Roster
from celery_budget.core.ticket import Ticket

#: So long a ticket waits here for memory before another worker may have it, seconds: whoever is
#: fetched again by a worker that cannot run it costs a message twice a second at most.
ASIDE_S = 2.0


class Shelter(Roster):
    """A roster that looks after the node; see `Roster`."""

    def look(self, sample: Sample, using: Mapping[Ticket, int], now: float) -> None:
        """Follow a look at the node; what is to be done for it comes with the next decisions.

        Args:
            sample: What it told.
            using: What running tickets take, bytes; see `Node.using`.
            now: Unix seconds.
        """
        node = self._node
        assert node is not None
        node.look(sample, using, now)
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
            elif state.is_closed or (is_aside and not ticket.since <= now < ticket.since + ASIDE_S):
                self._leaving.append(entry)

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
                is_closed = self._by_name[entry[5].band].is_closed
                ticket = self._take(entry)
                ticket.group = None
                return Return(ticket, Reason.PRESSURE if is_closed else Reason.MEMORY)
        return None
