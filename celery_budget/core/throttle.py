"""The throttle of one band: which share of the slots it and those below it may use.

Once a period it is told the shortage, the wait of bands above as a multiple of what was wanted, and
moves its share in proportion to it: twice too long halves the share. It homes in on the share at
which the shortage meets its goal: each time it has gone too far it takes half the step, as in a
search by halves, so that it comes to rest where a step of fixed size would swing for ever
(the rule for steps is that of Riedmiller and Braun, 1993). Pure; docs/explanation/throttling.md.
"""

from __future__ import annotations

from math import log2

#: How often shares are set, seconds.
PERIOD_S = 1.0

#: The least share that is left to a band, so that what waits in it is never without hope.
FLOOR = 0.05

#: Where the shortage is to be. At 0.8 the wait of one in twenty came out right in the middling
#: second, and in bad ones many were late: 5 to 21 % of all in the simulations of
#: tests/properties/test_throttling.py. At this goal 1 to 5 % are, and the share lies stiller.
GOAL = 0.5

#: So far from the goal, as a factor, nothing is done.
QUIET = 1.2

#: The smallest and the largest step, as the power to which the shortage's factor is taken.
LEAST_GAIN, MOST_GAIN = 1 / 16, 1.0

#: After so many steps in one direction the next is twice as large. With two, chance alone made
#: steps grow: the share's standard deviation was up to 0.17 there, with three 0.06.
STRIDES = 3

#: So many waits tell a shortage as well as any number; fewer in proportion.
ENOUGH = 4


class Throttle:
    """How much of a worker's slots one band, and those below it, may use together.

    Attributes:
        share: Of all slots; from `FLOOR` to 1.
    """

    __slots__ = ("_direction", "_gain", "_strides", "share")

    def __init__(self) -> None:
        self.share = 1.0
        self._rest()

    def _rest(self) -> None:
        self._gain = MOST_GAIN
        self._direction = 0
        self._strides = 0

    def step(self, shortage: float, evidence: int, *, is_kept: bool = True) -> None:
        """Follow the shortage of one period.

        Args:
            shortage: The wait of bands above by their target, or another need by its limit; >= 0.
            evidence: How many waits tell it.
            is_kept: Whether the band uses no more than its share by now: until what runs has
                ended, a smaller one cannot do better.
        """
        factor = 2.0 if shortage <= GOAL / 2 else max(0.5, GOAL / shortage)
        if 1 / QUIET < factor < QUIET:
            return
        direction = 1 if factor > 1 else -1
        if direction < 0 and not is_kept:
            return
        if direction > 0 and self.share >= 1.0:
            self._rest()
            return
        if direction == self._direction:
            self._strides += 1
            if self._strides >= STRIDES:
                self._gain = min(MOST_GAIN, 2 * self._gain)
        else:
            if self._direction:
                self._gain = max(LEAST_GAIN, self._gain / 2)
            self._direction, self._strides = direction, 0
        power = self._gain * min(1.0, evidence / ENOUGH)
        self.share = min(1.0, max(FLOOR, self.share * 2 ** (power * log2(factor))))
