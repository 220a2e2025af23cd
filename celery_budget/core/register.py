"""The register: every allowance of one worker, and which have something to tell.

Used by `accounts.py` alone, which reckons with them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from celery_budget.core.account import AccountRule
from celery_budget.core.allowance import Allowance
from celery_budget.core.exchange import MOST_LINES
from celery_budget.policy.budget import BudgetRule
from celery_budget.policy.model import Policy

#: Of a report's lines, so many are for what is asked for the first time, though more than a report
#: holds was spent or comes back: the others are what makes that go on.
FIRST_LINES = MOST_LINES * 3 // 4


class Register:
    """Makes allowances when they are first needed, and drops them when nothing is left of them.

    Args:
        policy: Ranks its bands, for which budgets keep reserves.
        version: Of it: of two workers' policies the later one holds in the ledger.

    Attributes:
        allowances: By name of the account.
        active: Those of which the next report may have to tell, first those that it left out last.
    """

    def __init__(self, policy: Policy, version: int) -> None:
        self.allowances: dict[str, Allowance] = {}
        self.active: OrderedDict[str, Allowance] = OrderedDict()
        self._version = version
        self._ranks = {band.name: band.rank for band in policy.bands}

    def find(self, name: str, budget: BudgetRule) -> Allowance:
        """Give the allowance of an account, by the budget that its policy has for it now."""
        allowance = self.allowances.get(name)
        if allowance is not None and allowance.rule.version == self._version:
            return allowance
        rule = self._rule(budget)
        reserves = tuple(
            (self._ranks[band], int(share * rule.full)) for band, share in budget.reserve
        )
        if allowance is None:
            allowance = self.allowances[name] = Allowance(name, budget, rule, reserves)
        else:
            allowance.amend(budget, rule, reserves)
        return allowance

    def _rule(self, budget: BudgetRule) -> AccountRule:
        window, version = budget.window, self._version
        if window is None:
            return AccountRule(budget.limit, version=version)
        if window.kept_us:
            # The next window begins when nobody has a use for it any more.
            return AccountRule(
                budget.limit, turns=True, number=1, begins=window.kept_us, version=version
            )
        return AccountRule(
            budget.limit, window.length_us, budget.burst, window.turns, version=version
        )

    def amend(self, policy: Policy, version: int) -> None:
        """Go by another policy; every account is told to the ledger once more.

        Args:
            policy: Of the same bands.
            version: Of it.
        """
        self._version = version
        self._ranks = {band.name: band.rank for band in policy.bands}
        for allowance in self.allowances.values():
            allowance.groups = 0
            allowance.waiting.clear()
            # Looked at once more by the ledger, whatever was heard under the old rule.
            allowance.is_exhausted = False
            self.active[allowance.name] = allowance
        self.leave(self.allowances.values())

    def advance(self, needed: Iterable[Allowance]) -> None:
        """Let the next report begin with those that wait for a first answer.

        Args:
            needed: By somebody who waits; first who has waited for longest.
        """
        active = self.active
        first = [each.name for each in needed if each.name in active and not each.is_exhausted]
        for name in reversed(first[:FIRST_LINES]):
            active.move_to_end(name, last=False)

    def leave(self, allowances: Iterable[Allowance]) -> None:
        """Take note that no group draws on some any more, as far as is known."""
        for allowance in allowances:
            if allowance.name not in self.active:
                self.rest(allowance)

    def rest(self, allowance: Allowance) -> None:
        """Take note that there is nothing to tell of one; it is dropped when no group needs it."""
        if not (allowance.groups or allowance.held or allowance.spent or allowance.held_told):
            self.allowances.pop(allowance.name, None)
