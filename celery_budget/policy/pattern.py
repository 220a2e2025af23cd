"""Patterns over names: which may be written, which are exact, which go before others.

One rule for tasks, budgets, ceilings and tenants. Called by what reads their tables.
"""

from __future__ import annotations

import re
from typing import TypeGuard

from celery_budget.policy.notation import MAX_PATTERN
from celery_budget.policy.problems import Problems, quote

_WILDCARD = re.compile(r"\*|\?|\[!?\]?[^\]]*\]")


def is_pattern(pattern: object, path: str, problems: Problems) -> TypeGuard[str]:
    """Tell whether this may be a pattern, and note what is wrong with it otherwise."""
    if not isinstance(pattern, str) or not 0 < len(pattern) <= MAX_PATTERN or not pattern.strip():
        problems.add(path, f"a pattern is text of 1 to {MAX_PATTERN} characters")
        return False
    if pattern != pattern.strip():
        problems.add(path, "the pattern has spaces around it", f"write {quote(pattern.strip())}")
        return False
    return True


def is_exact(pattern: str) -> bool:
    """Tell whether a pattern is a plain name."""
    return _WILDCARD.search(pattern) is None


def specificity(pattern: str) -> tuple[bool, int]:
    """Sort exact names first, then by literal characters; ties keep the file's order."""
    literal = _WILDCARD.sub("", pattern)
    return literal != pattern, -len(literal)
