"""Degrading: whether the tickets of one band are asked to do less, so that fewer have to wait.

It begins as soon as there is a shortage, before a throttle takes slots away, and ends after these
are back and a while without shortage. That while grows when it was too short: where doing less is
what ends the shortage, it would come and go for ever. Used by `throttling.py` alone. Rules:
docs/explanation/throttling.md.
"""

from __future__ import annotations

from math import inf

from celery_budget.core.rest import Rest
from celery_budget.core.throttle import ENOUGH, GOAL, QUIET

#: So long after it began the throttle leaves the slots as they are, seconds: two of its periods, in
#: which tickets that do less can show that it helps.
GRACE_S = 2.0

#: Without shortage for so long it ends, seconds; for twice as long each time that it has to begin
#: again within as long, up to the most. With 10 s at first, 29 % of the lesser tasks of an ordinary
#: load at random moments were asked for less, for the few seconds in which some waited; with 5 s
#: 22 % (the loads of tests/properties/test_throttling.py before their overload, 2026-11).
REST_S, MOST_REST_S = 5.0, 160.0


class Degrading:
    """Whether one band does less.

    Attributes:
        is_on: Whether it does.
    """

    __slots__ = ("_began", "_evidence", "_rest", "is_on")

    def __init__(self) -> None:
        self.is_on = False
        self._began = -inf
        self._evidence = 0
        self._rest = Rest(REST_S, MOST_REST_S)

    def step(self, shortage: float, evidence: int, now: float, *, is_free: bool) -> None:
        """Follow the shortage of one period.

        Args:
            shortage: As a throttle takes it.
            evidence: How many waits tell it; > 0. A few need not mean anything, unless the next
                period says the same.
            now: Unix seconds.
            is_free: Whether the band may use all slots.
        """
        is_short = shortage > GOAL * QUIET
        self._evidence = min(ENOUGH, self._evidence + evidence) if is_short else 0
        if is_short and not self.is_on:
            if self._evidence >= ENOUGH:
                self.is_on = True
                self._rest.begin(now)
                self._began = now
        elif self.is_on and self._rest.is_over(now, is_calm=is_free and not is_short):
            self.is_on = False

    def is_too_little(self, now: float) -> bool:
        """Tell whether it has been tried for a while, so that a throttle may take slots as well."""
        return self.is_on and not self._began <= now < self._began + GRACE_S
