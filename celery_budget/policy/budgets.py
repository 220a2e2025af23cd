"""Reads budgets, `[budgets]`: for whom, of what, how much, and what happens beyond.

Called by `policy/load.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum

from celery_budget.errors import AmountError
from celery_budget.policy.budget import BudgetRule, Scope
from celery_budget.policy.costs import is_resource
from celery_budget.policy.exhaustion import read_steps
from celery_budget.policy.limit import Limit, read_limit
from celery_budget.policy.problems import Problems, join
from celery_budget.policy.scope import Target, read_target
from celery_budget.policy.spending import MAX_BUDGETS, MAX_RESOURCES, BudgetTable
from celery_budget.policy.table import Table, kind
from celery_budget.units import share

_SCOPES = tuple(scope for scope in Scope if scope is not Scope.ENVELOPE)


def read_budgets(raw: object, bands: Sequence[str], problems: Problems) -> list[BudgetRule]:
    """Read `[budgets]`, noting what is wrong with it.

    Args:
        raw: What the file holds there; anything at all.
        bands: Of the policy, as written, most urgent first.
        problems: Gets every mistake.
    """
    if not isinstance(raw, Mapping):
        problems.add("budgets", f"must be a table of budgets, not {kind(raw)}")
        return []
    if len(raw) > MAX_BUDGETS:
        problems.add("budgets", f"holds {len(raw)} tables; at most {MAX_BUDGETS} are possible")
        return []
    rules: list[BudgetRule] = []
    for key, content in raw.items():
        path = join("budgets", key)
        target = read_target(key, path, _SCOPES, bands, problems)
        if not isinstance(content, Mapping):
            problems.add(
                path,
                f"must be a table of budgets by resource, not {kind(content)}",
                'write for example { starts = "50/1s" }',
            )
        elif len(content) > MAX_RESOURCES:
            problems.add(
                path, f"holds {len(content)} budgets; at most {MAX_RESOURCES} are possible"
            )
        else:
            rules += [
                _budget(target, resource, said, join(path, resource), bands, problems)
                for resource, said in content.items()
                if is_resource(resource, join(path, resource), problems)
            ]
    return rules


def _budget(
    target: Target,
    resource: str,
    said: object,
    path: str,
    bands: Sequence[str],
    problems: Problems,
) -> BudgetRule:
    is_short = isinstance(said, str | int | float) and not isinstance(said, bool)
    table = Table(BudgetTable, {"limit": said} if is_short else said, path, problems)
    limit = Limit(1, None, 0)
    if "limit" in table:
        place = path if is_short else join(path, "limit")
        limit = read_limit(resource, table, place, problems)
    elif isinstance(said, Mapping):
        problems.add(path, "needs a limit", 'write for example { limit = "5.00/1d" }')
    is_lowest = len(bands) < 2 or (target.scope is Scope.BAND and target.pattern == bands[-1])  # noqa: PLR2004
    return BudgetRule(
        path=path,
        scope=target.scope,
        header=target.header,
        pattern=target.pattern,
        resource=resource,
        limit=limit.units,
        window=limit.window,
        burst=limit.burst,
        actions=read_steps(table, problems, is_lowest=is_lowest),
        reserve=_reserve(table, bands, problems) if "reserve" in table else (),
    )


def _reserve(
    table: Table, bands: Sequence[str], problems: Problems
) -> tuple[tuple[str, float], ...]:
    path = join(table.path, "reserve")
    raw = table.raw("reserve")
    if not isinstance(raw, Mapping):
        problems.add(
            path,
            f"must be a table of shares by band, not {kind(raw)}",
            'write for example { critical = "20%" }',
        )
        return ()
    found: dict[str, float] = {}
    for band, value in raw.items():
        place = join(path, band)
        if band not in bands:
            problems.unknown_band(place, band if isinstance(band, str) else "", bands)
        try:
            found[band] = share(value)
        except AmountError as error:
            problems.add(place, str(error))
    total = fsum(found.values())
    if total >= 1:
        problems.add(path, f"the shares add up to {total:.4g}; keep them below 1")
    return tuple((band, found[band]) for band in bands if band in found)
