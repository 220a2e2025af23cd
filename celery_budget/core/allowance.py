"""An allowance: what the ledger has granted this worker of one account, and what it may use of it.

Groups of tickets draw on allowances (`admission.py`); `accounts.py` keeps the books.
"""

from __future__ import annotations

from heapq import heappop
from math import inf
from typing import TYPE_CHECKING

from celery_budget.core.account import AHEAD, Account, AccountRule
from celery_budget.core.standing import NONE, Standing
from celery_budget.policy.budget import Action, BudgetRule
from celery_budget.policy.envelope import DEADLINE

if TYPE_CHECKING:
    from celery_budget.core.admission import Group
    from celery_budget.core.exchange import Granted

#: What other workers want goes back to the ledger, which knows who waits longest, only after so
#: many seconds: handing it over takes some 50 ms, in which nobody runs.
KEPT_S = 1.0

# Looking a member up in its enum costs 0.2 us on Python 3.11.
_HOLD, _DEGRADE = Action.HOLD, Action.DEGRADE


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
        waiting: Groups that wait for it, or keep others from it while they wait for something else,
            as a heap: rank, since when, number, group, units.
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
        standing: How tickets here stood to it, as last told.
        owed: Units to be taken back from running tickets, of whom nobody was asked yet.
        owed_to: Rank of the tickets, here or elsewhere, for which some were called back last;
            `AHEAD`, beyond all ranks, when nobody waits for that.
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
        "owed",
        "owed_to",
        "pace",
        "rank",
        "reserved",
        "reserves",
        "resource",
        "returns_at",
        "rule",
        "spent",
        "standing",
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
        self.standing: Standing = NONE
        self.owed = 0
        self.owed_to = AHEAD

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
            self.standing = NONE
            self.owed = 0
        self.action = None
        self.degrades = self.is_used_up = False
        self.returns_at = inf
        self.owed_to = AHEAD

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

    def share(self, granted: Granted, standing: Standing, now: float) -> None:
        """Take note of what others want of it, and of what is called back from running tickets.

        Args:
            granted: The ledger's answer.
            standing: As it was told.
            now: Unix seconds.
        """
        self.is_contended = granted.is_contended
        if not (granted.is_contended and self.is_capacity):
            self.returns_at = inf
        elif granted.owed:
            self.returns_at = min(self.returns_at, now)  # it is for whoever called it back
        elif self.returns_at == inf:
            self.returns_at = now + KEPT_S
        if granted.owed:
            self.owed, self.owed_to = granted.owed, granted.owed_to
        elif not standing.leaving:
            self.owed_to = AHEAD

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
        """Show the group that gets some of it next, or has some that is kept for it."""
        waiting = self.waiting
        # A group that waits again, for another amount, has another number.
        while waiting and not (
            waiting[0][2] == waiting[0][3].number and waiting[0][3].stands_in(self)
        ):
            heappop(waiting)
        return waiting[0] if waiting else None
