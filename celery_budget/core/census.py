"""The census of one worker: what waits and what runs there, told to whoever asks.

Nothing here changes anything. Read by remote control, the log, the autoscaler and the windows; what
is told of is the roster's (`roster.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from celery_budget.core.bands import BandState
from celery_budget.core.fairness import Tenant
from celery_budget.core.ticket import Ticket

if TYPE_CHECKING:
    from celery_budget.core.holding import Holding
    from celery_budget.core.node import Node
    from celery_budget.core.order import Order
    from celery_budget.core.preemption import Preemption
    from celery_budget.core.shortage import Cause
    from celery_budget.core.throttling import Throttling

#: A ticket that has a slot: its band and tenant, when it started, its expected service time, what
#: was paid for its band's minimum share, its part of the look-ahead, and what was set aside of its
#: budgets. A tuple, because one is made for each execution, in a quarter of the time of an object.
Run = tuple[BandState, Tenant, float, float, float, int, tuple[int, ...]]


class Census:
    """What can be asked of a worker.

    Attributes:
        slots: Executions it can run at once.
    """

    slots: int
    _order: Order
    _by_name: dict[str, BandState]
    _holding: Holding
    _running: dict[Ticket, Run]
    _throttling: Throttling
    _preemption: Preemption
    _node: Node | None

    @property
    def capped(self) -> bool:
        """Whether the reserves were cut so that one slot stays shared."""
        return self._order.capped

    @property
    def free(self) -> int:
        """Slots without a ticket."""
        return max(0, self.slots - len(self._running) + self._preemption.outside)

    @property
    def held_total(self) -> int:
        """Tickets that wait, of all bands."""
        return self._holding.total

    def held(self, band: str) -> int:
        """Tell how many tickets of a band wait."""
        queue = self._by_name[band].queue
        return queue.length + queue.blocked

    def running(self, band: str) -> int:
        """Tell how many tickets of a band have a slot."""
        return self._by_name[band].running

    def frozen(self, band: str) -> int:
        """Tell how many of its running tickets give way to others now."""
        return sum(self._running[t][0].name == band for t in self._preemption.frozen)

    def reserve(self, band: str) -> int:
        """Tell how many slots are kept for a band, those that it uses among them."""
        return self._by_name[band].reserve

    def is_degraded(self, band: str) -> bool:
        """Tell whether tickets of a band that can are asked to do less, as others wait."""
        degrading = self._by_name[band].degrading
        return degrading is not None and degrading.is_on

    def throttled_to(self, band: str) -> float:
        """Tell which part of the slots a band may use, with those below it, by its throttle."""
        return self._throttling.share(self._by_name[band])

    def throttled_by(self, band: str) -> Cause | None:
        """Tell what took that part down last; None while a band may use all slots."""
        return self._throttling.cause(self._by_name[band])

    @property
    def is_pressed(self) -> bool:
        """Whether the node is under pressure, and lesser work is left to other workers."""
        return self._node is not None and self._node.pressure.is_high

    @property
    def need(self) -> float | None:
        """The largest need of the node by its limit; None where nobody looks."""
        return None if self._node is None else self._node.pressure.need

    def urgent_room(self) -> int:
        """Tell how many urgent tickets could start that are not held here yet."""
        urgent = self._order.urgent
        return self._room_for(urgent[0]) if urgent else 0

    def _room_for(self, state: BandState) -> int:
        """Tell how many more tickets of a band that preempts could start than wait for slots."""
        waiting = sum(other.queue.length for other in self._order.urgent)
        return max(0, self._usable_by(state) + self._preemption.room(state) - waiting)

    def _usable_by(self, state: BandState) -> int:
        """Tell how many slots are free for tickets of a band that preempts."""
        free = self.free
        return min(free, max(0, self._preemption.unkept(free) + state.unfilled))

    def work_s(self, queued: Mapping[str, float]) -> float:
        """Tell how much work waits, here and in the broker, slot-seconds.

        Args:
            queued: Messages in the broker that count for this worker, by name of the band.
        """
        return sum(
            (state.queue.length + queued.get(state.name, 0.0)) * state.expected
            for state in self._order.bands
            if not state.is_paused
        )

    def expected_s(self, band: str) -> float:
        """Tell how long a task of a band takes on average, seconds."""
        return self._by_name[band].expected

    def age_s(self, now: float) -> float:
        """Tell how long the one waits that waits longest, of those that go next, seconds."""
        heads = [state.queue.head() for state in self._order.bands]
        return max((now - head.published for head in heads if head is not None), default=0.0)

    def find(self, task_id: str) -> list[Ticket]:
        """List the held tickets of a task id."""
        return [entry[5] for entry in self._holding.entries(task_id)]

    def listed(self, most: int) -> list[Ticket]:
        """List held tickets, the earliest arrivals first."""
        return self._holding.earliest(most)
