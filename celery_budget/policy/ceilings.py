"""Reads what one execution may use, `[ceilings]`, and the weights of tenants, `[tenants]`.

Called by `policy/load.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from celery_budget.policy.budget import CeilingRule, Scope, TenantRule
from celery_budget.policy.costs import read_amount
from celery_budget.policy.document import TenantTable
from celery_budget.policy.pattern import is_pattern
from celery_budget.policy.problems import Problems, join
from celery_budget.policy.scope import read_target
from celery_budget.policy.spending import CeilingTable
from celery_budget.policy.table import Table, kind

#: Of an execution; a node or a header says nothing about one that budgets do not say better.
_SCOPES = (Scope.TASK, Scope.BAND, Scope.TENANT, Scope.QUEUE)

#: Time to end after being told to, unless the ceiling says otherwise: enough to close a
#: transaction or a file, and short beside what a runaway has used up by then.
GRACE_US = 5_000_000


def read_ceilings(raw: object, bands: Sequence[str], problems: Problems) -> list[CeilingRule]:
    """Read `[ceilings]`, noting what is wrong with it.

    Args:
        raw: What the file holds there; anything at all.
        bands: Of the policy, as written.
        problems: Gets every mistake.
    """
    if not isinstance(raw, Mapping):
        problems.add("ceilings", f"must be a table of ceilings, not {kind(raw)}")
        return []
    rules: list[CeilingRule] = []
    for key, content in raw.items():
        path = join("ceilings", key)
        target = read_target(key, path, _SCOPES, bands, problems)
        table = Table(CeilingTable, content, path, problems)
        if "grace" in table and not any(key in table for key in ("cpu", "memory", "runtime")):
            problems.add(path, "limits nothing", "write cpu, memory or runtime")
        grace = _units("runtime", "grace", table, problems)
        rules.append(
            CeilingRule(
                path=path,
                scope=target.scope,
                pattern=target.pattern,
                cpu=_limit("cpu", table, problems),
                memory=_limit("memory", table, problems),
                runtime=_limit("runtime", table, problems),
                grace_us=GRACE_US if grace is None else grace,
            )
        )
    return rules


def read_tenants(raw: object, problems: Problems) -> list[TenantRule]:
    """Read `[tenants]`, noting what is wrong with it.

    Args:
        raw: What the file holds there; anything at all.
        problems: Gets every mistake.
    """
    if not isinstance(raw, Mapping):
        problems.add("tenants", f"must be a table of rules, not {kind(raw)}")
        return []
    rules: list[TenantRule] = []
    for pattern, content in raw.items():
        path = join("tenants", pattern)
        table = Table(TenantTable, content, path, problems)
        if is_pattern(pattern, path, problems):
            rules.append(TenantRule(pattern, table.number("weight") or 1.0))
    return rules


def _limit(resource: str, table: Table, problems: Problems) -> int | None:
    units = _units(resource, resource, table, problems)
    if units == 0:
        problems.add(
            join(table.path, resource), "must be more than zero", "leave the key out for none"
        )
    return units


def _units(resource: str, key: str, table: Table, problems: Problems) -> int | None:
    if key not in table:
        return None
    return read_amount(resource, table.raw(key), join(table.path, key), problems)
