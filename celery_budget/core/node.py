"""The node of one worker, as its dispatcher sees it: what memory is left, and for whom.

A ticket starts only if what it is expected to take fits into what is left; of what runs, what it
is expected to take and does not take yet is kept for it. Used by the dispatcher alone. Rules:
docs/explanation/node-pressure.md.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType

from celery_budget.core.pressure import Pressure, Sample
from celery_budget.core.processors import Processors
from celery_budget.core.sketch import Sketch, bucket_of
from celery_budget.core.summary import COVERED
from celery_budget.core.ticket import Ticket
from celery_budget.policy.pressure import PressureRule

_MEMORY = "memory"

#: Task types of which is remembered what they took; names come from code.
MOST_TASKS = 10_000

#: What is expected to take no more than this part of the node's memory starts whatever is left:
#: a worker has some dozen slots, and the rule leaves a tenth.
LITTLE = 0.01

#: A look that was begun less than so long after a task left for want of memory may not see that it
#: has, seconds: its child gives the memory back while it cleans up.
SETTLES_S = 0.5

_NOTHING: Mapping[Ticket, int] = MappingProxyType({})


class Node:
    """What one worker knows of the node that it runs on.

    Args:
        rule: As declared.

    Attributes:
        pressure: How short the node is.
        using: What running tickets took beside what their children had before, when it was last
            looked at, bytes; none where nobody can tell.
        excess: Bytes that have to come free, as last seen.
        processors: Which tickets keep them busy; None where nobody stands still for them.
    """

    __slots__ = (
        "_estimates",
        "_expected",
        "_left_at",
        "_sample",
        "_tasks",
        "excess",
        "pressure",
        "processors",
        "using",
    )

    def __init__(self, rule: PressureRule) -> None:
        self.pressure = Pressure(rule)
        self.processors = None if rule.cpu is None else Processors(rule.cpu)
        self.using = _NOTHING
        self.excess = 0
        self._sample: Sample | None = None
        #: Of running tickets: what each is expected to take, bytes.
        self._expected: dict[Ticket, int] = {}
        self._tasks: OrderedDict[str, Sketch] = OrderedDict()
        #: Reckoned when something was learned: each start asks twice.
        self._estimates: dict[str, int] = {}
        self._left_at = 0.0

    def amend(self, rule: PressureRule) -> None:
        """Go on by another rule, of the same kinds of need."""
        self.pressure.rule = rule
        if self.processors is not None and rule.cpu is not None:
            self.processors.part = rule.cpu
            self.processors.is_changed = True

    def look(self, sample: Sample, using: Mapping[Ticket, int], now: float) -> None:
        """Follow one look at the node.

        Args:
            sample: What it told.
            using: What running tickets take beside what their children had before, bytes; of those
                that could be looked at.
            now: Unix seconds.
        """
        self.pressure.look(sample, now)
        self._sample = sample
        self.using = using
        self.excess = 0
        if self.pressure.is_high and not self._left_at <= now < self._left_at + SETTLES_S:
            self.excess = self.pressure.excess(sample)

    def expected(self, ticket: Ticket) -> int:
        """Tell how much memory a ticket is expected to take, bytes; 0 when nobody knows."""
        for resource, units in ticket.cost:
            if resource == _MEMORY:
                return units
        return self._estimates.get(ticket.task, 0)

    def lacks(self, ticket: Ticket) -> int:
        """Tell how many bytes too few there are for a ticket to start; 0: it fits.

        Before the first look everything fits.
        """
        sample = self._sample
        if sample is None:
            return 0
        wanted = self.expected(ticket) - sample.base
        if wanted <= LITTLE * sample.limit:
            return 0
        return max(0, wanted - self._room(sample))

    def _room(self, sample: Sample) -> int:
        """Tell what is left, without what those that run are yet to take."""
        awaited = 0
        for ticket, expected in self._expected.items():
            awaited += max(0, expected - sample.base - self.using.get(ticket, 0))
        return int(self.pressure.rule.memory * sample.limit) - sample.used - awaited

    def _taken(self, ticket: Ticket) -> int:
        """Tell what a ticket's child had when it was last looked at, bytes; 0: nobody knows."""
        using = self.using.get(ticket, 0)
        return using + self._sample.base if using and self._sample is not None else 0

    def started(self, ticket: Ticket, *, is_urgent: bool = False) -> None:
        """Keep what a ticket is expected to take.

        Args:
            ticket: Of any band.
            is_urgent: Whether of a band that preempts.
        """
        expected = self.expected(ticket)
        if expected:
            self._expected[ticket] = expected
        if self.processors is not None:
            self.processors.started(ticket, is_urgent=is_urgent)

    def ended(
        self,
        ticket: Ticket,
        usage: Mapping[str, int],
        now: float,
        *,
        ran_s: float = 0.0,
        is_bound: bool = False,
    ) -> None:
        """Forget a ticket that has left its slot, and learn from it.

        Args:
            ticket: As it was started.
            usage: Units of each resource that were measured.
            now: Unix seconds.
            ran_s: How long it ran, without the time for which it stood still, seconds.
            is_bound: Whether it left for want of memory.
        """
        self._expected.pop(ticket, None)
        if self.processors is not None:
            self.processors.ended(ticket, usage.get("cpu"), ran_s)
        took = max(usage.get(_MEMORY, 0), self._taken(ticket))
        if is_bound:
            self._left_at = now
        if not took:
            return
        task = ticket.task
        seen = self._tasks.get(task)
        if seen is None:
            if len(self._tasks) >= MOST_TASKS:
                oldest, _ = self._tasks.popitem(last=False)
                del self._estimates[oldest]
            seen = self._tasks[task] = Sketch()
        seen.observe(bucket_of(took), 0)
        self._estimates[task] = seen.quantile(COVERED)
