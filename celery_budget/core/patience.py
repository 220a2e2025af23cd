"""Patience: how long a free slot may wait for a message that goes before what is held.

Windows are closed while no slot is free. Right after one became free nothing may be held but what
came first, and deciding at once would make it a race. So a lesser ticket waits a moment. Each wait
is short against what would run instead, and all of them are paid from the time that tasks ran:
else a stream of urgent messages, each in time for the last moment, would keep slots idle for
most of the time. Used by the dispatcher alone.
"""

from __future__ import annotations

from math import inf

#: Wait after a slot became free, seconds, while messages come as soon as they do from an idle Redis
#: or RabbitMQ near by: within 1 to 3 ms.
GATHER_S = 0.005

#: Longest wait, seconds, where they take longer: from a broker far away, or on a machine with more
#: work than cores. An urgent message that comes too late waits for a whole task of another band.
MOST_GATHER_S = 0.05

#: How much longer is waited than the slowest of the recent messages took.
MARGIN = 2.0

#: What a message weighs against the next one, when the slowest recent one is remembered. A slot
#: that becomes free brings some ten messages of which only the first took long; over ten slots the
#: memory fades to a seventh.
MEMORY = 0.98

#: And at most this part of the expected service time of the ticket that waits: where the message
#: never comes, no more throughput is lost.
GATHER_PART = 0.02

#: No message comes sooner, so that a shorter wait would be in vain, seconds.
LEAST_GATHER_S = 0.001

#: Before a shorter task nothing waits, seconds: `limit` is 0.0 for it, and need not be asked.
LEAST_EXPECTED_S = LEAST_GATHER_S / GATHER_PART

#: Part of the time that tasks ran which may be spent on waiting for messages that do come. Tasks
#: of 50 ms earn one longest wait each; shorter ones come with a look-ahead and need none.
PAID_PART = 0.1

#: Most slot-seconds that are saved up: ten waits of the ordinary length, for slots that become
#: free together.
MOST_SAVED_S = 10 * GATHER_S


class Patience:
    """The slot time that may still be spent on waiting.

    Attributes:
        left_s: Slot-seconds; negative when the last wait took more than there was.
        since: When the present wait began, on the caller's clock; inf when there is none.
    """

    __slots__ = ("_delay_s", "_free", "left_s", "since")

    def __init__(self) -> None:
        self._delay_s = 0.0
        self.left_s = MOST_SAVED_S
        self.since = inf
        self._free = 0

    def limit(self, expected_s: float) -> float:
        """Tell how long to wait at most; 0.0 where no message could arrive in that time.

        Args:
            expected_s: Service time of the ticket that would wait.
        """
        limit = min(self.longest_s, GATHER_PART * expected_s, self.left_s)
        return limit if limit >= LEAST_GATHER_S else 0.0

    @property
    def longest_s(self) -> float:
        """How long anything waits at most, for the messages as they come now."""
        return min(max(GATHER_S, MARGIN * self._delay_s), MOST_GATHER_S)

    def learn(self, delay_s: float) -> None:
        """Learn from a message that waited at the broker when it was asked for.

        Args:
            delay_s: From asking to arrival, seconds; where it is longer than any wait, the message
                was with somebody else meanwhile and says nothing.
        """
        if 0.0 <= delay_s <= MOST_GATHER_S:
            self._delay_s = max(delay_s, self._delay_s * MEMORY)

    def wait(self, free: int, now: float) -> None:
        """Take note that free slots wait from now on; again while they do."""
        if self.since == inf:
            self.since = now
            self._free = free

    def end(self, now: float) -> None:
        """Pay for the wait that is over."""
        # No wait is longer, though nothing may have been left to start afterwards.
        self.left_s -= min(max(0.0, now - self.since), self.longest_s) * self._free
        self.since = inf

    def earn(self, served_s: float) -> None:
        """Gain from the time that a task ran."""
        self.left_s = min(self.left_s + served_s * PAID_PART, MOST_SAVED_S)
