"""Chooses the lane of each task that this process sends; see `core/lanes.py` for the rule."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from math import inf
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from celery_budget.core.lanes import OWN, choose, order_of
from celery_budget.policy.lanes import lanes_of

if TYPE_CHECKING:
    from celery import Celery
    from kombu import Queue

    from celery_budget.producer.depths import Depths

#: Transports whose workers consume lanes, and whose queues tell how much waits in them.
DRIVERS = frozenset({"redis", "amqp"})

#: Tenants whose own messages are counted. Whoever is forgotten counts anew from nothing, which
#: only lets it go on to further lanes.
MOST_TENANTS = 10_000

#: How often a publish declares all lanes and not only its own, seconds: a worker with another
#: number looks for them one after the other, up to the first that does not exist.
DECLARED_S = 60.0


class Lanes:
    """What this process knows of the lanes it sends to.

    Args:
        app: That sends.
        depths: Gives those of its queues; others in a forked process.
    """

    def __init__(self, app: Celery, depths: Callable[[], Depths]) -> None:
        self._app = app
        self._depths = depths
        self._known: Depths | None = None
        self._bands: dict[str, _Band] = {}

    def destination(self, queue: str, count: int, tenant: str) -> tuple[str, list[Queue] | None]:
        """Choose the queue of one task.

        Args:
            queue: Of the band.
            count: The band's lanes.
            tenant: Of the task. One without goes to the band's own queue, which is the lane of
                those: spread over all lanes, a flood of them would stand before everybody.

        Returns:
            The queue's name, and what is to be declared with it, if that is more.
        """
        if not tenant or not self._has_lanes:
            return queue, None
        depths = self._depths()
        if depths is not self._known:
            # What was sent before a fork is not this process's own.
            self._known, self._bands = depths, {}
        band = self._bands.get(queue)
        if band is None or band.count != count:
            band = self._bands[queue] = _Band(queue, count)
        queues = None
        now = monotonic()
        if now - band.declared >= DECLARED_S:
            band.declared = now
            queues = [self._app.amqp.queues[lane] for lane in band.lanes]
        depths.watch(queues or ())
        return band.choose(tenant, depths), queues

    @cached_property
    def _has_lanes(self) -> bool:
        return self._app.connection_for_write().transport.driver_type in DRIVERS


class _Band:
    """The lanes of one band's queue.

    Attributes:
        count: How many there are.
        lanes: Their names.
        declared: When all were declared, monotonic seconds.
    """

    def __init__(self, queue: str, count: int) -> None:
        self.count = count
        self.lanes = lanes_of(queue, count)
        self.declared = -inf
        # Not an app's own threads alone: tasks in a threads pool publish too.
        self._lock = Lock()
        self._look = 0
        self._seen: Sequence[int] = [0] * count
        self._depths = [0] * count
        self._own: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def choose(self, tenant: str, depths: Depths) -> str:
        """Choose a tenant's lane by the latest look and what was sent since."""
        order = order_of(tenant, self.count)
        with self._lock:
            if self._look != depths.looks:
                self._look, seen = depths.looks, depths.seen
                self._seen = [seen.get(lane, 0) for lane in self.lanes]
                self._depths = list(self._seen)
            own, look = self._own.get(tenant, (0, 0))
            if look != self._look:
                # No more of its messages can wait there than all together.
                own = min(own, sum(self._seen[number] for number in order[:OWN]))
            number = choose(order, self._depths, own)
            self._depths[number] += 1
            self._own[tenant] = own + (number in order[:OWN]), self._look
            self._own.move_to_end(tenant)
            if len(self._own) > MOST_TENANTS:
                self._own.popitem(last=False)
        return self.lanes[number]
