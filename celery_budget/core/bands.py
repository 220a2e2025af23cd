"""One band inside a worker: its counts, its weighted share and the share it is owed.

Between bands that do not preempt, start-time fair queueing with weights, as between tenants.
The minimum share is a credit beside it: docs/explanation/scheduling.md derives its rate.
"""

from __future__ import annotations

from math import inf

from celery_budget.core.fairness import FairQueue
from celery_budget.core.service import UNKNOWN_S, Peak
from celery_budget.policy.model import Band

#: Span over which a minimum share holds, seconds. A band that may wait longer than this for its
#: share is starved in the eyes of whoever waits for its tasks.
SHARE_SPAN_S = 30.0

#: Least part of the span that lengths and blocking leave for accruing: tasks longer than about
#: a quarter of the span get their share on average, not within each span.
LEAST_SPAN = 0.5


class BandState:
    """What the dispatcher knows of one band.

    Attributes:
        rule: As declared.
        reserve: Slots kept for it on this worker; less than declared where they are too few.
        running: Tickets that have a slot.
        finish: Finish tag in the virtual time between bands, slot-seconds by weight.
        floor: Virtual time when the band's backlog began.
        credit: Slot-seconds it is owed by its minimum share; it goes first at 0 and above.
        opened: When it became possible to start its tickets, on the caller's clock.
        is_asked: Whether messages of it come when asked for.
    """

    __slots__ = (
        "_accrued",
        "_rate",
        "credit",
        "expected",
        "finish",
        "floor",
        "is_asked",
        "longest",
        "opened",
        "queue",
        "reserve",
        "rule",
        "running",
    )

    def __init__(self, rule: Band) -> None:
        self.rule = rule
        self.reserve = rule.reserve
        self.queue = FairQueue()
        self.running = 0
        self.finish = 0.0
        self.floor = 0.0
        self.credit = 0.0
        self.opened = -inf
        self.is_asked = False
        self.expected = UNKNOWN_S
        self.longest = Peak(SHARE_SPAN_S)
        self._accrued = 0.0
        self._rate = 0.0

    @property
    def unfilled(self) -> int:
        """Reserved slots that the band does not use now."""
        return max(0, self.reserve - self.running)

    def start_tag(self) -> float:
        """Tell its place in the virtual time between bands."""
        return max(self.finish, self.floor)

    def is_owed(self, now: float) -> bool:
        """Tell whether its minimum share is due."""
        if not self.rule.min_share:
            return False
        if now > self._accrued:
            # Capped at half a task: an idle band is owed no more than its next turn.
            earned = self.credit + self._rate * (now - self._accrued)
            self.credit = min(earned, self._length() / 2)
            self._accrued = now
        return self.credit >= 0.0

    def _length(self) -> float:
        return max(self.longest.value, self.expected)

    def reckon(self, slots: int, blocking_s: float, now: float) -> None:
        """Set the rate at which the band is owed its minimum share.

        A task of length L starts whenever the credit is not negative and costs L. Over any span
        W the band then runs at least `rate * (W - L - J) - L` slot-seconds, where J is the
        longest time until a slot becomes free. The rate that makes this the promised share of
        all slots is the one set here (a latency-rate server: Stiliadis and Varma, 1998).

        Args:
            slots: Of the worker.
            blocking_s: J: the longest recent service time of any band.
            now: On the caller's clock.
        """
        self.is_owed(now)
        length = self._length()
        span = SHARE_SPAN_S
        usable = max(span - length - blocking_s, span * LEAST_SPAN)
        promised = self.rule.min_share * slots * span
        self._rate = min((promised + length) / usable, float(slots))

    def charge(self, cost: float) -> None:
        """Pay for a start, as far as it can be known before the end."""
        self.finish = self.start_tag() + cost / self.rule.weight
        self.pay(cost)

    def settle(self, excess: float) -> None:
        """Correct the charge at the end: actual less expected service time."""
        self.finish += excess / self.rule.weight
        self.pay(excess)

    def pay(self, amount: float) -> None:
        """Take from the credit; what a band got beyond its share never starves it later."""
        self.credit = max(self.credit - amount, -self._length())
