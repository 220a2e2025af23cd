"""Service times: how long executions occupy a slot, learned from those that ended.

Fair shares and the look-ahead are reckoned in slot-seconds, so both need a guess before a task
ran. Pure: times come in as arguments. Used by the dispatcher alone.
"""

from __future__ import annotations

#: Guess for what never ran, seconds. Fair shares are charged by it until the first one ends, so
#: it is on the long side: a tenant whose first tasks turn out long must not have taken every slot
#: by then. The look-ahead does not count what is only guessed.
UNKNOWN_S = 1.0

#: Share of the newest observation in the average. 0.2 follows a changed task within some ten
#: executions and still halves the noise of a single one.
NEWEST = 0.2

#: Shortest guess, seconds; below it, slots are bound by the worker and not by the task.
SHORTEST_S = 0.0001

#: Task types remembered. Names come from code; a stranger's message cannot name a task that is
#: not registered, so this is never reached in practice and only bounds the memory.
MOST_TYPES = 10_000


class ServiceTimes(dict[str, float]):
    """The expected service time of each task type, seconds: a moving average.

    A dict of its own kind because looking up is on the hot path and a dict's is done in C.
    """

    __slots__ = ()

    def __missing__(self, task: str) -> float:
        return UNKNOWN_S

    def observe(self, task: str, service_s: float) -> None:
        """Learn from one execution that ended."""
        known = self.get(task)
        if known is None:
            if len(self) >= MOST_TYPES:
                del self[next(iter(self))]
            known = service_s
        self[task] = max(known + NEWEST * (service_s - known), SHORTEST_S)


class Peak:
    """The longest of the recent values: of the current period and of the one before.

    A value is remembered for at least one period and, while values come, for at most two.

    Attributes:
        value: The longest; 0.0 before the first.
        current: The longest of this period; a caller in a hurry may skip what is not longer
            and comes before `ends`.
        ends: When this period ends, on the caller's clock.
    """

    __slots__ = ("_period_s", "_previous", "current", "ends", "value")

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._previous = 0.0
        self.current = 0.0
        self.ends = 0.0
        self.value = 0.0

    def observe(self, value: float, now: float) -> None:
        """Take a value into account from now on."""
        if now >= self.ends:
            is_next = now < self.ends + self._period_s
            self._previous = self.current if is_next else 0.0
            self.current = 0.0
            self.ends = now + self._period_s
        self.current = max(self.current, value)
        self.value = max(self.current, self._previous)
