"""Admission: whether a ticket may start, by the allowances that this worker holds.

Tickets of one band that draw on the same allowances (`allowance.py`) form a group: they start, or
wait, together. Nothing here talks to a ledger; `accounts.py` keeps the books and the worker carries
them.
"""

from __future__ import annotations

from heapq import heappush
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from celery_budget.core.allowance import KEPT_S, Allowance
from celery_budget.policy.budget import Action

if TYPE_CHECKING:
    from celery_budget.core.fairness import Tenant
    from celery_budget.policy.live import Pause
    from celery_budget.policy.model import OnLoss

# Looking a member up in its enum costs 0.2 us on Python 3.11.
_HOLD, _DEGRADE, _DEMOTE, _SHED = Action.HOLD, Action.DEGRADE, Action.DEMOTE, Action.SHED

#: Which of two things to do when two budgets ask for different ones.
_GRAVITY = {_HOLD: 1, _DEMOTE: 2, _SHED: 3}


class Verdict(NamedTuple):
    """What admission says of a ticket.

    Attributes:
        action: What to do instead of starting it; None: start it.
        allowance: Why; None if it may start.
        is_degraded: Whether it is to do less, if it starts.
    """

    action: Action | None
    allowance: Allowance | None
    is_degraded: bool


_ADMITTED = Verdict(None, None, is_degraded=False)
_DEGRADED = Verdict(None, None, is_degraded=True)


class Group:
    """Tickets of one band that draw on the same allowances, or are paused together.

    Attributes:
        rank: Of the band.
        pause: Keeps its tickets from starting; None: nothing does.
        allowances: By name, so that all workers ask for them in one order.
        resources: Of the allowances, in their order.
        excused: Those whose lack does not keep its tickets from starting: they were demoted
            for it.
        preempts: Whether the band does.
        is_tight: Whether its tickets wait for memory of their worker's node, whatever they draw on.
        is_blocked: Whether its tickets wait for a budget, or for memory; the queue's matter.
        tenants: Who has tickets in it; the queue's matter.
        live: How many of its tickets wait for a budget.
        waits_for: The allowance that it waits for; None while it does not.
        lacked: The one that it waited for last; None if it never did.
        since: Since when it waits, or goes on after that, Unix seconds.
        keeps: Whether it keeps what it has at hand from others, until it has waited for too long.
        needs: What the first of its tickets needs of each allowance, while it waits.
        number: Of its place in the line that it waits in.
        costs: By task, what to set aside, and the version of the profiles that says so.
        touched: When a ticket last asked for it, Unix seconds.
        ends: From when on one of its envelopes is over, Unix seconds; inf without any.
    """

    __slots__ = (
        "allowances",
        "costs",
        "ends",
        "excused",
        "is_blocked",
        "is_tight",
        "keeps",
        "lacked",
        "live",
        "needs",
        "number",
        "on_loss",
        "pause",
        "preempts",
        "rank",
        "resources",
        "since",
        "tenants",
        "touched",
        "waits_for",
    )

    def __init__(
        self,
        rank: int,
        allowances: tuple[Allowance, ...],
        on_loss: OnLoss,
        excused: frozenset[str] = frozenset(),
        pause: Pause | None = None,
        *,
        preempts: bool = False,
        is_tight: bool = False,
    ) -> None:
        self.rank = rank
        self.preempts = preempts
        self.is_tight = is_tight
        self.pause = pause
        self.allowances = allowances
        self.resources = tuple(allowance.resource for allowance in allowances)
        self.on_loss = on_loss
        self.excused = tuple(allowance.budget.path in excused for allowance in allowances)
        self.is_blocked = False
        self.tenants: dict[Tenant, None] = {}
        self.live = 0
        self.waits_for: Allowance | None = None
        self.lacked: Allowance | None = None
        self.keeps = False
        self.since = 0.0
        self.needs: tuple[int, ...] = ()
        self.number = 0
        self.costs: dict[str, tuple[int, tuple[int, ...]]] = {}
        self.touched = 0.0
        self.ends = min((allowance.ends for allowance in allowances), default=inf)

    def end(self, now: float) -> bool:
        """Take note that the time of an envelope is over.

        Args:
            now: Unix seconds, past `ends`.

        Returns:
            Whether its tickets are not to wait for that.
        """
        over = [
            allowance
            for allowance in self.allowances
            if allowance.is_time and allowance.ends <= now
        ]
        for allowance in over:
            allowance.end()
        return any(allowance.asks_for is not _HOLD for allowance in over)

    def judge(self, costs: tuple[int, ...]) -> Verdict:
        """Say whether a ticket may start.

        Args:
            costs: What to set aside of each allowance, in their order.
        """
        for allowance, units in zip(self.allowances, costs, strict=True):
            if (
                allowance.free < units
                or allowance.waiting
                or allowance.degrades
                or allowance.action is not None
            ):
                return self._weigh(costs)
        return _ADMITTED

    def _weigh(self, costs: tuple[int, ...]) -> Verdict:
        """Say what to do where not all is plain: something lacks, or a level asks for something."""
        action: Action | None = None
        why: Allowance | None = None
        is_degraded = False
        for allowance, units, is_excused in zip(self.allowances, costs, self.excused, strict=True):
            asked = allowance.action
            is_degraded |= allowance.degrades
            if allowance.free < units or (allowance.waiting and self._is_behind(allowance, units)):
                asked = allowance.asks_for
            if asked is None or is_excused:
                continue
            if asked is _DEGRADE:
                is_degraded = True
            elif action is None or _GRAVITY[asked] > _GRAVITY[action]:
                action, why = asked, allowance
        if action is None:
            return _DEGRADED if is_degraded else _ADMITTED
        return Verdict(action, why, is_degraded)

    @property
    def ready(self) -> int:
        """How many of its tickets wait for a slot only."""
        return sum(line.live for each in self.tenants for line in each.lines if line.group is self)

    def _is_for_here(self, allowance: Allowance) -> bool:
        """Tell whether units that come free were called back for tickets that wait here."""
        claims = allowance.standing.claims
        if not claims or claims[0][0] >= self.rank or claims[0][0] > allowance.owed_to:
            return False
        first = allowance.first_waiting()
        return first is not None and first[0] == claims[0][0]

    def _is_behind(self, allowance: Allowance, units: int) -> bool:
        """Tell whether another group was there first, and leaves too little."""
        first = allowance.first_waiting()
        if first is None or first[0] >= self.rank:
            return False
        return first[3].waits_for is allowance or allowance.free - first[4] < units

    def wait(self, lacking: Allowance, costs: tuple[int, ...], number: int, now: float) -> None:
        """Take a place in the line for an allowance.

        A group that preempts also stands in the lines before, for units of capacities that it has
        there: others may have left for these.

        Args:
            lacking: For which it waits.
            costs: What the first of its tickets needs of each allowance.
            number: Of its place.
            now: Unix seconds.
        """
        self.waits_for = self.lacked = lacking
        self.keeps = True
        self.needs = costs
        self.number = number
        self.since = now
        for allowance, units in zip(self.allowances, costs, strict=True):
            if allowance is lacking:
                heappush(allowance.waiting, (self.rank, now, number, self, units))
                break
            if (
                self.preempts
                and lacking.is_capacity
                and allowance.is_capacity
                and allowance.free >= units
            ):
                heappush(allowance.waiting, (self.rank, now, number, self, units))

    def stands_in(self, allowance: Allowance) -> bool:
        """Tell whether it has a place in the line for an allowance in which it once took one."""
        lacking = self.waits_for
        if lacking is None or lacking is allowance:
            return lacking is not None
        if not self.keeps:
            return False
        # What is used up may take long, but where it was claimed from lesser tickets, or will be
        # with the next report.
        return (
            not lacking.is_exhausted
            or lacking.told <= self.since
            or any(rank == self.rank for rank, _ in lacking.standing.claims)
        )

    def reserve(self, costs: tuple[int, ...]) -> None:
        """Set aside what a ticket that starts is expected to use."""
        for allowance, units in zip(self.allowances, costs, strict=True):
            allowance.free -= units
            allowance.reserved += units
            allowance.used += units
            allowance.step = units or allowance.step
            allowance.rank = self.rank

    def settle(self, costs: tuple[int, ...], spent: tuple[int, ...], now: float) -> bool:
        """Replace what was set aside for a ticket by what it used.

        Args:
            costs: As it was reserved.
            spent: Units actually used; for a capacity, whose units come back, without meaning.
            now: Unix seconds.

        Returns:
            Whether somebody waits for some of it, here or at another worker.
        """
        is_awaited = False
        for allowance, units, actual in zip(self.allowances, costs, spent, strict=True):
            allowance.reserved -= units
            if not allowance.is_capacity:
                allowance.free += units - actual
                allowance.spent += actual
            elif now < allowance.returns_at or self._is_for_here(allowance):
                allowance.free += units
            else:
                is_awaited = True
                if not allowance.reserved:
                    allowance.returns_at = now + KEPT_S
            if allowance.waiting:
                is_awaited = True
        return is_awaited
