"""Relief: whose memory has to come free, of those that may leave. Used by `shelter.py` alone."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from celery_budget.core.bands import BandState
from celery_budget.core.decisions import Evict, Yield
from celery_budget.core.departures import Departures
from celery_budget.core.order import Order
from celery_budget.core.ticket import Ticket
from celery_budget.policy.preemption import Method

#: What was started: the dispatcher's `Run` of each, of which the band and the time count here.
Running = Mapping[Ticket, tuple[BandState, object, float, float, float, int, tuple[int, ...]]]


class Relief:
    """Lets tickets of one worker leave for their memory.

    Args:
        order: The bands of the worker.
        running: What was started on it.
        departures: What may leave, and was asked to.
        frozen: What keeps its memory, and cannot leave.
    """

    __slots__ = ("_departures", "_frozen", "_order", "_running")

    def __init__(
        self,
        order: Order,
        running: Running,
        departures: Departures,
        frozen: Container[Ticket],
    ) -> None:
        self._order = order
        self._running = running
        self._departures = departures
        self._frozen = frozen

    def is_bound(self, ticket: Ticket) -> bool:
        """Tell whether a running ticket was asked to leave for want of memory."""
        return self._departures.is_bound(ticket)

    def ask(
        self, using: Mapping[Ticket, int], excess: int, bands: Container[str], now: float
    ) -> list[Yield | Evict]:
        """Let tickets leave so that memory comes free; no more of them than it takes.

        Args:
            using: What running tickets take, bytes.
            excess: How much has to come free.
            bands: Names of those whose tickets may be asked.
            now: Unix seconds.
        """
        over = self._order.over_share()
        departures = self._departures
        able: list[tuple[tuple[bool, int, float, float], Ticket, Method]] = []
        is_leaving = False
        for ticket, (state, _, started, *_rest) in self._running.items():
            if departures.is_bound(ticket):
                excess -= using.get(ticket, 0)
                is_leaving = True
            elif state.name in bands and ticket not in self._frozen:
                for method in ticket.methods:
                    if (
                        method is not Method.FREEZE  # which keeps its memory
                        and departures.may_leave(ticket, method, started, now) <= now
                    ):
                        price = departures.price(ticket, method, now - started)
                        key = (state.name not in over, -state.rule.rank, price, -started)
                        able.append((key, ticket, method))
                        break
        able.sort(key=lambda each: each[0])
        if not using:  # nobody knows what any takes: one after the other
            able = [] if is_leaving else able[:1]
        else:
            chosen = fewest([(each[1], using.get(each[1], 0)) for each in able], excess)
            able = [each for each in able if each[1] in chosen]
        for _, ticket, method in able:
            departures.ask(ticket, method, now, is_bound=True)
        return [(Yield if each[2] is Method.CHECKPOINT else Evict)(each[1]) for each in able]


def fewest(able: Sequence[tuple[Ticket, int]], excess: int) -> set[Ticket]:
    """Choose who leaves: as many as it takes, and nobody whom the others make unnecessary.

    Args:
        able: Tickets that may leave, who should leave first at the front, and what they take,
            bytes.
        excess: How much has to come free, bytes.

    Returns:
        All that take something, where all of it is not enough.
    """
    chosen: dict[Ticket, int] = {}
    freed = 0
    for ticket, takes in able:
        if freed >= excess:
            break
        if takes > 0:
            chosen[ticket] = takes
            freed += takes
    for ticket, takes in reversed(list(chosen.items())):
        if freed - takes >= excess:
            del chosen[ticket]
            freed -= takes
    return set(chosen)
