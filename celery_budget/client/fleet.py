"""What the whole fleet is doing: each band's queues, and each worker's part in it.

Pure values. Made by the client from the workers' answers; printed by the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from statistics import fmean

from celery_budget.core.scaling import needed


@dataclass(frozen=True, slots=True)
class BandLoad:
    """One band, on one worker or on all.

    Attributes:
        running: Tasks that have a slot.
        held: Tasks that a worker has and has not started.
        frozen: Those of the running ones that give way to others now.
        throttled_to: The part of the slots that its throttle leaves to it and those below; of
            several workers the smallest.
        throttled_by: What took that part down last there: "wait", "queue", "ledger" or "node"; ""
            while it may use all, or where nobody says.
        expected_s: How long one of its tasks takes on average, seconds; 0.0 where nobody says.
    """

    running: int
    held: int
    frozen: int = 0
    throttled_to: float = 1.0
    expected_s: float = 0.0
    throttled_by: str = ""


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """What one worker answered.

    Attributes:
        slots: Tasks it can run at once; None where it has no policy and does not say.
        bands: By band, in the order of its policy; empty where it has none.
        note: What operators have changed there, or what keeps it from answering in full; "" for
            neither.
    """

    slots: int | None
    bands: Mapping[str, BandLoad]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Fleet:
    """All workers that answered, and the broker's queues.

    Attributes:
        bands: Names in the order of the app's policy.
        queues: Queues of each band.
        depths: Messages that wait in each queue of the app, its lanes included.
        workers: By node name.
    """

    bands: tuple[str, ...]
    queues: Mapping[str, tuple[str, ...]]
    depths: Mapping[str, int]
    workers: Mapping[str, WorkerLoad]

    @property
    def slots(self) -> int:
        """Slots of all workers with a policy."""
        return sum(worker.slots or 0 for worker in self.workers.values())

    def load(self, band: str) -> BandLoad:
        """Sum a band over all workers."""
        loads = [worker.bands[band] for worker in self.workers.values() if band in worker.bands]
        least = min(loads, key=lambda load: load.throttled_to, default=BandLoad(0, 0))
        return BandLoad(
            sum(load.running for load in loads),
            sum(load.held for load in loads),
            sum(load.frozen for load in loads),
            least.throttled_to,
            fmean(load.expected_s for load in loads) if loads else 0.0,
            least.throttled_by,
        )

    @property
    def wanted_slots(self) -> int:
        """Slots that what runs and what waits now takes; see docs/explanation/autoscaling.md."""
        loads = {band: self.load(band) for band in self.bands}
        waiting = sum((self.depth(b) + load.held) * load.expected_s for b, load in loads.items())
        return needed(sum(load.running - load.frozen for load in loads.values()), waiting)

    @property
    def wanted_workers(self) -> int:
        """Workers of the size of the largest one that have so many slots; at least one."""
        largest = max((worker.slots or 0 for worker in self.workers.values()), default=0)
        return max(1, ceil(self.wanted_slots / largest)) if largest else 1

    def depth(self, band: str) -> int:
        """Count the messages that wait in a band's queues."""
        return sum(self.depths.get(queue, 0) for queue in self.queues.get(band, ()))

    @property
    def other_depths(self) -> dict[str, int]:
        """Messages that wait in queues of no band."""
        owned = {queue for queues in self.queues.values() for queue in queues}
        return {queue: depth for queue, depth in self.depths.items() if queue not in owned}
