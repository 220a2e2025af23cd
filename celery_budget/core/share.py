"""The minimum share: how a band that is never chosen otherwise is still served.

A credit in slot-seconds that grows with time and is spent by running: a latency-rate server
(Stiliadis and Varma, 1998). docs/explanation/scheduling.md derives the rate. Used by the
dispatcher through the band's state.
"""

from __future__ import annotations

from celery_budget.core.service import UNKNOWN_S

#: Span over which a minimum share holds, seconds. A band that may wait longer than this for its
#: share is starved in the eyes of whoever waits for its tasks.
SHARE_SPAN_S = 30.0

#: Longest service time for which the share holds in every span, as part of the span. Longer
#: tasks get their share on average: to promise more would mean to serve them far above it.
LONGEST_PART = 0.25


class MinShare:
    """What one band is owed by its minimum share.

    Attributes:
        credit: Slot-seconds it is owed; its ticket goes first at 0 and above.
        rate: Slot-seconds it is owed in addition each second.
    """

    __slots__ = ("_accrued", "_floor", "_length", "_most", "_share", "credit", "rate")

    def __init__(self, share: float, slots: int) -> None:
        self._share = share
        self._accrued = 0.0
        self.credit = 0.0
        self.rate = 0.0
        self.reckon(slots, UNKNOWN_S, UNKNOWN_S)

    def reckon(self, slots: int, length_s: float, blocking_s: float) -> None:
        """Set the rate for the service times as they are now.

        Args:
            slots: Of the worker.
            length_s: L: the longest recent service time of the band.
            blocking_s: J: the longest recent service time of any band.
        """
        span = SHARE_SPAN_S
        length = min(length_s, span * LONGEST_PART)
        blocking = min(max(length_s, blocking_s), span * LONGEST_PART)
        promised = self._share * slots * span
        rate = (promised + length) / (span - blocking + length)
        if rate > 1.0:
            # More than one slot at a time is needed: each may be in the middle of a task at
            # either end of the span.
            rate = max(1.0, (promised + length) / (span - blocking - length))
        self.rate = min(rate, float(slots))
        self._length = length
        self._floor = -length * max(0.0, 1.0 - self.rate) if self.rate <= 1.0 else -length
        # What can be owed at once: no slot came free for J, while it already had all but one
        # of the slots it needs. An idle band comes back with that and no more.
        self._most = self.rate * blocking + int(self.rate) * length

    def is_due(self, now: float) -> bool:
        """Tell whether the band goes first now."""
        elapsed = now - self._accrued
        if elapsed != 0.0:
            self._accrued = now
            if elapsed > 0.0:  # the clock may be set back
                self.credit = min(self.credit + self.rate * elapsed, self._most)
        return self.credit >= 0.0

    def overdue_s(self) -> float:
        """Tell for how long it has been due."""
        return self.credit / self.rate

    def pay(self, *, is_due: bool) -> float:
        """Pay for a start in advance; give back the amount, to be settled at the end.

        The longest task is paid for, not the expected one: several that turn out long at once
        would otherwise take so much that the band waits for longer than a span.

        Args:
            is_due: Whether the band goes first by its minimum share. What it got by other
                rights is paid as far as that leaves the next span's share alone.
        """
        paid = self._length if is_due else max(0.0, min(self._length, self.credit - self._floor))
        self.credit -= paid
        return paid

    def settle(self, paid: float, served_s: float) -> None:
        """Replace what was paid in advance by what was served."""
        credit = self.credit + paid - served_s
        if served_s > paid:
            credit = max(credit, min(self.credit, self._floor))
        self.credit = credit
