"""Relief: who leaves so that something comes free, of those that may leave.

That is memory of the node (`shelter.py`), or units of a capacity for which more urgent tickets wait
(`recall.py`).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from celery_budget.core.allowance import Allowance
from celery_budget.core.bands import BandState
from celery_budget.core.decisions import Evict, Yield
from celery_budget.core.departures import MEMORY, Departures
from celery_budget.core.order import Order
from celery_budget.core.ticket import Ticket
from celery_budget.policy.preemption import Method

#: What was started: the dispatcher's `Run` of each, of which the band, the time and what was set
#: aside count here.
Running = Mapping[Ticket, tuple[BandState, object, float, float, float, int, tuple[int, ...]]]

#: Among those that may give way; see `place_of`.
Place = tuple[bool, int, float, float]


class Relief:
    """Lets tickets of one worker leave for what they take.

    Args:
        order: The bands of the worker.
        running: What was started on it.
        departures: What may leave, and was asked to.
        frozen: What keeps what it has, and cannot leave.
        spared: Until when those are left alone that could not be asked, Unix seconds, and for how
            long.
    """

    __slots__ = ("_departures", "_frozen", "_order", "_running", "_spared")

    def __init__(
        self,
        order: Order,
        running: Running,
        departures: Departures,
        frozen: Container[Ticket],
        spared: Mapping[Ticket, tuple[float, float]],
    ) -> None:
        self._order = order
        self._running = running
        self._departures = departures
        self._frozen = frozen
        self._spared = spared

    def is_bound(self, ticket: Ticket) -> bool:
        """Tell whether a running ticket was asked to leave for want of memory."""
        return self._departures.bound_for(ticket) == MEMORY

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
        bound = {ticket for ticket in self._running if self._departures.is_bound(ticket)}
        excess -= sum(using.get(ticket, 0) for ticket in bound)
        able = [each for each in self._able(bands, now) if each[0] not in bound]
        if using:
            chosen = fewest([(ticket, using.get(ticket, 0)) for ticket, _ in able], excess)
            able = [each for each in able if each[0] in chosen]
        else:  # nobody knows what any takes: one after the other
            able = [] if bound else able[:1]
        return self._bind(able, MEMORY, now)

    def stock(self, now: float) -> dict[Allowance, tuple[int, dict[int, int]]]:
        """Tell what running tickets could give back of capacities.

        Args:
            now: Unix seconds.

        Returns:
            Units that are leaving already, and by rank those of tickets that may be asked to.
        """
        stock: dict[Allowance, tuple[int, dict[int, int]]] = {}
        first = self._order.urgent[0].rule.rank
        for ticket, (state, _, started, *_, costs) in self._running.items():
            if not ticket.methods or not costs or state.rule.rank <= first:
                continue
            is_coming = self._departures.is_coming(ticket, now)
            is_able = self._way(ticket, started, now) is not None and not state.is_owed(now)
            if not (is_coming or is_able):
                continue
            for allowance, units in _capacities(ticket, costs):
                leaving, loose = stock.get(allowance, (0, {}))
                if is_coming:
                    leaving += units
                else:
                    loose[state.rule.rank] = loose.get(state.rule.rank, 0) + units
                stock[allowance] = leaving, loose
        return stock

    def take_back(self, allowance: Allowance, now: float) -> list[Yield | Evict]:
        """Let tickets leave so that what is owed of a capacity comes free; no more than it takes.

        Args:
            allowance: What is owed of it does not count what was told to be leaving.
            now: Unix seconds.
        """
        excess = allowance.owed
        holding: dict[Ticket, int] = {}
        for ticket, (*_, costs) in self._running.items():
            if costs:
                holding[ticket] = units = dict(_capacities(ticket, costs)).get(allowance, 0)
                if self._departures.was_asked(ticket, allowance.told):
                    excess -= units  # for something else, since that was told
        lesser = self._order.bands[allowance.owed_to + 1 :]
        bands = {state.name for state in lesser if not state.is_owed(now)}
        able = self._able(bands, now)
        chosen = fewest([(ticket, holding.get(ticket, 0)) for ticket, _ in able], excess)
        return self._bind([each for each in able if each[0] in chosen], allowance.name, now)

    def _way(self, ticket: Ticket, started: float, now: float) -> Method | None:
        """Tell how a running ticket may be made to leave now; None: it may not."""
        if ticket in self._frozen or (ticket in self._spared and self._spared[ticket][0] > now):
            return None
        for method in ticket.methods:
            # Who is frozen keeps what it has.
            if method is not Method.FREEZE:
                at = self._departures.may_leave(ticket, method, started, now)
                if at <= now:
                    return method
        return None

    def _able(self, bands: Container[str], now: float) -> list[tuple[Ticket, Method]]:
        """List who may leave and how, who should leave first at the front."""
        over = self._order.over_share()
        able: list[tuple[Place, Ticket, Method]] = []
        for ticket, (state, _, started, *_rest) in self._running.items():
            method = self._way(ticket, started, now) if state.name in bands else None
            if method is not None:
                price = self._departures.price(ticket, method, now - started)
                able.append((place_of(state, over, price, started), ticket, method))
        able.sort(key=lambda each: each[0])
        return [(ticket, method) for _, ticket, method in able]

    def _bind(
        self, able: Iterable[tuple[Ticket, Method]], account: str, now: float
    ) -> list[Yield | Evict]:
        """Ask tickets to leave, whether or not anybody waits for their slots."""
        return [self.release(ticket, method, now, bound_for=account) for ticket, method in able]

    def release(
        self,
        ticket: Ticket,
        method: Method,
        now: float,
        *,
        cause: Ticket | None = None,
        is_for_guest: bool = False,
        bound_for: str | None = None,
    ) -> Yield | Evict:
        """Let a running ticket leave its slot.

        Args:
            ticket: May leave.
            method: How, not by freezing.
            now: Unix seconds.
            cause: The ticket that needs the slot, if it is here.
            is_for_guest: Whether it is for an urgent ticket of another worker.
            bound_for: For what it takes it is to leave; see `Departures.ask`.
        """
        self._departures.ask(ticket, method, now, bound_for=bound_for)
        kind = Yield if method is Method.CHECKPOINT else Evict
        return kind(ticket, cause, bound_for or "", is_for_guest)


def place_of(state: BandState, over: Container[str], price: float, started: float) -> Place:
    """Tell when it is a running ticket's turn to give way: before all that have a larger place.

    Args:
        state: Of its band.
        over: Names of the bands that have more than their shares; they go first.
        price: What it costs the ticket, seconds.
        started: When it did, Unix seconds; who came last goes first.
    """
    return state.name not in over, -state.rule.rank, price, -started


def _capacities(ticket: Ticket, costs: tuple[int, ...]) -> Iterator[tuple[Allowance, int]]:
    """Tell what a running ticket has of capacities, units."""
    assert ticket.group is not None
    for allowance, units in zip(ticket.group.allowances, costs, strict=True):
        if allowance.is_capacity and units:
            yield allowance, units


def fewest(able: Sequence[tuple[Ticket, int]], excess: int) -> set[Ticket]:
    """Choose who leaves: as many as it takes, and nobody whom the others make unnecessary.

    Args:
        able: Tickets that may leave, who should leave first at the front, and what they take.
        excess: How much has to come free.

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
