"""Service times: how long executions occupy a slot, learned from those that ended.

Fair shares and the look-ahead are reckoned in slot-seconds, so both need a guess before a task
ran. Pure: times come in as arguments.
"""

from __future__ import annotations

#: Guess for what never ran, seconds. On the long side on purpose: an unknown task then gets no
#: look-ahead, which costs one broker round trip, where the contrary would hoard messages that
#: another worker could start.
UNKNOWN_S = 1.0

#: Share of the newest observation in the average. 0.2 follows a changed task within some ten
#: executions and still halves the noise of a single one.
NEWEST = 0.2

#: Shortest guess, seconds; below it, slots are bound by the worker and not by the task.
SHORTEST_S = 0.0001

#: Task types remembered. Names come from code; a stranger's message cannot name a task that is
#: not registered, so this is never reached in practice and only bounds the memory.
MOST_TYPES = 10_000


class ServiceTimes:
    """A moving average of the service time of each task type."""

    __slots__ = ("_average",)

    def __init__(self) -> None:
        self._average: dict[str, float] = {}

    def expected(self, task: str) -> float:
        """Guess the service time of the next execution, seconds."""
        return self._average.get(task, UNKNOWN_S)

    def observe(self, task: str, service_s: float) -> None:
        """Learn from one execution that ended."""
        average = self._average
        known = average.get(task)
        if known is None:
            if len(average) >= MOST_TYPES:
                del average[next(iter(average))]
            average[task] = max(service_s, SHORTEST_S)
        else:
            average[task] = max(known + NEWEST * (service_s - known), SHORTEST_S)


class Peak:
    """The longest of the recent values: of the current period and of the one before.

    A value is remembered for at least one period and at most two.
    """

    __slots__ = ("_current", "_period_s", "_previous", "_started", "value")

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._started = 0.0
        self._current = 0.0
        self._previous = 0.0
        self.value = 0.0

    def observe(self, value: float, now: float) -> None:
        """Take a value into account from now on."""
        if now - self._started >= self._period_s:
            is_next = now - self._started < 2 * self._period_s
            self._previous = self._current if is_next else 0.0
            self._current = 0.0
            self._started = now
        self._current = max(self._current, value)
        self.value = max(self._current, self._previous)
