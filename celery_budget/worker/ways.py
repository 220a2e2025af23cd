"""In which ways running tasks give way on a worker: asked for, and possible there.

Settled once, before the worker's pool starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from celery.exceptions import ImproperlyConfigured

from celery_budget.board import PoolKind
from celery_budget.errors import BudgetError
from celery_budget.policy.model import OnOverload
from celery_budget.policy.preemption import Method
from celery_budget.producer.declared import declared
from celery_budget.worker import seams

if TYPE_CHECKING:
    from celery import Task
    from celery.worker.consumer import Consumer

    from celery_budget.policy.model import Band, Policy, TaskRule
    from celery_budget.policy.terms import Declared

#: Ways that one worker has, and why it has not the others that are asked for.
Ways = tuple[frozenset[Method], dict[Method, str]]


def ways(consumer: Consumer, policy: Policy) -> Ways:
    """Find the ways of a worker whose pool has not started."""
    possible = set()
    obstacles = {}
    for method in _asked(policy, consumer.app.tasks.values()):
        why_not = _obstacle(consumer, policy, method)
        if why_not:
            obstacles[method] = why_not
        else:
            possible.add(method)
    return frozenset(possible), obstacles


def has_degrading(consumer: Consumer, policy: Policy) -> bool:
    """Tell whether any task can do less instead of waiting, by the policy or its own word."""
    # A sender may have another policy: but then so do others, and it was told of none.
    return any(band.on_overload is OnOverload.DEGRADE for band in policy.bands) or any(
        said.degrade for said in _said(policy, consumer.app.tasks.values())
    )


def _asked(policy: Policy, tasks: Iterable[Task]) -> list[Method]:
    """List the ways that the policy, or a task, asks for."""
    asked = {method for said in _said(policy, tasks) for method in said.preempt or ()}
    return [method for method in Method if method in asked]


def _said(policy: Policy, tasks: Iterable[Task]) -> Iterator[TaskRule | Band | Declared]:
    """List all that says what tasks can do while they run."""
    yield from policy.tasks
    yield from policy.bands
    for task in tasks:
        with suppress(BudgetError):  # told when a message of it comes
            yield declared(task)


def _obstacle(consumer: Consumer, policy: Policy, method: Method) -> str:
    """Say why a worker cannot do what is asked for; "" when it can."""
    is_for_memory = method is not Method.FREEZE and policy.pressure and policy.pressure.evict
    if not is_for_memory and not any(band.preempts for band in policy.bands):
        return "no band has `preempts = true`, so that nothing could need their slots"
    match method:
        case Method.FREEZE:
            return _obstacle_to_freeze(consumer)
        case Method.CHECKPOINT:
            return _obstacle_to_checkpoint(consumer)
        case Method.EVICT:
            return _obstacle_to_evict(consumer)


def _obstacle_to_evict(consumer: Consumer) -> str:
    if seams.pool_kind(consumer.pool) is not PoolKind.PREFORK or consumer.hub is None:
        return "only a prefork pool with an event loop can (--pool prefork)"
    return ""


def _obstacle_to_freeze(consumer: Consumer) -> str:
    why_not = _obstacle_to_evict(consumer)
    if why_not:
        return why_not
    if seams.writes_ahead(consumer.pool):
        return "with -O fast a frozen child would keep the tasks that it got ahead"
    if seams.most_slots(consumer) and seams.budget_autoscaler(consumer) is None:
        return (
            "Celery's autoscaler (--autoscale) would take the spare children away: set "
            'worker_autoscaler = "celery_budget.worker.autoscaler:BudgetAutoscaler"'
        )
    return ""


def _obstacle_to_checkpoint(consumer: Consumer) -> str:
    kind = seams.pool_kind(consumer.pool)
    if kind is None or kind is PoolKind.SOLO:
        return "only the pools prefork, threads, gevent and eventlet can (--pool)"
    try:
        state = consumer.app.amqp.state()
    except ImproperlyConfigured as error:
        return str(error)
    if kind is PoolKind.PREFORK and not state.is_shared:
        return "the children of a prefork pool do not share memory:// (budget_state_url)"
    return ""
