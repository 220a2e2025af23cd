"""Departures: running tickets that are asked to leave their slot, and leave a moment later.

A task that saves checkpoints leaves at its next one, one that is evicted when it has cleaned up.
Until then it holds its slot, so that what was asked for is on its way and must not be asked for
twice; a task that takes too long is not waited for. Used by `core/preemption.py` alone. Rules:
docs/explanation/preemption.md.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf

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

#: An evicted task is left alone for so long once it has begun again, and for twice as long each
#: further time, seconds: one that takes t seconds is evicted some 2 + log2(t) times at most.
EVICT_REST_S = 1.0

#: Times that count: 1 s doubled so often is a month.
_MOST_DOUBLED = 21

#: Share of the newest observation in what is expected of a task type.
_NEWEST = 0.5

#: What of the node tickets are asked to leave for; else it is the name of an account.
MEMORY = ""

#: Task ids whose departures are remembered, and task types whose way to leave is.
_REMEMBERED = 10_000


class Departures:
    """What may leave, was asked to, and has left one worker before."""

    __slots__ = ("_able", "_asked", "_bound", "_evicted", "_expected", "_left")

    def __init__(self) -> None:
        self._able: set[Ticket] = set()
        #: When each was asked, the earliest first.
        self._asked: dict[Ticket, float] = {}
        self._evicted: set[Ticket] = set()
        #: Asked for what they take: they leave though nobody waits for their slots.
        self._bound: dict[Ticket, str] = {}
        #: How long a task type takes to leave, seconds.
        self._expected: dict[str, float] = {}
        #: How often each id has left.
        self._left: OrderedDict[str, int] = OrderedDict()

    @property
    def asked(self) -> int:
        """How many were asked to leave and have not."""
        return len(self._asked)

    def started(self, ticket: Ticket) -> None:
        """Take note of a ticket that starts."""
        if self.would_leave(ticket):
            self._able.add(ticket)

    def would_leave(self, ticket: Ticket) -> bool:
        """Tell whether a ticket could leave a slot, once it has one."""
        return Method.EVICT in ticket.methods or self._has_checkpoints(ticket)

    def _has_checkpoints(self, ticket: Ticket) -> bool:
        return (
            Method.CHECKPOINT in ticket.methods and self._expected.get(ticket.task, 0.0) <= DEAF_S
        )

    def has_left(self, ticket: Ticket) -> bool:
        """Tell whether a ticket of this id has left before."""
        return ticket.id in self._left

    def can_leave(self, ticket: Ticket) -> bool:
        """Tell whether a ticket that started can leave."""
        return ticket in self._able

    def price(self, ticket: Ticket, method: Method, ran_s: float) -> float:
        """Tell what it costs to let a ticket leave, seconds.

        How long it is expected to take to its checkpoint, and what it has given; evicted, it loses
        what it did since it began, as far as anybody knows.
        """
        if method is Method.EVICT:
            return max(0.0, ran_s)
        return self._expected.get(ticket.task, 0.0) + self._rest(ticket, method)

    def _rest(self, ticket: Ticket, method: Method) -> float:
        times = self._left.get(ticket.id, 0)
        if method is Method.CHECKPOINT:
            return min(REST_S * times, MOST_REST_S)
        return EVICT_REST_S * 2 ** min(times - 1, _MOST_DOUBLED) if times else 0.0

    def may_leave(self, ticket: Ticket, method: Method, started: float, now: float) -> float:
        """Tell from when on a ticket may be asked to leave; inf: not at all, or it was."""
        if ticket not in self._able or ticket in self._evicted:
            return inf
        if method is Method.CHECKPOINT and (
            ticket in self._asked or not self._has_checkpoints(ticket)
        ):
            return inf
        if self.is_coming(ticket, now):
            return self._asked[ticket] + PATIENCE_S
        return started + self._rest(ticket, method)

    def is_bound(self, ticket: Ticket) -> bool:
        """Tell whether a ticket was asked to leave for what it takes."""
        return ticket in self._bound

    def bound_for(self, ticket: Ticket) -> str | None:
        """Tell for what of it a ticket was asked to leave; None: for its slot, or it was not."""
        return self._bound.get(ticket)

    def was_asked(self, ticket: Ticket, since: float) -> bool:
        """Tell whether a ticket was asked to leave after a time."""
        return self._asked.get(ticket, -inf) > since

    def ask(
        self, ticket: Ticket, method: Method, now: float, *, bound_for: str | None = None
    ) -> None:
        """Take note that a ticket is asked to leave, or told to.

        Args:
            ticket: Of those that started.
            method: How.
            now: Unix seconds.
            bound_for: An account, or `MEMORY`, if it is for that; None: for its slot.
        """
        if bound_for is not None:
            self._bound.setdefault(ticket, bound_for)
        self._asked.pop(ticket, None)
        self._asked[ticket] = now
        if method is Method.EVICT:
            self._evicted.add(ticket)

    def failed(self, ticket: Ticket) -> None:
        """Take note that a ticket could not be asked."""
        self._asked.pop(ticket, None)
        self._evicted.discard(ticket)
        self._bound.pop(ticket, None)

    def is_coming(self, ticket: Ticket, now: float) -> bool:
        """Tell whether the slot of a ticket is on its way, or will be free in any case."""
        if ticket in self._evicted:
            return True
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
        if len(self._asked) == len(self._evicted) or (waiting and self.coming(now)[0] <= waiting):
            return None
        # The latest: its step has the most before it. What is evicted goes.
        for ticket in reversed(self._asked):
            if ticket not in self._evicted and ticket not in self._bound:
                del self._asked[ticket]
                return ticket
        return None

    def ended(self, ticket: Ticket, now: float, *, has_left: bool) -> bool:
        """Forget a ticket that has ended or left; tell whether a slot was waited for.

        Args:
            ticket: Of those that started.
            now: Unix seconds.
            has_left: Whether it comes back to do the rest.
        """
        self._able.discard(ticket)
        self._bound.pop(ticket, None)
        asked = self._asked.pop(ticket, None)
        if ticket in self._evicted:
            self._evicted.discard(ticket)
        elif asked is not None:
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
