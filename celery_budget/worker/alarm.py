"""An alarm: something is done at a time, unless it was done before."""

from __future__ import annotations

from collections.abc import Callable

#: A timer may come so much too early, seconds: it goes by another clock, and by what that showed
#: when its loop last looked (gevent). Whoever asks again is then set again; without this it was
#: taken for set, and nothing came before the next tick.
EARLY_S = 0.01

CallAfter = Callable[[float, Callable[[], None]], object]


class Alarm:
    """Rings once at the earliest time that it was set to, on a worker's timer.

    Args:
        clock: Gives seconds.
        ring: What is to be done.
    """

    def __init__(self, clock: Callable[[], float], ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._at = 0.0
        self._call_after: CallAfter | None = None

    def attach(self, call_after: CallAfter) -> None:
        """Go on with another timer, which knows nothing of times set before.

        Args:
            call_after: Calls a function in so many seconds.
        """
        self._at = 0.0
        self._call_after = call_after

    @property
    def is_set(self) -> bool:
        """Whether it is yet to ring."""
        return self._clock() < self._at

    def set(self, at: float) -> None:
        """Let it ring at that time, or before if it is set to that."""
        now = self._clock()
        # A timer that is set for later comes as well, and finds nothing to do.
        if not now < self._at <= at and self._call_after is not None:
            self._at = at
            self._call_after(max(0.0, at - now), self._time_is_up)

    def _time_is_up(self) -> None:
        if self._clock() >= self._at - EARLY_S:
            self._at = 0.0
        self._ring()
