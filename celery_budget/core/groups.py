"""Which accounts a ticket draws on, and which pause holds it: by scope and name.

Used by `accounts.py` alone, which owns the allowances.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from math import inf

from celery_budget.core.admission import Group
from celery_budget.core.allowance import Allowance
from celery_budget.core.ticket import Ticket
from celery_budget.policy.budget import BudgetRule, Scope
from celery_budget.policy.envelope import EnvelopeRule, budgets_of
from celery_budget.policy.live import Pause
from celery_budget.policy.model import Policy

#: A group without a ticket is forgotten after so many seconds, and made again when it is needed.
FORGOTTEN_S = 10.0

#: Groups looked at in one sweep, which bounds its time.
MOST_SWEPT = 512

#: Name of the worker in each scope that its own place decides.
Place = Mapping[Scope, str]

Find = Callable[[str, BudgetRule], Allowance]


class Groups:
    """The groups of one worker, found by what tells them apart.

    Args:
        policy: Says which budgets there are.
        place: Names of region, node and worker.
        find: Gives the allowance of an account's name.
        pauses: Whose tickets do not start.
    """

    def __init__(
        self, policy: Policy, place: Place, find: Find, pauses: Sequence[Pause] = ()
    ) -> None:
        self._policy = policy
        self._place = place
        self._rule = policy.envelopes or EnvelopeRule()
        self._find = find
        self._pauses = tuple(pauses)
        self._bands = {band.name: band for band in policy.bands}
        self._headers = tuple(sorted({rule.header for rule in policy.budgets if rule.header}))
        scopes = {rule.scope for rule in policy.budgets}
        self._scopes = scopes
        told_apart = scopes | {pause.scope for pause in pauses}
        self._by_task = Scope.TASK in told_apart
        self._by_tenant = Scope.TENANT in told_apart
        self._by_queue = Scope.QUEUE in told_apart
        self._known: OrderedDict[tuple[object, ...], Group | None] = OrderedDict()

    @property
    def headers(self) -> tuple[str, ...]:
        """Names of the message headers whose values have budgets."""
        return self._headers

    def __len__(self) -> int:
        return len(self._known)

    def of(self, ticket: Ticket, now: float) -> Group | None:
        """Find what a ticket draws on; None when no budget is its, and it is not paused.

        Args:
            ticket: Its band, task, tenant, queue, header values, envelopes and what it is
                excused from count.
            now: Unix seconds.
        """
        key = (
            ticket.band,
            ticket.task if self._by_task else "",
            ticket.tenant if self._by_tenant else "",
            ticket.queue if self._by_queue else "",
            ticket.values,
            ticket.excused,
            ticket.envelopes,
        )
        known = self._known
        if key in known:
            known.move_to_end(key)
            group = known[key]
        else:
            group = known[key] = self._make(ticket)
        if group is not None:
            group.touched = now
        return group

    def _make(self, ticket: Ticket) -> Group | None:
        named = [
            (Scope.FLEET, "", ""),
            *((scope, "", name) for scope, name in self._place.items()),
            (Scope.BAND, "", ticket.band),
            (Scope.QUEUE, "", ticket.queue),
            (Scope.TASK, "", ticket.task),
            (Scope.TENANT, "", ticket.tenant),
            *(
                (Scope.HEADER, header, value)
                for header, value in zip(self._headers, ticket.values, strict=False)
            ),
        ]
        allowances: list[Allowance] = []
        for scope, header, name in named:
            # What is in no queue or nobody's work is in no queue's or tenant's budget.
            if scope in self._scopes and (name or scope is Scope.FLEET):
                allowances.extend(
                    self._find(account_name(scope, header, name, budget), budget)
                    for budget in self._policy.budgets_for(scope, name, header)
                )
        for envelope in ticket.envelopes:
            allowances.extend(
                self._find(name, budget) for name, budget in budgets_of(envelope, self._rule)
            )
        pause = self._pause(ticket)
        if not allowances and pause is None:
            return None
        allowances.sort(key=lambda allowance: allowance.name)
        for allowance in allowances:
            allowance.groups += 1
        band = self._bands[ticket.band]
        return Group(
            band.rank,
            tuple(allowances),
            band.on_ledger_loss,
            ticket.excused,
            pause,
            preempts=band.preempts,
        )

    def _pause(self, ticket: Ticket) -> Pause | None:
        """Find the pause that keeps a ticket from starting: the one that lasts longest."""
        names = {
            Scope.FLEET: "",
            Scope.BAND: ticket.band,
            Scope.QUEUE: ticket.queue,
            Scope.TASK: ticket.task,
            Scope.TENANT: ticket.tenant,
        }
        found = [pause for pause in self._pauses if pause.is_match(names[pause.scope])]
        return max(found, key=lambda each: inf if each.until is None else each.until, default=None)

    def sweep(self, now: float) -> list[Allowance]:
        """Forget groups that have had no ticket for a while; give allowances without a group."""
        known = self._known
        alone = []
        for _ in range(min(MOST_SWEPT, len(known))):
            key, group = known.popitem(last=False)
            if group is None or (not group.tenants and group.touched < now - FORGOTTEN_S):
                for allowance in () if group is None else group.allowances:
                    allowance.groups -= 1
                    if not allowance.groups:
                        alone.append(allowance)
                continue
            known[key] = group
            if group.touched >= now - FORGOTTEN_S:
                break  # those behind it were looked for later
        return alone


def account_name(scope: Scope, header: str, name: str, budget: BudgetRule) -> str:
    """Write the name of an account, e.g. "fleet usd" or "header:x-team:blue starts"."""
    parts = [scope.value, *([header] if header else []), *([name] if name else [])]
    return f"{':'.join(parts)} {budget.resource}"
