"""The copy of a moved message: the same task in another band, under a higher move number.

Called by each way of moving a message; touches no broker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from celery_budget.errors import BudgetError, HeaderError
from celery_budget.headers import HEADER, Stamp, read, write
from celery_budget.policy.terms import Asked, resolve
from celery_budget.producer.declared import declared

if TYPE_CHECKING:
    from celery import Celery

    from celery_budget.policy.model import Policy


@dataclass(frozen=True, slots=True)
class Target:
    """Where a moved task goes.

    Attributes:
        band: Name of the band.
        queue: The band's first queue.
    """

    band: str
    queue: str


def carried(headers: Mapping[str, object]) -> Stamp | None:
    """Read the stamp a message brought; None where a worker would settle its Terms."""
    try:
        return read(headers.get(HEADER))
    except HeaderError:
        return None


def moved_headers(
    app: Celery,
    policy: Policy,
    headers: Mapping[str, object],
    *,
    task_id: str,
    band: str,
    number: int,
) -> dict[str, object]:
    """Write the headers of the copy.

    A sender without celery-budget sent no stamp; the Terms of such a task are settled here,
    without the call's arguments, so that it belongs to no tenant.

    Args:
        app: Knows what the task declares.
        policy: Of the app.
        headers: Of the message; not modified.
        task_id: The id, which the copy keeps.
        band: Where it goes.
        number: Move number of the copy.
    """
    stamp = carried(headers) or _settled(app, policy, str(headers.get("task", "")), task_id, band)
    moved = write(replace(stamp, band=band, move=number))
    # A quorum queue counts deliveries of one message; the copy is another.
    return {
        **{name: value for name, value in headers.items() if name != "x-delivery-count"},
        HEADER: moved,
    }


def _settled(app: Celery, policy: Policy, task: str, task_id: str, band: str) -> Stamp:
    now = time()
    try:
        terms = resolve(
            policy,
            task,
            now=now,
            carried=Asked(band=band),
            declared=declared(app.tasks.get(task)),
        )
    except BudgetError:
        # The task declares what means nothing; the worker that runs it will say so.
        return Stamp(band, correlation_id=task_id, at=now)
    return Stamp(band, terms.tenant, terms.deadline, task_id, now)
