"""Whom a budget or a ceiling holds for: reads keys such as "tenant:*" and "fleet".

Called by `policy/budgets.py` and `policy/ceilings.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from celery_budget.policy.budget import Scope
from celery_budget.policy.names import closest, is_name
from celery_budget.policy.pattern import is_exact, is_pattern
from celery_budget.policy.problems import Problems, quote


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a rule holds for.

    Attributes:
        scope: What the names are names of.
        header: Name of the message header; "" for other scopes.
        pattern: Shell pattern over the names.
    """

    scope: Scope
    header: str
    pattern: str


#: Stands in for a key that was refused, so that what is below it is still checked.
FLEET = Target(Scope.FLEET, "", "*")


def read_target(  # noqa: PLR0911 - a return for each mistake that hides the rest
    key: object, path: str, allowed: Sequence[Scope], bands: Sequence[str], problems: Problems
) -> Target:
    """Read a key, noting what is wrong with it.

    Args:
        key: "fleet", "SCOPE:PATTERN" or "header:NAME:PATTERN"; anything at all.
        path: Its place.
        allowed: The scopes that are possible here.
        bands: Of the policy, as written.
        problems: Gets every mistake.

    Returns:
        The target, or `FLEET` in place of one that was refused.
    """
    if not isinstance(key, str):
        problems.add(path, "the key must be text", 'write for example "tenant:*"')
        return FLEET
    name, colon, pattern = key.partition(":")
    if name not in allowed:
        problems.add(
            path,
            f"{quote(name)} is not a scope",
            closest(name, allowed) or f"known: {', '.join(allowed)}",
        )
        return FLEET
    scope = Scope(name)
    if scope is Scope.FLEET:
        if colon:
            problems.add(path, "the fleet is one, and takes no pattern", 'write "fleet"')
        return FLEET
    if not colon:
        example = f"{name}:x-team:*" if scope is Scope.HEADER else f"{name}:*"
        problems.add(path, f"{name} needs a pattern", f'write for example "{example}"')
        return FLEET
    header = ""
    if scope is Scope.HEADER:
        header, colon, pattern = pattern.partition(":")
        if not colon or not is_name(header):
            problems.add(
                path, "a header has a name and a pattern", 'write for example "header:x-team:*"'
            )
            return FLEET
    if not is_pattern(pattern, path, problems):
        return FLEET
    if scope is Scope.BAND and is_exact(pattern) and pattern not in bands:
        problems.unknown_band(path, pattern, bands)
    return Target(scope, header, pattern)
