"""Departures: running tickets that are asked to leave their slot, and leave at a moment of theirs.

A task that saves checkpoints leaves at its next one. Until then it holds its slot, so that what
was asked for is on its way and must not be asked for twice; a task that takes too long is not
waited for. Used by `core/preemption.py` alone. Rules: docs/explanation/preemption.md.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf

from celery_budget.core.bands import BandState
from celery_budget.core.ticket import Ticket
from celery_budget.policy.preemption import Method

#: So long a slot that was asked for counts as on its way, seconds; then another one is asked for
#: beside it. Tasks that checkpoint in a loop of short steps leave within one or two of them.
PATIENCE_S = 0.25

#: A task type that takes longer than this to leave is not asked: whoever waits for it is better
#: fetched by another worker, seconds. It may have no checkpoint at all.
DEAF_S = 5.0

#: A task that came back is left alone for so long for each time that it has left, and for so long
#: at most, seconds. To leave and come back costs some 10 ms (benchmarks): however often urgent work
#: comes, a task spends nine tenths of its time in slots on its work.
REST_S, MOST_REST_S = 0.02, 0.1

#: Share of the newest observation in what is expected of a task type.
_NEWEST = 0.5

#: Task ids whose departures are remembered, and task types whose way to leave is.
_REMEMBERED = 10_000


class Departures:
    """What may leave, was asked to, and has left one worker before."""

    __slots__ = ("_able", "_asked", "_expected", "_left")

    def __init__(self) -> None:
        self._able: set[Ticket] = set()
        #: When each was asked, the earliest first.
        self._asked: dict[Ticket, float] = {}
        #: How long a task type takes to leave, seconds.
        self._expected: dict[str, float] = {}
        #: How often each id has left.
        self._left: OrderedDict[str, int] = OrderedDict()

    @property
    def is_asked(self) -> bool:
        """Whether something was asked to leave and has not."""
        return bool(self._asked)

    def started(self, ticket: Ticket, state: BandState) -> bool:
        """Take note of a ticket that starts; tell whether it can leave."""
        if Method.CHECKPOINT not in ticket.methods or self.expected(ticket) > DEAF_S:
            return False
        self._able.add(ticket)
        state.leaving += 1
        return True

    def can_leave(self, ticket: Ticket) -> bool:
        """Tell whether a ticket that started can leave."""
        return ticket in self._able

    def expected(self, ticket: Ticket) -> float:
        """Tell how long a ticket is expected to take to leave, seconds."""
        return self._expected.get(ticket.task, 0.0)

    def price(self, ticket: Ticket) -> float:
        """Tell what it costs to let a ticket leave: how long it takes and what it has given."""
        return self.expected(ticket) + self._rest(ticket)

    def _rest(self, ticket: Ticket) -> float:
        return min(REST_S * self._left.get(ticket.id, 0), MOST_REST_S)

    def may_leave(self, ticket: Ticket, started: float) -> float:
        """Tell from when on a ticket may be asked to leave; inf: not at all, or it was."""
        if ticket not in self._able or ticket in self._asked:
            return inf
        return started + self._rest(ticket)

    def ask(self, ticket: Ticket, now: float) -> None:
        """Take note that a ticket is asked to leave."""
        self._asked[ticket] = now

    def failed(self, ticket: Ticket) -> None:
        """Take note that a ticket could not be asked."""
        self._asked.pop(ticket, None)

    def is_coming(self, ticket: Ticket, now: float) -> bool:
        """Tell whether the slot of a ticket is on its way."""
        at = self._asked.get(ticket, -inf)
        return at <= now < at + PATIENCE_S

    def coming(self, now: float) -> tuple[int, float]:
        """Tell how many slots are on their way, and until when; inf when none is."""
        asked = [at for at in self._asked.values() if at <= now < at + PATIENCE_S]
        return len(asked), min(asked, default=inf) + PATIENCE_S

    def spared(self, waiting: int, now: float) -> Ticket | None:
        """Give one that need not leave any more: more slots are on their way than are waited for.

        Those that take too long are asked on, beside others, while anybody waits.
        """
        if not self._asked or (waiting and self.coming(now)[0] <= waiting):
            return None
        return self._asked.popitem()[0]  # the latest: its step has the most before it

    def ended(self, ticket: Ticket, now: float, *, has_left: bool) -> bool:
        """Forget a ticket that has ended or left; tell whether a slot was waited for.

        Args:
            ticket: Of those that started.
            now: Unix seconds.
            has_left: Whether it comes back to do the rest.
        """
        self._able.discard(ticket)
        asked = self._asked.pop(ticket, None)
        if asked is not None:
            took = max(0.0, now - asked)
            known = self._expected.get(ticket.task, took)
            if len(self._expected) >= _REMEMBERED:
                self._expected.clear()
            self._expected[ticket.task] = known + _NEWEST * (took - known)
        if has_left:
            self._left[ticket.id] = self._left.pop(ticket.id, 0) + 1
            if len(self._left) > _REMEMBERED:
                self._left.popitem(last=False)
        else:
            self._left.pop(ticket.id, None)
        return asked is not None
