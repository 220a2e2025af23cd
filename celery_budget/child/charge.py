"""`budget.charge` and `budget.degraded`: what a body tells its execution, and is told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import isfinite

from celery_budget.board import METERED, Flag
from celery_budget.child.execution import execution
from celery_budget.child.run import running
from celery_budget.errors import NotInTask, OptionError, UnknownResource
from celery_budget.policy.names import closest
from celery_budget.units import amount


def charge(amounts: Mapping[str, str | float]) -> None:
    """Add amounts to what the current execution has charged: all of them or, on error, none.

    Args:
        amounts: By resource, as the policy writes them; none below zero.

    Raises:
        NotInTask: No task is running in this thread, greenlet or process.
        OptionError: The resource is metered.
        UnknownResource: The policy does not name the resource; where nothing is metered, as in
            eager and plain calls, every name is taken.
        AmountError: An amount cannot be read.
    """
    running("charge")
    run = execution.get()
    if run is not None and run.pid != os.getpid():
        raise NotInTask("charge")  # two processes would overwrite each other's sums
    known = () if run is None else run.charged
    units = {}
    for resource, value in amounts.items():
        if resource in METERED:
            raise OptionError(resource, "it is metered and cannot be charged")
        if run is not None and resource not in known:
            raise UnknownResource(resource, known, closest(resource, known))
        units[resource] = amount(resource, _rounded(resource, value))
    if run is not None:
        for resource, added in units.items():
            run.cell.charge(known.index(resource), added)


def _rounded(resource: str, value: str | float) -> str | float:
    """Round a price that was computed: 0.1 + 0.2 is no mistake of the author's."""
    if not isinstance(value, float) or not isfinite(value):
        return value
    return float(round(value)) if resource == "network" else round(value, 6)


def is_degraded() -> bool:
    """Tell whether the current execution should do less than usual.

    Raises:
        NotInTask: No task is running in this thread or greenlet.
    """
    running("degraded")
    run = execution.get()
    return run is not None and run.cell.has(Flag.DEGRADED)
