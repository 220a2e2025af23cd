"""Reads what happens when a budget runs out: `on_exhausted` and its `at`.

Called by `policy/budgets.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from celery_budget.policy.budget import Action
from celery_budget.policy.names import closest
from celery_budget.policy.problems import Problems, join, quote
from celery_budget.policy.spending import StepTable
from celery_budget.policy.table import Table, kind

#: Shares of a limit and what happens from there on.
Steps = tuple[tuple[float, Action], ...]

#: The one step of a budget that says nothing else.
DEFAULT_STEPS: Steps = ((1.0, Action.HOLD),)

_LAST = frozenset({Action.HOLD, Action.SHED})


def read_steps(
    table: Table, problems: Problems, *, is_lowest: bool, default: Steps = DEFAULT_STEPS
) -> Steps:
    """Read the steps of one budget, noting what is wrong with them.

    Args:
        table: The budget's.
        problems: Gets every mistake.
        is_lowest: Whether its tasks have no lower band to be demoted to.
        default: The steps where none is written.

    Returns:
        The good ones in the order of the file, `default` for none.
    """
    path = join(table.path, "on_exhausted")
    at = table.share("at") or 1.0
    if "on_exhausted" not in table:
        if "at" in table:
            problems.add(
                join(table.path, "at"),
                "needs an on_exhausted",
                'write for example on_exhausted = "degrade"',
            )
        return default
    said = table.raw("on_exhausted")
    if not isinstance(said, list | tuple):
        action = _action(said, path, problems, is_lowest=is_lowest)
        return ((at, action),) if action is not None else default
    if "at" in table:
        problems.add(
            join(table.path, "at"), "belongs to a single on_exhausted; each step has its own"
        )
    if not said:
        problems.add(path, "has no steps", "leave the key out to hold")
    steps = _listed(said, path, problems, is_lowest=is_lowest)
    for (place, earlier, before), (_, later, _) in pairwise(steps):
        if before in _LAST:
            problems.add(place, f"nothing can happen after {before}", f"put {before} last")
        elif later <= earlier:
            problems.add(path, "the steps must begin at different shares, in ascending order")
    return tuple((begins, action) for _, begins, action in steps) or default


def _listed(
    said: Sequence[object], path: str, problems: Problems, *, is_lowest: bool
) -> list[tuple[str, float, Action]]:
    steps: list[tuple[str, float, Action]] = []
    for index, content in enumerate(said):
        place = f"{path}[{index}]"
        step = Table(StepTable, content, place, problems)
        begins = step.share("at") or 1.0
        if "do" in step:
            action = _action(step.raw("do"), join(place, "do"), problems, is_lowest=is_lowest)
            if action is not None:
                steps.append((place, begins, action))
        elif kind(content) == "a table":
            problems.add(place, "says not what to do", 'write for example { do = "hold" }')
    return steps


def _action(value: object, path: str, problems: Problems, *, is_lowest: bool) -> Action | None:
    known = ", ".join(Action)
    if not isinstance(value, str):
        problems.add(path, f"must be one of {known}, not {kind(value)}")
        return None
    if value not in list(Action):
        problems.add(
            path, f"{quote(value)} is not an action", closest(value, Action) or f"known: {known}"
        )
        return None
    action = Action(value)
    if action is Action.DEMOTE and is_lowest:
        problems.add(path, "there is no lower band to demote to", "write hold, degrade or shed")
    return action
