"""Undocumented attributes of Celery's worker. Holds for celery 5.6 and 5.7."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import signals
from celery.worker import state

from celery_budget.board import PoolKind

#: Celery's step that asks the other workers, by name: a sender has no use for loading it.
MINGLE = "celery.worker.consumer.mingle.Mingle"

#: Field of the answer to Celery's `hello` that carries the moves a worker knows of.
MINGLED = "budget_moves"

_POOL_KINDS = {
    "celery.concurrency.prefork": PoolKind.PREFORK,
    "celery.concurrency.thread": PoolKind.THREADS,
    "celery.concurrency.solo": PoolKind.SOLO,
}


def process_task(consumer: Any) -> Callable[[Any], object]:
    """Find the worker's own way into the pool, without the pool semaphore in front of it.

    The dispatcher already bounds what is submitted to the number of slots. Waiting for the
    semaphore as well would only hide whether a request reached the pool.
    Relies on `WorkController._process_task` and `_process_task_sem`.
    """
    controller = consumer.controller
    if consumer.on_task_request == getattr(controller, "_process_task_sem", None):
        process: Callable[[Any], object] = controller._process_task
        return process
    given: Callable[[Any], object] = consumer.on_task_request
    return given


def size(pool: Any, spare: int = 0) -> Callable[[], int]:
    """Find out how to ask a pool for its slots, which may become more or fewer.

    The gevent pool of Celery 5.6 tells its running greenlets as `num_processes`: none, at first.
    Relies on `TaskPool._pool` of green pools, made when they start, whose `size` is what `grow`
    and `shrink` change.

    Args:
        pool: The worker's own.
        spare: Its processes that are no slots.
    """
    if pool.is_green:
        return lambda: int(pool.limit if pool._pool is None else pool._pool.size)
    return lambda: int(pool.num_processes) - spare


def pool_kind(pool: Any) -> PoolKind | None:
    """Tell how a pool runs tasks; None for somebody else's, of which nothing is known.

    By name: importing the pools would load billiard's processes into every worker.
    Relies on `BasePool.is_green` and on the modules of Celery's pools.
    """
    if pool.is_green:
        return PoolKind.GREEN
    for cls in type(pool).__mro__:
        kind = _POOL_KINDS.get(cls.__module__)
        if kind is not None:
            return kind
    return None


def most_slots(consumer: Any) -> int:
    """Tell how many slots the autoscaler may make of the pool; 0 without an autoscaler.

    Relies on `WorkController.autoscale` and `max_concurrency` (set by the Pool bootstep).
    """
    controller = consumer.controller
    if getattr(controller, "autoscale", None):
        return int(controller.max_concurrency or 0)
    return 0


def budget_autoscaler(consumer: Any) -> Any:
    """Give the worker's autoscaler, if it is ours; None without one, or with another one.

    Relies on `WorkController.autoscaler`, made by the Autoscaler bootstep before the consumer.
    """
    found = getattr(consumer.controller, "autoscaler", None)
    return found if getattr(found, "is_budgeted", False) else None


def newest_greenlet(pool: Any) -> Any:
    """Find the greenlet of the last submission; eventlet's pool does not return it.

    Relies on `TaskPool._pool_map` of the gevent and eventlet pools, in order of submission.
    """
    return next(reversed(pool._pool_map.values()))


def forget(request: Any) -> None:
    """Take a request that will not run here out of the worker's own books.

    Relies on `celery.worker.state.task_ready`, which Celery calls when a task has ended.
    """
    state.task_ready(request)


def revoked_ids() -> Any:
    """Give the worker's set of revoked task ids. Relies on `celery.worker.state.revoked`."""
    return state.revoked


def scheduled(consumer: Any) -> list[Any]:
    """List the requests that wait for their ETA, as `celery inspect scheduled` does.

    Relies on the arguments of the timer's entries being the requests.
    """
    return [
        entry.entry.args[0]
        for entry in list(consumer.timer.schedule.queue)
        if entry.entry.args and hasattr(entry.entry.args[0], "request_dict")
    ]


def parked(consumer: Any) -> int:
    """Count the requests that wait for their ETA.

    Relies on `celery.worker.state.scheduled_requests` of Celery 5.7; 5.6 has only the timer.
    """
    known = getattr(state, "scheduled_requests", None)
    return len(scheduled(consumer)) if known is None else len(known)


def rate_limited(consumer: Any) -> list[Any]:
    """List the requests that wait for their task's rate limit.

    Celery counts them nowhere else. Relies on `Consumer.task_buckets` and on the buckets'
    `contents` of requests and tokens.
    """
    return [
        request
        for bucket in list(consumer.task_buckets.values())
        if bucket is not None
        for request, _tokens in list(bucket.contents)
    ]


def is_told(request: Any) -> bool:
    """Tell whether the worker sends events of tasks, for which somebody has to ask.

    It has an eventer for its own events in any case. Relies on `Request.eventer` and on
    `EventDispatcher.enabled` and `groups`.
    """
    eventer = request.eventer
    return eventer is not None and eventer.enabled and "task" in (eventer.groups or ("task",))


def refuse(request: Any, error: Exception) -> None:
    """End a request that never ran as failed, and account for its message.

    As Celery does for a task that rejects itself: a stored failure (with its error callbacks and
    chord), the signal, the event. Storing talks to the result backend, as for a revoked task.
    Relies on `Request._context`, `request_dict` and `store_errors`.
    """
    try:
        raise error
    except type(error):
        info = ExceptionInfo()
    state.task_ready(request)
    request.acknowledge()
    # Celery 5.6 asks only the task, not the call.
    is_ignored = request.request_dict.get("ignore_result")
    is_stored = request.store_errors and (
        not is_ignored or request.task.store_errors_even_if_ignored
    )
    request.task.backend.mark_as_failure(
        request.id, error, request=request._context, store_result=is_stored
    )
    signals.task_failure.send(
        sender=request.task,
        task_id=request.id,
        exception=error,
        args=request.args,
        kwargs=request.kwargs,
        traceback=info.traceback,
        einfo=info,
    )
    request.send_event("task-failed", exception=repr(error), traceback=info.traceback)


def fetched(task_id: str) -> tuple[Any, bool] | None:
    """Find a request that Celery has fetched, and tell whether it is running.

    Relies on `celery.worker.state.requests` and `active_requests`.
    """
    request = state.requests.get(task_id)
    return None if request is None else (request, request in state.active_requests)


def is_accepted(request: Any) -> bool:
    """Tell whether the pool has said that a request runs and not yet that it has ended.

    Relies on `celery.worker.state.active_requests`.
    """
    return request in state.active_requests


def is_stopping() -> bool:
    """Tell whether the worker was asked to shut down, by a signal it has not acted on or just has.

    Relies on `celery.worker.state.should_stop` and `should_terminate`, which hold an exit code.
    """
    return _is_set(state.should_stop) or _is_set(state.should_terminate)


def _is_set(exit_code: object) -> bool:
    return exit_code is not None and exit_code is not False


def on_mingle(consumer: Any, learn: Callable[[list[Any]], object]) -> None:
    """Let a worker that starts learn, before it takes a message, what the others tell it.

    Celery's mingle asks each of them for its revoked ids at that moment; what our `hello` adds to
    the answer under `MINGLED` is given to `learn`. Without mingle nothing is learned, and
    nothing of revokes either.
    Relies on `Blueprint.steps` and on `Mingle.sync_with_node`, called with an answer's fields.
    """
    mingle = consumer.blueprint.steps.get(MINGLE)
    if mingle is None:
        return
    sync = mingle.sync_with_node

    def sync_with_node(consumer: Any, **answer: Any) -> None:
        told = answer.pop(MINGLED, None)
        sync(consumer, **answer)
        if told:
            learn(told)

    mingle.sync_with_node = sync_with_node


def persistence(consumer: Any) -> Any:
    """Give the worker's open state database (`--statedb`), or None without one.

    Relies on `WorkController._persistence`, made by the StateDB bootstep.
    """
    holder = getattr(consumer.controller, "_persistence", None)
    return None if holder is None else holder.db
