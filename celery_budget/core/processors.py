"""The processors of one worker's node: how many running tickets keep busy, and how many are left.

Where all processors are in use nobody knows what a task would have used more, so that there a task
that used a good part of what each could get counts as one that keeps a whole processor busy. Used
by `core/node.py` and `core/shelter.py`. Rules: docs/explanation/node-pressure.md.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from math import inf
from types import MappingProxyType
from typing import NamedTuple

from celery_budget.core.ticket import Ticket

#: Processors are all in use from this part of them on: the kernel moves a task that waits to an
#: idle one only after a moment.
FULL = 0.9

#: Where all are in use: who used this part of what each could get would have used more.
HUNGRY = 1 / 3

#: What keeps no more than this part of a processor busy is in nobody's way.
LITTLE = 0.1

#: Share of the newest execution in what is expected of a task type.
_NEWEST = 0.3

#: Shorter executions tell nothing, seconds: a processor's time is counted in microseconds, and the
#: way to the child and back takes some hundred.
SHORTEST_S = 0.005

#: Task types of which is remembered what they used; names come from code.
_MOST_TASKS = 10_000


class Use(NamedTuple):
    """What one look at a node's processors told.

    Attributes:
        processors: That there are, or that may be used at once; > 0.
        busy: Of these, in use on average since the look before.
        others: Of these, in use by others than this worker's tasks.
        tasks: Those of running tickets, of which a look before knew.
    """

    processors: float
    busy: float = 0.0
    others: float = 0.0
    tasks: Mapping[Ticket, float] = MappingProxyType({})


class Processors:
    """Which tickets of one worker keep how many processors busy.

    Attributes:
        part: Of the processors that may be in use before lesser tickets stand still for urgent
            ones, as declared; it may change.
        is_changed: Whether something happened since somebody last asked who is in whose way.
    """

    __slots__ = (
        "_is_full",
        "_others",
        "_processors",
        "_running",
        "_stopped",
        "_tasks",
        "is_changed",
        "part",
    )

    def __init__(self, part: float) -> None:
        self.part = part
        self.is_changed = False
        #: Before the first look there are as many as anybody wants.
        self._processors = inf
        self._others = 0.0
        #: Whether all are in use, so that less is used than would be.
        self._is_full = False
        self._running: dict[Ticket, float] = {}
        #: Those that stood still at some time since the last look, which so tells nothing of them.
        self._stopped: set[Ticket] = set()
        self._tasks: OrderedDict[str, float] = OrderedDict()

    @property
    def room(self) -> float:
        """How many processors this worker's tickets may keep busy before any is in the way."""
        return max(0.0, self.part * self._processors - self._others)

    def look(self, use: Use) -> None:
        """Follow one look at the node."""
        self._processors = use.processors
        self._others = use.others
        self._is_full = use.busy >= FULL * use.processors
        for ticket, used in use.tasks.items():
            if ticket in self._running and ticket not in self._stopped:
                self._running[ticket] = self._wish(used)
        self._stopped.clear()
        self.is_changed = True

    def stopped(self, ticket: Ticket) -> None:
        """Take note that a ticket stands still, or did until now."""
        self._stopped.add(ticket)

    def _wish(self, used: float) -> float:
        """Tell how many processors a ticket would keep busy that has used so many."""
        equal_part = self._processors / max(1, len(self._running))
        if self._is_full and used >= HUNGRY * min(1.0, equal_part):
            return max(1.0, used)
        return used

    def of(self, ticket: Ticket) -> float:
        """Tell how many processors a running ticket keeps busy, or would if it could."""
        return self._running.get(ticket, 0.0)

    def expected(self, task: str) -> float:
        """Tell how many a task type is expected to keep busy; 0.0 when nobody knows."""
        return self._tasks.get(task, 0.0)

    def started(self, ticket: Ticket, *, is_urgent: bool) -> None:
        """Take note of a ticket that starts.

        Args:
            ticket: Of any band.
            is_urgent: Whether of a band that preempts: an unknown one may need a processor.
        """
        unknown = 1.0 if is_urgent else 0.0
        self._running[ticket] = self._tasks.get(ticket.task, unknown)
        self.is_changed = True

    def ended(self, ticket: Ticket, cpu_us: int | None, served_s: float) -> None:
        """Forget a ticket that has left its slot, and learn from it.

        Args:
            ticket: As it was started.
            cpu_us: Processor time that it used, microseconds; None: nobody knows.
            served_s: How long it ran, without the time for which it stood still, seconds.
        """
        self.is_changed = True
        if cpu_us is not None and served_s >= SHORTEST_S:
            wish = self._wish(cpu_us / 1e6 / served_s)
            known = self._tasks.get(ticket.task)
            if known is None:
                if len(self._tasks) >= _MOST_TASKS:
                    self._tasks.popitem(last=False)
                known = wish
            self._tasks[ticket.task] = known + _NEWEST * (wish - known)
        self._running.pop(ticket, None)
        self._stopped.discard(ticket)
