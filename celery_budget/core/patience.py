"""Patience: how long a free slot may wait for a message that goes before what is held.

Windows are closed while no slot is free. Right after one became free nothing may be held but what
came first, and deciding at once would make it a race. So a lesser ticket waits a moment. Each wait
is short against what would run instead, and all of them are paid from the time that tasks ran:
else a stream of urgent messages, each in time for the last moment, would keep slots idle for
most of the time. Used by the dispatcher alone.
"""

from __future__ import annotations

from math import inf

#: Longest wait after a slot became free, seconds: a message that was asked for is here within 1
#: to 3 ms on Redis and RabbitMQ.
GATHER_S = 0.005

#: And at most this part of the expected service time of the ticket that waits: where the message
#: never comes, no more throughput is lost.
GATHER_PART = 0.02

#: No message comes sooner, so that a shorter wait would be in vain, seconds.
LEAST_GATHER_S = 0.001

#: Part of the time that tasks ran which may be spent on waiting for messages that do come. Tasks
#: of 50 ms earn one longest wait each; shorter ones come with a look-ahead and need none.
PAID_PART = 0.1

#: Most slot-seconds that are saved up: ten longest waits, for slots that become free together.
MOST_SAVED_S = 0.05


class Patience:
    """The slot time that may still be spent on waiting.

    Attributes:
        left_s: Slot-seconds; negative when the last wait took more than there was.
        since: When the present wait began, on the caller's clock; inf when there is none.
    """

    __slots__ = ("_free", "left_s", "since")

    def __init__(self) -> None:
        self.left_s = MOST_SAVED_S
        self.since = inf
        self._free = 0

    def limit(self, expected_s: float) -> float:
        """Tell how long to wait at most; 0.0 where no message could arrive in that time.

        Args:
            expected_s: Service time of the ticket that would wait.
        """
        limit = min(GATHER_S, GATHER_PART * expected_s, self.left_s)
        return limit if limit >= LEAST_GATHER_S else 0.0

    def wait(self, free: int, now: float) -> None:
        """Take note that free slots wait from now on; again while they do."""
        if self.since == inf:
            self.since = now
            self._free = free

    def end(self, now: float) -> None:
        """Pay for the wait that is over."""
        # No wait is longer, though nothing may have been left to start afterwards.
        self.left_s -= min(max(0.0, now - self.since), GATHER_S) * self._free
        self.since = inf

    def earn(self, served_s: float) -> None:
        """Gain from the time that a task ran."""
        self.left_s = min(self.left_s + served_s * PAID_PART, MOST_SAVED_S)
