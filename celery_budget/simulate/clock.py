"""The clock of a simulation: time passes from one thing that happens to the next."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf

#: When every simulation begins, Unix seconds.
BEGIN = 1_700_000_000.0


class Clock:
    """What is going to happen, and the time.

    Attributes:
        now: Unix seconds.
    """

    def __init__(self) -> None:
        self.now = BEGIN
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()

    @property
    def now_us(self) -> int:
        """Microseconds since 1970."""
        return int(self.now * 1e6)

    @property
    def next_at(self) -> float:
        """When something happens next, Unix seconds; inf when nothing does."""
        return self._events[0][0] if self._events else inf

    def at(self, time: float, action: Callable[[], object]) -> None:
        """Let something happen at a time; of several at one moment, the earliest asked for first.

        Args:
            time: Unix seconds; what is past happens at once, and time does not go back for it.
            action: Called then.
        """
        heappush(self._events, (time, next(self._order), action))

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Let something happen in so many seconds."""
        self.at(self.now + seconds, action)

    def run(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due in it."""
        until = self.now + seconds
        events = self._events
        while events and events[0][0] <= until:
            time, _, action = heappop(events)
            self.now = max(self.now, time)
            action()
        self.now = until
