"""What a running task can see of its own Terms.

Reads the header that came with the task's message: the sender's stamp, or the one the worker
made where the sender made none. Nothing is sent or stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery._state import get_current_task

from celery_budget.errors import HeaderError, NotInTask
from celery_budget.headers import HEADER, Stamp, read


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a task.

    Attributes:
        stamp: Its settled Terms; None where neither sender nor worker has celery-budget (an
            eager or plain call, a stock worker).
        task_id: Celery's id of the task.
        attempt: 1 for the first execution, 2 for the first retry, and so on.
    """

    stamp: Stamp | None
    task_id: str
    attempt: int


def running(attribute: str) -> Any:
    """Find the task in whose body, or below it, this is called.

    Args:
        attribute: What the caller wants to know; named in the error.

    Raises:
        NotInTask: no task is running in this thread or greenlet.
    """
    task = get_current_task()
    if task is None:
        raise NotInTask(attribute)
    return task


def current(attribute: str) -> Run:
    """Find the execution in whose task body, or below it, this is called.

    Args:
        attribute: What the caller wants to know; named in the error.

    Raises:
        NotInTask: no task is running in this thread or greenlet.
    """
    request = running(attribute).request
    value = getattr(request, HEADER, None)
    stamp = None
    if value is not None:
        try:
            stamp = read(value)
        except HeaderError:
            stamp = None  # a stock worker passed on what a budget worker would have replaced
    return Run(stamp, request.id or "", (request.retries or 0) + 1)
