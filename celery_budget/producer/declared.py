"""What a task's own definition says: its decorator options or its base class.

Read by the router in the sender and by the intake in the worker, so that both see the same. The
readers of single values serve the options of a call too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from celery_budget.errors import AmountError, OptionError
from celery_budget.policy.names import closest, is_name
from celery_budget.policy.preemption import Method
from celery_budget.policy.terms import Declared
from celery_budget.units import amount, seconds

if TYPE_CHECKING:
    from celery import Task

    from celery_budget.policy.budget import Cost

NOTHING_DECLARED = Declared()


def declared(task: Task | None) -> Declared:
    """Read what a task's attributes declare; None declares nothing.

    Raises:
        OptionError: an attribute has a value that means nothing.
    """
    band = getattr(task, "band", None)
    tenant = getattr(task, "tenant", None)
    deadline = getattr(task, "deadline", None)
    expected = getattr(task, "cost", None)
    preempt = getattr(task, "preempt", None)
    degrade = getattr(task, "degrade", None)
    if band is tenant is deadline is expected is preempt is degrade is None:
        return NOTHING_DECLARED
    if degrade is not None and not isinstance(degrade, bool):
        name = getattr(task, "name", "?")
        raise OptionError("degrade", f"of task {name} is {degrade!r}, not True or False")
    for option, value in (("band", band), ("tenant", tenant)):
        if value is not None and not isinstance(value, str):
            name = getattr(task, "name", "?")
            raise OptionError(option, f"of task {name} is {value!r}, not a string")
    if deadline is not None and not isinstance(deadline, str | int | float | timedelta):
        duration("deadline", deadline)
    return _declared(band, tenant, deadline, cost(expected), methods(preempt), degrade)


@lru_cache(maxsize=10_000)
def _declared(
    band: str | None,
    tenant: str | None,
    deadline: object,
    expected: Cost | None,
    preempt: tuple[Method, ...] | None,
    degrade: bool | None,
) -> Declared:
    return Declared(
        band=band,
        tenant=tenant,
        deadline=duration("deadline", deadline),
        cost=expected,
        preempt=preempt,
        degrade=degrade,
    )


def methods(value: object) -> tuple[Method, ...] | None:
    """Read how a running task may give way: `["freeze"]`.

    Raises:
        OptionError: it is no list of ways.
    """
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise OptionError("preempt", f'is {value!r}; give a list such as ["freeze"]')
    known = [method.value for method in Method]
    for name in value:
        if name not in known:
            hint = closest(name, known) if isinstance(name, str) else ""
            raise OptionError(
                "preempt",
                f"names {name!r}, which is no way to give way",
                hint or f"known: {', '.join(known)}",
            )
    return tuple(Method(name) for name in value)


def cost(value: object) -> Cost | None:
    """Read what an execution is expected to use: `{"cpu": "3s", "usd": "0.02"}`.

    Raises:
        OptionError: it is no mapping of names and amounts.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise OptionError("cost", f'is {value!r}; give a mapping such as {{"cpu": "3s"}}')
    units = {}
    for resource, given in value.items():
        if not isinstance(resource, str) or not is_name(resource):
            raise OptionError("cost", f"names {resource!r}, which no resource can be called")
        try:
            units[resource] = amount(resource, given)
        except AmountError as error:
            raise OptionError("cost", f"of {resource}: {error}") from error
    return tuple(sorted(units.items()))


def duration(option: str, value: object) -> float | None:
    """Read a duration option: "2s", a number of seconds, or a timedelta.

    Raises:
        OptionError: it is none of these.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float | timedelta):
        raise OptionError(option, f'is {value!r}; give a duration such as "2s" or seconds')
    try:
        return seconds(value)
    except ValueError as error:
        raise OptionError(option, f"is {value!r}: {error}") from error


def absolute(option: str, value: object, now: float) -> float:
    """Read a point in time: a datetime, or a duration from now.

    Returns:
        Unix seconds.

    Raises:
        OptionError: it is neither.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise OptionError(option, f"is {value!r}; give it a time zone")
        return value.timestamp()
    if isinstance(value, timedelta) and value < timedelta(0):
        return now
    return now + (duration(option, value) or 0.0)


def arguments(
    task: Task | None, args: Sequence[object] | None, kwargs: Mapping[str, object] | None
) -> Callable[[], Mapping[str, object]]:
    """Give a function that names a call's arguments, for tenant templates.

    Nothing is inspected until it is called: most calls have no template.
    """

    def named() -> Mapping[str, object]:
        given = dict(kwargs or {})
        if args and task is not None:
            given |= zip(_parameters(task.run), args, strict=False)
        return given

    return named


@lru_cache(maxsize=10_000)
def _parameters(run: Callable[..., object]) -> tuple[str, ...]:
    return tuple(inspect.signature(run).parameters)
