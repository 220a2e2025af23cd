"""Leeway: how many running tickets of one worker could give way, and whom they lend slots to.

Numbers for windows, reserves and other workers; who gives way is `preemption.py`'s choice.
"""

from __future__ import annotations

from math import inf

from celery_budget.core.bands import BandState
from celery_budget.core.departures import Departures
from celery_budget.core.order import Order
from celery_budget.core.ticket import Ticket
from celery_budget.policy.preemption import Method


class Leeway:
    """What could give way on one worker.

    Args:
        ways: In which tickets can give way on this worker.
        spare: Processes beside the slots.
        order: The bands of the worker.

    Attributes:
        is_on: Whether anything can give way.
        spare: Processes beside the slots.
        outside: Tickets that were started and use no slot: frozen, or beside the slots.
        now: Unix seconds, as the dispatcher knows it.
    """

    __slots__ = ("_departures", "_order", "_spared", "_ways", "is_on", "now", "outside", "spare")

    def __init__(self, ways: frozenset[Method], spare: int, order: Order) -> None:
        self._order = order
        self._departures = Departures()
        self._ways = ways
        self.is_on = bool(ways)
        self.spare = spare
        self.outside = 0
        #: Of those that could not be frozen: until when they are left alone, and for how long.
        self._spared: dict[Ticket, tuple[float, float]] = {}
        self.now = -inf

    def room(self, band: BandState) -> int:
        """Tell how many tickets could give way, or were asked to, to a band that preempts."""
        return self._room(band.rule.rank)

    def _room(self, rank: int) -> int:
        below = self._order.bands[rank + 1 :]
        leaving = sum(state.leaving for state in below)
        left = self.spare - self.outside
        if left <= 0:
            return leaving
        yielding = sum(state.yielding for state in below)
        if self._spared:
            # Nobody should be fetched for what has just turned out not to give way.
            yielding -= sum(until > self.now for until, _ in self._spared.values())
        return leaving + max(0, min(left, yielding))

    def at_once(self, band: BandState) -> int:
        """Tell how many tickets could be frozen for a band that preempts."""
        below = self._order.bands[band.rule.rank + 1 :]
        return self.room(band) - sum(state.leaving for state in below)

    def places(self) -> int:
        """Tell how many tickets below all bands that preempt may leave, and were not asked to."""
        urgent = self._order.urgent
        if not (self.is_on and urgent):
            return 0
        below = self._order.bands[urgent[-1].rule.rank + 1 :]
        return max(0, sum(state.leaving for state in below) - self._departures.asked)

    def unkept(self, free: int, taken: int = 0) -> int:
        """Tell how many free slots are kept for no band, or lent by those that reserved them.

        What is lent can be taken back: as many running tickets could give way at any moment.

        Args:
            free: Slots without a ticket.
            taken: How many of those tickets are to give way in any case.
        """
        order = self._order
        if not order.kept:
            return free
        spare = free - order.kept + order.given
        if order.lendable and self.is_on:
            spare += max(0, min(order.lendable, self._room(order.lending) - taken))
        return spare

    def lends_to(self, ticket: Ticket, state: BandState) -> bool:
        """Tell whether a ticket may use a slot that is kept, as it would give way itself."""
        order = self._order
        if not order.lends_to(state):
            return False
        return self._departures.would_leave(ticket) or (
            Method.FREEZE in ticket.methods and self._freezable(order.lending) > 0
        )

    def lends(self, state: BandState) -> int:
        """Tell how many kept slots a band may use, if its tickets do what its rule says."""
        order = self._order
        ways = self._ways.intersection(state.rule.preempt or ())
        if not ways or not order.lends_to(state):
            return 0
        left = max(0, order.lendable - self._room(order.lending))
        return left if ways - {Method.FREEZE} else min(left, self._freezable(order.lending))

    def _freezable(self, rank: int) -> int:
        """Tell how many tickets more could be frozen than could be now."""
        below = self._order.bands[rank + 1 :]
        return max(0, self.spare - self.outside - sum(state.yielding for state in below))
