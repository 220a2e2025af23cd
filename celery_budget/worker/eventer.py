"""The bill of an execution in Celery's own events.

Celery's request tells its end by itself, through its eventer: in the main process, when the pool
has called back. What the execution used is final on the board by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery_budget.bill import FIELD, Bill

if TYPE_CHECKING:
    from celery_budget.worker.intake import Held


class BillingEventer:
    """Stands for the worker's eventer in one request, and adds the execution's bill.

    Args:
        eventer: The worker's own.
        held: The ticket of the request.
        usage: Tells what its execution has used, units by resource.
    """

    __slots__ = ("_eventer", "_held", "_usage")

    def __init__(self, eventer: Any, held: Held, usage: Callable[[Held], dict[str, int]]) -> None:
        self._eventer = eventer
        self._held = held
        self._usage = usage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._eventer, name)

    def send(self, type: str, **fields: Any) -> Any:  # noqa: A002
        """Send an event of the request, with the bill unless nothing has been used yet."""
        held = self._held
        # Without a process it has not begun, and never will: it was revoked in the pool.
        if type != "task-started" and held.request.worker_pid is not None:
            bill = Bill(held.band, held.tenant or None, bool(held.run & 1), self._usage(held))
            fields[FIELD] = bill.write()
        return self._eventer.send(type, **fields)
