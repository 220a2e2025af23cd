"""What the ledger knows of each account: how much is left, who holds it, and who waits.

Reads the ledger alone; no worker is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_budget.ledger import stores
from celery_budget.policy.budget import Scope
from celery_budget.units import format_amount, format_seconds

if TYPE_CHECKING:
    from celery import Celery

    from celery_budget.core.account import Account

#: The lease does not matter to one who only looks.
_NO_LEASE = 0

_MICROS = 1_000_000


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """One account; amounts are units of its resource.

    Attributes:
        name: For example "tenant:acme usd".
        resource: The last word of the name.
        limit: Units a window, or held at once.
        window: How it fills: "each 1s, steadily", "each 1d", "each calendar window"; "at once"
            for a capacity, "for one workflow" for an envelope.
        used: Spent in this window as far as workers told, or held by running tasks.
        leased: In the hands of workers.
        free: Left for whoever asks.
        debt: Spent beyond the limit, to be paid before anything else is granted.
        spent: Spent since the account was opened.
        holders: Units in the hands of each worker.
        waiting: Units that each worker asked for and did not get.
    """

    name: str
    resource: str
    limit: int
    window: str
    used: int
    leased: int
    free: int
    debt: int
    spent: int
    holders: Mapping[str, int]
    waiting: Mapping[str, int]

    def text(self, units: int) -> str:
        """Write an amount of this account as people do."""
        return format_amount(self.resource, units)


def accounts(app: Celery, most: int) -> list[AccountStatus]:
    """List the accounts that were used last, by name.

    Args:
        app: Whose ledger it is.
        most: No more than so many.

    Raises:
        LedgerUnavailable: the ledger cannot be reached.
    """
    found = stores(app, _NO_LEASE).ledger.accounts(most=most)
    return [describe(name, account) for name, account in sorted(found.items())]


def describe(name: str, account: Account) -> AccountStatus:
    """Tell of one account what people ask.

    Args:
        name: Its name.
        account: As it is now.
    """
    rule = account.rule
    holders: dict[str, int] = {}
    waiting: dict[str, int] = {}
    for worker, holder in account.holders.items():
        # host:pid:start; nodes are named by their host.
        node = worker.rsplit(":", 2)[0]
        if holder.out and holder.until:
            holders[node] = holders.get(node, 0) + holder.out
        wanted = sum(want.units for want in holder.wants)
        if wanted:
            waiting[node] = waiting.get(node, 0) + wanted
    leased = sum(holders.values())
    return AccountStatus(
        name=name,
        resource=name.rpartition(" ")[2],
        limit=rule.limit,
        window=_window(name, account),
        used=leased if rule.is_capacity else max(0, rule.fresh - account.balance - leased),
        leased=leased,
        free=max(0, account.balance),
        debt=max(0, -account.balance),
        spent=account.spent,
        holders=holders,
        waiting=waiting,
    )


def _window(name: str, account: Account) -> str:
    rule = account.rule
    if rule.is_capacity:
        return "at once"
    if not rule.window:
        is_envelope = name.startswith(f"{Scope.ENVELOPE}:")
        return "for one workflow" if is_envelope else "each calendar window"
    length = format_seconds(rule.window / _MICROS)
    return f"each {length}" if rule.turns else f"each {length}, steadily"
