"""Whether a worker has to freeze tasks, and whether it can. Asked once, before its pool starts."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from celery_budget.board import PoolKind
from celery_budget.errors import BudgetError
from celery_budget.policy.preemption import Method
from celery_budget.producer.declared import declared
from celery_budget.worker import seams

if TYPE_CHECKING:
    from celery import Task
    from celery.worker.consumer import Consumer

    from celery_budget.policy.model import Policy


def is_asked(policy: Policy, tasks: Iterable[Task]) -> bool:
    """Tell whether any task may be frozen.

    Args:
        policy: Says so of bands and task names.
        tasks: Of the app; each may say so itself.
    """
    said = [rule.preempt for rule in policy.tasks]
    said += [band.preempt for band in policy.bands]
    if any(Method.FREEZE in (one or ()) for one in said):
        return True
    for task in tasks:
        with suppress(BudgetError):  # told when a message of it comes
            if Method.FREEZE in (declared(task).preempt or ()):
                return True
    return False


def obstacle(consumer: Consumer, policy: Policy) -> str:
    """Say why a worker cannot freeze what the policy would let it; "" when it can."""
    if not any(band.preempts for band in policy.bands):
        return "no band has `preempts = true`, so that nothing could need their slots"
    if seams.pool_kind(consumer.pool) is not PoolKind.PREFORK or consumer.hub is None:
        return "only a prefork pool with an event loop can (--pool prefork)"
    if seams.writes_ahead(consumer.pool):
        return "with -O fast a frozen child would keep the tasks that it got ahead"
    if seams.most_slots(consumer):
        return "the autoscaler (--autoscale) would take the spare children away"
    return ""
