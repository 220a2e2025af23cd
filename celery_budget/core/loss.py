"""What a worker keeps for the time when the ledger is away, or has lost everything.

Used by `accounts.py` alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container

from celery_budget.core.account import AccountRule, Known
from celery_budget.core.accounting import advance, opened
from celery_budget.core.allowance import Allowance
from celery_budget.core.exchange import Granted, Line

#: Accounts remembered, the last heard of first.
MOST_KNOWN = 10_000


class Recollection:
    """What this worker has last heard of each window budget."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[AccountRule, Known]] = OrderedDict()
        self._epoch = ""
        self._untold: list[str] = []

    def of(self, account: str) -> Known | None:
        """Tell what was last heard of an account."""
        known = self._known.get(account)
        return None if known is None else known[1]

    def keep(self, line: Line, granted: Granted, now: int) -> None:
        """Remember the answer to one line.

        Args:
            line: As it was told.
            granted: The answer.
            now: The ledger's clock then, microseconds.
        """
        if line.rule.is_capacity:
            return  # what everybody holds is all there is to know of it
        known = Known(granted.balance, now, line.held + granted.units)
        self._known[line.account] = (line.rule, known)
        self._known.move_to_end(line.account)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def meet(self, epoch: str) -> bool:
        """Take note of the ledger's epoch; tell whether it has lost what it knew."""
        is_lost = bool(self._epoch) and epoch != self._epoch
        self._epoch = epoch
        if is_lost:
            self._untold = list(self._known)
        return is_lost

    def lines(self, most: int, told: Container[str]) -> list[Line]:
        """Write lines for a ledger that has lost everything.

        Args:
            most: No more than so many.
            told: Accounts that are told of anyway.
        """
        lines: list[Line] = []
        while self._untold and len(lines) < most:
            name = self._untold.pop()
            if name not in told and name in self._known:
                rule, known = self._known[name]
                lines.append(Line(name, rule, known=known))
        return lines


def refill(allowance: Allowance, known: Known | None, workers: int, ledger_us: int) -> None:
    """Add what has come to this worker's own part of an account while the ledger is away.

    Args:
        allowance: Modified.
        known: What was last heard of the account.
        workers: How many shared the ledger then; each takes as much.
        ledger_us: What the ledger's clock would show, microseconds.
    """
    rule = allowance.rule
    part = rule._replace(
        limit=max(1, rule.limit // workers),
        burst=max(1, rule.burst // workers) if rule.burst else 0,
    )
    local = allowance.local
    if local is None:
        local = allowance.local = opened(part, ledger_us if known is None else known.at)
        local.balance = 0 if known is None else max(0, known.balance) // workers
    advance(local, part, ledger_us)
    allowance.free += max(0, local.balance)
    local.balance = min(0, local.balance)
