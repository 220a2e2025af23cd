"""Admission: whether a ticket may start, by the allowances that this worker holds.

An allowance is what the ledger has granted this worker of one account. Tickets of one band that
draw on the same allowances form a group: they start, or wait, together. Nothing here talks to a
ledger; `accounts.py` keeps the books and the worker carries them.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from celery_budget.core.accounting import Account, AccountRule
from celery_budget.policy.budget import Action, BudgetRule
from celery_budget.policy.envelope import DEADLINE

if TYPE_CHECKING:
    from celery_budget.core.exchange import Granted
    from celery_budget.core.fairness import Tenant
    from celery_budget.policy.live import Pause
    from celery_budget.policy.model import OnLoss

# Looking a member up in its enum costs 0.2 us on Python 3.11.
_HOLD, _DEGRADE, _DEMOTE, _SHED = Action.HOLD, Action.DEGRADE, Action.DEMOTE, Action.SHED

#: What other workers want goes back to the ledger, which knows who waits longest, only after so
#: many seconds: handing it over takes some 50 ms, in which nobody runs.
KEPT_S = 1.0

#: Which of two things to do when two budgets ask for different ones.
_GRAVITY = {_HOLD: 1, _DEMOTE: 2, _SHED: 3}


class Allowance:
    """What this worker may use of one account.

    Attributes:
        name: Of the account, e.g. `"tenant:acme usd"`.
        budget: What the policy says of it.
        rule: The same as the ledger keeps it; of a calendar window, the one that holds.
        full: Most units that nobody holds, by the rule.
        free: Units at hand that no ticket has; below zero after an overrun.
        reserved: Units set aside for tickets that run.
        spent: Units spent that no report has told.
        used: Units that starts have taken since the last report.
        step: Units that the last start took, if it took any: less than that is of no use.
        pace: Units a second that starts take, as far as that is known.
        looked: When that was reckoned last, Unix seconds.
        degrades: Whether its level asks tasks to do less.
        action: What its level asks for before it is used up; None: nothing.
        is_used_up: Whether all there is was spent or is held by workers. What this one holds it
            may use all the same.
        is_exhausted: Whether the ledger had too little for what was needed.
        free_at: When it may have enough, microseconds of the ledger's clock; 0: not known.
        is_contended: Whether other workers want some of it too, as last heard.
        returns_at: From when on units of a capacity that come free go to the ledger, Unix seconds;
            inf while no other worker wants some.
        waiting: Groups that wait for it, as a heap: rank, since when, number, group, units.
        told: When a report last spoke of it, Unix seconds.
        asked_us: When it was last asked for, microseconds of the ledger's clock.
        held_told: Units that the ledger believes to be held here.
        rank: Of the band that last drew on it.
        reserves: Ranks, and the units kept for each.
        groups: How many groups draw on it.
        local: This worker's share of the account while the ledger is away; None otherwise.
        ends: Of an envelope's: from when on nothing of it is left, Unix seconds; inf otherwise.
        is_time: Whether it stands for the time of an envelope, of which the ledger never hears.
        may_return: Of an envelope's: whether what was too little may become enough, because it is
            kept for others or not yet spent by those who have it.
    """

    __slots__ = (
        "action",
        "asked_us",
        "budget",
        "degrades",
        "ends",
        "free",
        "free_at",
        "full",
        "groups",
        "held_told",
        "is_capacity",
        "is_contended",
        "is_exhausted",
        "is_time",
        "is_used_up",
        "local",
        "looked",
        "may_return",
        "name",
        "pace",
        "rank",
        "reserved",
        "reserves",
        "resource",
        "returns_at",
        "rule",
        "spent",
        "step",
        "told",
        "used",
        "waiting",
    )

    def __init__(
        self,
        name: str,
        budget: BudgetRule,
        rule: AccountRule,
        reserves: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.name = name
        self.budget = budget
        self.resource = budget.resource
        self.rule = rule
        self.full = rule.full
        self.is_capacity = rule.is_capacity
        self.free = 0
        self.reserved = 0
        self.spent = 0
        self.used = 0
        self.step = 1
        self.pace = 0.0
        self.looked = 0.0
        self.action: Action | None = None
        self.degrades = self.is_used_up = False
        self.is_exhausted = False
        self.is_contended = False
        self.returns_at = inf
        self.free_at = 0
        self.held_told = 0
        self.rank = 0
        self.reserves = reserves
        self.groups = 0
        self.local: Account | None = None
        self.waiting: list[tuple[int, float, int, Group, int]] = []
        self.told = 0.0
        self.asked_us = 0
        self.ends = inf if budget.window is None else budget.window.ends
        self.is_time = self.resource == DEADLINE and self.ends < inf
        self.may_return = False

    def amend(
        self, budget: BudgetRule, rule: AccountRule, reserves: tuple[tuple[int, int], ...]
    ) -> None:
        """Go on by another budget of the same account."""
        self.budget = budget
        self.rule = rule
        self.full = rule.full
        self.reserves = reserves
        if rule.is_capacity != self.is_capacity:
            # What was granted was a part of something else.
            self.is_capacity = rule.is_capacity
            self.free = 0
        self.action = None
        self.degrades = self.is_used_up = False
        self.returns_at = inf

    @property
    def held(self) -> int:
        """Units this worker has of it, as it tells the ledger."""
        return max(0, self.free) + self.reserved

    def lacks(self, granted: Granted, least: int) -> None:
        """Take note of whether what was needed has come.

        Args:
            granted: The ledger's answer.
            least: Units that were needed at least.
        """
        self.is_exhausted = granted.units < least
        self.free_at = granted.free_at if self.is_exhausted else 0
        # An envelope never fills again: only what others have not spent can still come.
        self.may_return = self.ends < inf and (
            granted.others > 0 or self.reserved > 0 or granted.balance >= least
        )

    def heard(self, granted: Granted) -> None:
        """Take note of what the account has left, and of what that asks for."""
        left = granted.balance
        if self.ends < inf:
            left += granted.others + self.held
        used = 1 - left / self.rule.fresh
        self.is_used_up = used >= 1
        self.action = None
        self.degrades = False
        for share, action in self.budget.actions:
            if share <= used and share < 1:
                self.action = action
                self.degrades |= action is _DEGRADE

    @property
    def asks_for(self) -> Action:
        """What to do with tickets for which it has too little."""
        if self.is_used_up or (self.is_exhausted and not self.may_return):
            return self.budget.actions[-1][1]
        return self.action or _HOLD

    def end(self) -> None:
        """Leave nothing, as the time is over."""
        self.free = min(self.free, -1)
        self.is_exhausted = True
        self.may_return = False

    def first_waiting(self) -> tuple[int, float, int, Group, int] | None:
        """Show the group that gets some of it next."""
        waiting = self.waiting
        # A group that waits again, for another amount, has another number.
        while waiting and not (
            waiting[0][3].waits_for is self and waiting[0][2] == waiting[0][3].number
        ):
            heappop(waiting)
        return waiting[0] if waiting else None


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
        is_tight: Whether its tickets wait for memory of their worker's node, whatever they draw on.
        is_blocked: Whether its tickets wait for a budget, or for memory; the queue's matter.
        tenants: Who has tickets in it; the queue's matter.
        live: How many of its tickets wait for a budget.
        waits_for: The allowance that it waits for; None while it does not.
        since: Since when it waits, or goes on after that, Unix seconds.
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
        "live",
        "needs",
        "number",
        "on_loss",
        "pause",
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
        is_tight: bool = False,
    ) -> None:
        self.rank = rank
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
            if allowance.free < units or (allowance.waiting and self._is_behind(allowance)):
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

    def _is_behind(self, allowance: Allowance) -> bool:
        """Tell whether another group was there first."""
        first = allowance.first_waiting()
        return first is not None and first[0] < self.rank

    def wait(self, allowance: Allowance, units: int, number: int, now: float) -> None:
        """Take a place in the line for an allowance."""
        self.waits_for = allowance
        self.number = number
        self.since = now
        heappush(allowance.waiting, (self.rank, now, number, self, units))

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
            elif now < allowance.returns_at:
                allowance.free += units
            else:
                is_awaited = True
                if not allowance.reserved:
                    allowance.returns_at = now + KEPT_S
            if allowance.waiting:
                is_awaited = True
        return is_awaited
