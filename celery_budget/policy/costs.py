"""Costs: what one execution is expected to use, and how many custom resources there are.

Called by `policy/load.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeGuard

from celery_budget.errors import AmountError
from celery_budget.policy.budget import BudgetRule, Cost
from celery_budget.policy.envelope import EnvelopeRule
from celery_budget.policy.model import TaskRule
from celery_budget.policy.names import is_name
from celery_budget.policy.problems import Problems, join
from celery_budget.policy.table import kind
from celery_budget.units import BUILT_IN, amount

#: Custom resources of one policy: each has a cell of its own in the memory that a worker
#: shares with its children, and that memory is divided before the first task is seen.
MAX_CUSTOM = 16


def read_cost(raw: object, path: str, problems: Problems) -> Cost:
    """Read a table of amounts by resource, noting what is wrong with it.

    Args:
        raw: What the file holds there; anything at all.
        path: Its place.
        problems: Gets every mistake.

    Returns:
        The good ones, sorted by resource.
    """
    if not isinstance(raw, Mapping):
        problems.add(path, f"must be a table, not {kind(raw)}", 'write for example { cpu = "3s" }')
        return ()
    found: dict[str, int] = {}
    for resource, value in raw.items():
        place = join(path, resource)
        if is_resource(resource, place, problems):
            units = read_amount(resource, value, place, problems)
            if units is not None:
                found[resource] = units
    return tuple(sorted(found.items()))


def read_amount(resource: str, value: object, path: str, problems: Problems) -> int | None:
    """Read an amount of a resource, or note why not and give None."""
    try:
        return amount(resource, value)  # type: ignore[arg-type]  # it refuses what is no amount
    except AmountError as error:
        problems.add(path, str(error))
        return None


def is_resource(name: object, path: str, problems: Problems) -> TypeGuard[str]:
    """Tell whether this may name a resource, and note it otherwise."""
    if isinstance(name, str) and is_name(name):
        return True
    problems.add(path, "a resource's name is 1 to 64 of the characters A-Z a-z 0-9 _ . -")
    return False


def bound_customs(
    budgets: Iterable[BudgetRule],
    rules: Iterable[TaskRule],
    envelopes: EnvelopeRule | None,
    problems: Problems,
) -> None:
    """Note the first custom resource that is one too many."""
    named = [(budget.path, budget.resource) for budget in budgets]
    if envelopes is not None:
        named += [("envelopes.resources", resource) for resource in envelopes.resources]
    for rule in rules:
        path = join(join("tasks", rule.pattern), "cost")
        named += [(join(path, resource), resource) for resource, _ in rule.cost or ()]
    customs: set[str] = set()
    for path, resource in named:
        if resource in BUILT_IN or resource in customs:
            continue
        customs.add(resource)
        if len(customs) > MAX_CUSTOM:
            problems.add(path, f"is one custom resource too many; {MAX_CUSTOM} are possible")
            return
