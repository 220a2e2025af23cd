"""Overload: whether too much waits in a band's queues, and when it may be less, for its senders.

A sender sees depths a second late, and knows at once what it sends itself. Pure; asked by
`producer/backpressure.py` for each task of a band with `max_queued`. Rules:
docs/explanation/back-pressure.md.
"""

from __future__ import annotations

#: Shortest and longest time for which a sender is told to wait, seconds: one look at the queues,
#: and what a person waits for a page to be tried again.
LEAST_S, MOST_S = 1.0, 60.0

#: Share of the newest look in how fast the queues are expected to empty.
_NEWEST = 0.3


class Overload:
    """What one sender knows of a band's queues.

    Args:
        most: Messages that may wait in them.

    Attributes:
        most: As given.
        queued: Messages that are believed to wait.
    """

    __slots__ = ("_per_s", "_seen_at", "most", "queued")

    def __init__(self, most: int) -> None:
        self.most = most
        self.queued = 0
        self._seen_at: float | None = None
        self._per_s: float | None = None

    def look(self, queued: int, now: float) -> None:
        """Follow what the broker told.

        Args:
            queued: Messages that wait.
            now: Seconds, monotonic.
        """
        if self._seen_at is not None and now > self._seen_at:
            # Without what this sender has sent meanwhile: what workers took, less what others sent.
            per_s = (self.queued - queued) / (now - self._seen_at)
            known = per_s if self._per_s is None else self._per_s
            self._per_s = known + _NEWEST * (per_s - known)
        self._seen_at = now
        self.queued = queued

    def sent(self) -> None:
        """Take note that one more was sent."""
        self.queued += 1

    @property
    def retry_after_s(self) -> float:
        """Tell in how many seconds there may be room; 0.0: there is."""
        excess = self.queued + 1 - self.most
        if excess <= 0:
            return 0.0
        if self._per_s is None or self._per_s <= 0.0:
            return MOST_S
        return min(max(LEAST_S, excess / self._per_s), MOST_S)
