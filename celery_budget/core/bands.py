"""One band inside a worker: what it holds and runs, and its place among the bands.

Between bands that do not preempt, start-time fair queueing with weights; the minimum share is a
credit beside it (`share.py`). The dispatcher reads and writes these fields; nobody else does.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from celery_budget.core.allowance import Allowance
from celery_budget.core.degrading import Degrading
from celery_budget.core.fairness import SMALL_BATCH, FairQueue
from celery_budget.core.lookahead import SHARED_ROUNDING, most_ahead, parts
from celery_budget.core.service import NEWEST, SHORTEST_S, UNKNOWN_S, Peak
from celery_budget.core.share import SHARE_SPAN_S, MinShare
from celery_budget.core.shortage import Queued
from celery_budget.core.waits import Waits
from celery_budget.policy.model import Band


class BandState:
    """What the dispatcher knows of one band.

    Attributes:
        rule: As declared.
        name: Of the band.
        queue: What waits.
        running: Tickets that have a slot.
        reserve: Slots kept for it on this worker; less than declared where they are too few.
        unfilled: Reserved slots that it does not use now.
        foreseen: Slots of this worker that it is going to need, as the forecast says.
        tag: Virtual time of its next start between bands, slot-seconds by weight.
        unserved: Part of `tag` that was charged for tickets that still run.
        share: What it is owed by its minimum share; None when it has none.
        expected: Average service time of its tickets, seconds; a guess until one has ended.
        is_known: Whether one has.
        longest: Longest recent service time of its tickets.
        opened: When its messages were asked for again the last time, on the caller's clock.
        is_asked: Whether messages of it come when asked for.
        parts: How much of one of its messages a slot uses up within the look-ahead's horizon.
        rounding: Added to the parts of a message before they are cut to whole ones.
        most_ahead: Most messages of it to have at hand.
        is_paused: Whether none of its tickets may start, so that no message is asked for.
        resumed: Until when it was paused the last time, on the caller's clock.
        yielding: Tickets in slots that could give way at once to more urgent ones.
        leaving: Tickets in slots that could leave them, or were asked to.
        waits: How long its tickets waited in this period; None without a target.
        lacks: How long they waited for budgets in this period, by the account.
        looks: What the last looks found of it in the broker, the latest last.
        is_throttled: Whether it may start nothing now, unless its minimum share is due.
        degrading: Whether its tickets are asked to do less; None until it has some that can.
        is_closed: Whether it may start nothing now, as the node is under pressure.
        squeezed: Since when it may start nothing, unless its minimum share is due, as more urgent
            tasks need the processors, Unix seconds; inf while it may.
    """

    __slots__ = (
        "degrading",
        "expected",
        "foreseen",
        "is_asked",
        "is_closed",
        "is_known",
        "is_paused",
        "is_throttled",
        "lacks",
        "leaving",
        "longest",
        "looks",
        "most_ahead",
        "name",
        "opened",
        "parts",
        "queue",
        "reserve",
        "resumed",
        "rounding",
        "rule",
        "running",
        "share",
        "squeezed",
        "tag",
        "unfilled",
        "unserved",
        "waits",
        "yielding",
    )

    def __init__(
        self, rule: Band, slots: int, weight: Callable[[str], float] | None = None
    ) -> None:
        self.rule = rule
        self.name = rule.name
        self.queue = FairQueue(weight)
        self.running = 0
        self.reserve = rule.reserve
        self.unfilled = rule.reserve
        self.foreseen = 0
        self.tag = 0.0
        self.unserved = 0.0
        self.share = MinShare(rule.min_share, slots) if rule.min_share else None
        self.expected = UNKNOWN_S
        self.longest = Peak(SHARE_SPAN_S)
        self.opened = -inf
        self.is_asked = False
        self.parts = 0
        self.rounding = 0 if rule.preempts else SHARED_ROUNDING
        self.most_ahead = most_ahead(self.parts, slots)
        self.is_paused = False
        self.resumed = -inf
        self.yielding = 0
        self.leaving = 0
        self.waits = Waits(rule.latency_target) if rule.latency_target else None
        self.lacks: dict[Allowance, Waits] = {}
        self.looks: tuple[Queued, ...] = ()
        self.is_throttled = False
        self.is_closed = False
        self.squeezed = inf
        self.degrading: Degrading | None = None
        self.is_known = False

    def amend(self, rule: Band, slots: int, weight: Callable[[str], float] | None) -> None:
        """Go on by another rule for the same band."""
        if rule.min_share != self.rule.min_share:
            # What it was owed by the old share is forgotten: at most a span's worth.
            self.share = MinShare(rule.min_share, slots) if rule.min_share else None
        if rule.latency_target != self.rule.latency_target:
            self.lacks.clear()
            self.waits = Waits(rule.latency_target) if rule.latency_target else None
        self.rule = rule
        self.rounding = 0 if rule.preempts else SHARED_ROUNDING
        self.queue.weigh(weight)

    @property
    def is_lesser(self) -> bool:
        """Whether its work is left to other nodes where this one is under pressure."""
        return not self.rule.preempts and self.rule.rank > 0

    def is_owed(self, now: float) -> bool:
        """Tell whether it is owed its minimum share, so that none of its tickets gives way."""
        return self.share is not None and self.share.is_due(now)

    def learn(self, service_s: float, slots: int) -> None:
        """Follow the service time of a ticket that ended.

        Args:
            service_s: Seconds.
            slots: Of the worker.
        """
        if self.is_known:
            service_s = self.expected + NEWEST * (service_s - self.expected)
        else:
            self.is_known = True
        if service_s < SHORTEST_S:  # noqa: PLR1730 - hot path
            service_s = SHORTEST_S
        self.expected = service_s
        self.queue.allowance = SMALL_BATCH * service_s
        self.parts = used = parts(service_s)
        self.most_ahead = most_ahead(used, slots)
