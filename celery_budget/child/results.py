"""The bill of an execution, stored with its result where results are extended.

The process that stores a result knows of its own execution. What it has used is told up to
that moment: storing belongs to the execution, and cannot be part of what it stores.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from celery.backends.base import Backend

from celery_budget.bill import FIELD, Bill
from celery_budget.board import Flag
from celery_budget.child.execution import execution
from celery_budget.errors import HeaderError
from celery_budget.headers import HEADER, read


@cache
def billing(base: type[Backend]) -> type[Backend]:
    """Derive a result backend that stores a bill beside what it stores anyway.

    Backends with columns of their own, such as SQL, drop what they have no column for.
    Relies on `Backend._get_result_meta`, of which Celery's backends store what it returns.
    """

    class BillingBackend(base):
        """Adds the bill of the execution whose result is stored."""

        def _get_result_meta(
            self, result: Any, state: str, traceback: Any, request: Any, *args: Any, **kwargs: Any
        ) -> dict[str, Any]:
            meta: dict[str, Any] = super()._get_result_meta(
                result, state, traceback, request, *args, **kwargs
            )
            written = bill(request)
            if written is not None:
                meta[FIELD] = written.write()
            return meta

        def __reduce__(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
            # Results travel with their backend; whoever reads one needs no more than the base,
            # and can import it by name.
            restore, (_, *rest) = super().__reduce__(*args, **kwargs)
            return restore, (base, *rest)

    return BillingBackend


def bill(request: Any) -> Bill | None:
    """Tell what the current execution has used up to now.

    Args:
        request: Of the task whose result is stored; None where Celery stores without one.

    Returns:
        None where nothing is metered, and for the result of another task than that which the
        worker runs here: eager calls in its body have a request without our header.
    """
    run = execution.get()
    if run is None or run.pid != os.getpid():
        return None
    try:
        stamp = read(getattr(request, HEADER, None))
    except HeaderError:
        return None
    return Bill(stamp.band, stamp.tenant or None, run.cell.has(Flag.DEGRADED), run.usage())
