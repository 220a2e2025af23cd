"""Scaling: how many slots the work of a worker, or of a fleet, takes.

What runs has to leave some slots free, or whatever comes next waits; what waits is to be done
within a time. A worker's pool grows at once and shrinks after a calm, which gets longer where it
was too short. Pure; `worker/autoscaler.py` follows it, and the client tells it of a fleet. Rules:
docs/explanation/autoscaling.md.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from celery_budget.core.pressure import NEAR
from celery_budget.core.rest import Rest

#: The part of the slots that is to be in use. With a fifth free a pool of ten has a free slot for
#: 19 in 20 tasks that come at random moments (Erlang C: 8 busy of 10 on average, 41 % wait; of a
#: fleet of 50, 2 %).
IN_USE = 0.8

#: What waits is to be done within so many seconds: longer than a new worker takes to start.
CLEAR_S = 30.0

#: Between two steps, seconds, so that what the last one brought is seen; and how much a pool grows
#: in one step at most.
STEP_S = 5.0
MOST_GROWTH = 2.0

#: A pool shrinks only if it has so much more than it takes, and has had for so long, seconds.
SLACK = 0.75
REST_S, MOST_REST_S = 60.0, 960.0

#: If more executions than this part fail, more slots would only fail more.
FAILING = 0.5

#: Share of the newest second in the average of what runs: some ten seconds count.
_NEWEST = 0.2

#: Under pressure a pool gives up this part of its slots in each step.
_SHED = 0.25


class Load(NamedTuple):
    """What one worker has to do.

    Attributes:
        slots: That it has.
        busy: Of these, in use.
        waiting_s: Work that waits for it, slot-seconds.
        age_s: How long the one waits that waits longest, seconds.
        failed: The part of the executions since the last look that failed.
        need: Of its node, as `Pressure.need`; 0.0 where nobody looks.
    """

    slots: int
    busy: int
    waiting_s: float = 0.0
    age_s: float = 0.0
    failed: float = 0.0
    need: float = 0.0


def needed(busy: float, waiting_s: float) -> int:
    """Tell how many slots work takes.

    Args:
        busy: Slots in use.
        waiting_s: Work that waits, slot-seconds.
    """
    # Rounding must not ask for a slot more.
    return ceil(busy / IN_USE + waiting_s / CLEAR_S - 1e-9)


class Scaler:
    """How large one pool should be.

    Args:
        least: Slots.
        most: Slots.

    Attributes:
        least: As given; it may change.
        most: As given; it may change.
        needed: What the work takes, as last seen, whatever the pool may have.
    """

    __slots__ = ("_busy", "_peak", "_rest", "_stepped", "least", "most", "needed")

    def __init__(self, least: int, most: int) -> None:
        self.least = least
        self.most = most
        self.needed = 0
        self._busy: float | None = None
        self._peak = 0
        self._rest = Rest(REST_S, MOST_REST_S)
        self._stepped = -STEP_S

    def step(self, load: Load, now: float) -> int:
        """Tell how many slots there should be; called each second.

        Args:
            load: As it is now.
            now: Seconds, monotonic.
        """
        before = load.busy if self._busy is None else self._busy
        self._busy = before + _NEWEST * (load.busy - before)
        slots = load.slots
        wanted = needed(max(self._busy, 0.0), load.waiting_s)
        if load.age_s > CLEAR_S and load.waiting_s > 0:
            wanted = max(wanted, slots + 1)  # the work is more than anybody knows
        self.needed = wanted
        if load.need >= 1.0:
            wanted = min(wanted, slots - max(1, int(_SHED * slots)))
        elif load.need >= NEAR or load.failed > FAILING:
            wanted = min(wanted, slots)
        wanted = min(max(wanted, self.least), self.most)
        if wanted >= slots:
            self._rest.is_over(now, is_calm=False)
            self._peak = 0
            return self._grown(slots, wanted, now)
        return self._shrunk(slots, wanted, now, is_pressed=load.need >= 1.0)

    def _grown(self, slots: int, wanted: int, now: float) -> int:
        if wanted == slots or now < self._stepped + STEP_S:
            return max(slots, self.least)
        self._stepped = now
        self._rest.begin(now)
        return max(min(wanted, int(MOST_GROWTH * max(1, slots))), self.least)

    def _shrunk(self, slots: int, wanted: int, now: float, *, is_pressed: bool) -> int:
        if slots > self.most:
            return self.most
        if is_pressed:
            if now < self._stepped + STEP_S:
                return slots
            self._stepped = now
            return wanted
        is_calm = wanted <= SLACK * slots
        self._peak = max(self._peak, wanted) if is_calm else 0
        if not self._rest.is_over(now, is_calm=is_calm):
            return slots
        # What was needed at the worst moment of the calm.
        peak, self._peak = self._peak, 0
        return min(slots, max(peak, self.least))
