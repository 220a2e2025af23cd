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

#: Longest service time, and longest time until a slot comes free, for which the share holds in
#: every span, as part of the span. With longer ones the share holds on average: to promise more
#: would mean to serve the band far above it.
LONGEST_PART = 0.25

#: What a lost race costs, seconds: before tasks shorter than this no full `GATHER_S` is waited, so
#: that one of them may start although a message of the band is on its way.
RACE_S = 0.25


class MinShare:
    """What one band is owed by its minimum share.

    Attributes:
        credit: Slot-seconds it is owed; its ticket goes first at 0 and above.
        rate: Slot-seconds it is owed in addition each second.
    """

    __slots__ = ("_accrued", "_length", "_most", "_share", "_spared", "credit", "rate")

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
            blocking_s: J: longest time until a slot comes free for it; at least `length_s`.
        """
        span = SHARE_SPAN_S
        length = min(length_s, span * LONGEST_PART)
        blocking = min(max(blocking_s, length_s) + RACE_S, span * LONGEST_PART)
        promised = self._share * slots * span
        rate = (promised + length) / (span - blocking + length)
        if rate > 1.0:
            # More than one slot at a time is needed: each may be in the middle of a task at
            # either end of the span.
            rate = max(1.0, (promised + length) / (span - blocking - length))
        self.rate = min(rate, float(slots))
        self._length = length_s
        self._spared = 1.0 - self.rate if self.rate < 1.0 else 1.0
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

    def pay(self) -> float:
        """Pay in advance for a start that is due; give back the amount, to be settled at the end.

        The longest task is paid for, not the expected one: several that turn out long at once
        would otherwise take so much that the band waits for longer than a span.
        """
        self.credit -= self._length
        return self._length

    def settle(self, paid: float, served_s: float) -> None:
        """Replace what was paid in advance by what was served.

        Args:
            paid: 0.0 for a ticket that started by other rights. Then it counts only as far as it
                leaves the next span's share alone: what a band got never starves it later.
            served_s: Actual service time, seconds.
        """
        credit = self.credit + paid - served_s
        if served_s > paid:
            length = max(self._length, served_s)
            if not paid:
                length = min(length, SHARE_SPAN_S * LONGEST_PART)
            credit = max(credit, min(self.credit, -length * self._spared))
        self.credit = credit
