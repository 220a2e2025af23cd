"""In which order a worker asks the lanes of a band: first where those wait who had least.

Nobody can look into a queue, but what came from it last tells who fills it. So lanes go by the
slot time that the tenant of their latest message has used lately; a lane of which nothing is known
goes first, and of equals the one that has waited for longest. Pure: times come in as arguments.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from math import exp2, inf

#: What was used counts half after so long, seconds: long against the tasks that take turns, short
#: against the time in which a tenant's load changes.
HALF_S = 10.0

#: Tenants remembered. Those that used nothing for longest are forgotten first, when little is left
#: of what they used.
MOST_TENANTS = 1_000


class Turns:
    """The turns of one band's queues on one worker.

    Args:
        weight: A tenant's share against others.

    Attributes:
        latest: The queue that brought the latest message; "" before.
    """

    def __init__(self, weight: Callable[[str], float] | None = None) -> None:
        self.latest = ""
        self._weight = weight
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._tenants: dict[str, str] = {}
        self._came: dict[str, float] = {}
        self._places: dict[str, int] = {}
        self._count = 0

    def came(self, queue: str, now: float) -> None:
        """A message came from a queue.

        Args:
            queue: Its name.
            now: Seconds, never set back.
        """
        self.latest = queue
        self._count += 1
        self._places[queue] = self._count
        self._came[queue] = now

    def used(self, tenant: str, seconds: float, now: float, queue: str = "") -> None:
        """Count what a task will use.

        Args:
            tenant: Whose it is.
            seconds: Slot time that it is expected to take.
            now: Seconds, never set back.
            queue: Through which it came, if that was just now.
        """
        if queue:
            self._tenants[queue] = tenant
        if self._weight is not None:
            seconds /= self._weight(tenant)
        self._used[tenant] = (self._left(tenant, now) + seconds, now)
        self._used.move_to_end(tenant)
        if len(self._used) > MOST_TENANTS:
            self._used.popitem(last=False)

    def order(self, queues: Iterable[str], now: float) -> list[str]:
        """Sort queues: the one to be asked first comes first."""
        return sorted(
            queues,
            key=lambda queue: (
                self._left(self._tenants[queue], now) if queue in self._tenants else 0.0,
                self._places.get(queue, 0),
            ),
        )

    def since(self, queue: str) -> float:
        """Tell when a queue brought its latest message; -inf: never."""
        return self._came.get(queue, -inf)

    def forget(self, queue: str) -> None:
        """A queue is not asked any more."""
        for known in (self._tenants, self._came, self._places):
            known.pop(queue, None)

    def _left(self, tenant: str, now: float) -> float:
        """Tell what counts still of the slot time that a tenant used."""
        used, at = self._used.get(tenant, (0.0, now))
        return used * exp2((at - now) / HALF_S)
