"""Undocumented attributes of Celery's prefork pool and billiard's. Holds for celery 5.6 and 5.7."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from billiard.einfo import ExceptionInfo

#: Seconds that are left of a time limit, and what the pool does then, with its arguments.
TimeLimit = tuple[float, Callable[..., Any], tuple[Any, ...]]

#: What the event loop calls in each turn.
Tick = Callable[[], None]


def child_index(pool: Any, pid: int) -> int | None:
    """Find the number of a child of the prefork pool; None when it has gone.

    It counts from 0, is below the most children the pool has had at once, and goes to the child
    that replaces this one. Relies on `TaskPool._pool`, `Pool._pool` and the processes' `index`.
    """
    child = _child(pool, pid)
    return None if child is None else int(child.index)


def flush(pool: Any) -> None:
    """Let the prefork pool drop what no child has taken, and nothing that a child runs.

    Celery 5.6.0 drops all: nobody is told of their ends, and no slot becomes free again. It also
    takes all children for idle then: what the pool is given next may be written to one that works,
    and waits there for as long as that does.
    Relies on `TaskPool._pool`, `Pool._cache`, on the jobs' `_job`, `_accepted`, `ready` and
    `_write_to` (the child), and on `AsynPool._busy_workers` (descriptors, by `inqW_fd`).
    """
    if pool._pool is None:
        return  # a cold shutdown has stopped it, and nothing is left to drop
    cache = pool._pool._cache
    running = [job for job in list(cache.values()) if job._accepted]
    pool.flush()
    for job in running:
        if not job.ready():
            cache[job._job] = job
            child = getattr(job, "_write_to", None)
            if child is not None:
                pool._pool._busy_workers.add(child.inqW_fd)


def hand_out(pool: Any, hub: Any) -> None:
    """Write what the prefork pool was given to children that are idle, now.

    By itself it asks the event loop to tell when a child's pipe can be written to, and writes in
    the loop's next turn. A pipe to an idle child is empty; should it not take all, the pool's
    own writer goes on. Nothing is done where the pool writes ahead to busy children (`-O fast`),
    nor where children leave after so many tasks or so much memory: one says that it leaves just
    after it gave its last result, and what it was given then waits until it has gone.
    Relies on `AsynPool.sched_strategy`, `_all_inqueues`, `_active_writes` and `_busy_workers`, on
    `Pool._maxtasksperchild` and `_max_memory_per_child`, and on the writer that the pool gives to
    the hub, `Hub.consolidate_callback`.
    """
    workers = pool._pool
    if not _is_fair(workers) or workers._maxtasksperchild or workers._max_memory_per_child:
        return
    # After a reconnect `kombu.asynchronous.get_event_loop` gives none.
    write = hub.consolidate_callback
    idle = workers._all_inqueues - workers._active_writes - workers._busy_workers
    if idle and write is not None:
        # A child that has just died has closed its end: the pool gives the job to another one as
        # soon as it learns of that, as it does when its own write fails half-way.
        with suppress(BrokenPipeError, ConnectionResetError):
            write(list(idle))


def ask_when_due(
    pool: Any, hub: Any, before: Callable[[], None] | None
) -> Callable[[], None] | None:
    """Let the loop ask the prefork pool what is to be written only when something is.

    It does so in each turn, and with nothing to write the pool has the kernel forget the pipe of
    each idle child, which it does not know: a failing system call each.
    Relies on `AsynPool.on_poll_start`, `outbound_buffer`, and `Hub.consolidate`, which holds the
    pipes that the kernel watches for the pool.

    Args:
        pool: The worker's own.
        hub: Of the worker; the pool has registered with it.
        before: What this gave for the pool when it had registered before.
    """
    workers = pool._pool
    ask: Tick | None = getattr(workers, "on_poll_start", None)
    if ask is None or ask not in hub.on_tick:
        return before
    outbound, watched = workers.outbound_buffer, hub.consolidate

    def ask_if_due() -> None:
        if outbound or watched:
            ask()

    hub.on_tick -= {ask, before}
    hub.on_tick.add(ask_if_due)
    return ask_if_due


def tell(pool: Any, pid: int) -> None:
    """Send a child the signal of a soft time limit. Relies on billiard's `SIG_SOFT_TIMEOUT`."""
    if _living(pool, pid) is not None:
        os.kill(pid, signal.SIGUSR1)


def stop(pool: Any, pid: int) -> bool:
    """Stop a child where it is; tell whether it lives. It takes nothing from the pool meanwhile."""
    if _living(pool, pid) is None:
        return False
    os.kill(pid, signal.SIGSTOP)
    return True


def go_on(pool: Any, pid: int) -> None:
    """Let a child that was stopped go on; one that was not does not notice."""
    if _living(pool, pid) is not None:
        os.kill(pid, signal.SIGCONT)


def add_spare(pool: Any, count: int) -> None:
    """Let a prefork pool that has not started have more children. Relies on `BasePool.limit`."""
    pool.limit += count


def writes_ahead(pool: Any) -> bool:
    """Tell whether a prefork pool that has not started would write to busy children (`-O fast`).

    Relies on the option `sched_strategy` that the worker's Pool bootstep sets, and on the names in
    `celery.concurrency.asynpool.SCHED_STRATEGIES`.
    """
    return pool.options.get("sched_strategy") in {"fast", "fcfs"}


def hold_limit(pool: Any, hub: Any, request: Any) -> TimeLimit | None:
    """Stop the clock of a running request's time limit; None when it has none.

    Relies on `AsynPool._tref_for_id`, which has the timer entry of each job with a limit, and on
    `kombu.asynchronous.timer.Timer.queue`.
    """
    job = _job(request)
    entries = getattr(pool._pool, "_tref_for_id", None)
    entry = None if job is None or not entries else entries.pop(job._job, None)
    if entry is None:
        return None
    left_s = next((at - monotonic() for at, _, found in hub.timer.queue if found is entry), 0.0)
    entry.cancel()
    return left_s, entry.fun, entry.args


def release_limit(pool: Any, hub: Any, request: Any, limit: TimeLimit) -> None:
    """Let the clock of a time limit go on where `hold_limit` stopped it."""
    job = _job(request)
    if job is not None and not job.ready():
        left_s, act, args = limit
        pool._pool._tref_for_id[job._job] = hub.call_later(max(0.0, left_s), act, *args)


def kill(pool: Any, pid: int) -> None:
    """Kill a child; the pool replaces it, and says nothing of it in the log.

    Relies on the processes' `_controlled_termination`, which the pool's own `shrink` sets.
    """
    child = _living(pool, pid)
    if child is not None:
        child._controlled_termination = True
        os.kill(pid, signal.SIGKILL)


def end(request: Any, result: object) -> None:
    """End a request that runs in a child, with a result that the child did not give.

    Relies on what `fail` relies on; `ApplyResult._set` calls what `apply_async` got as `callback`.
    """
    job = _job(request)
    if job is not None and not job.ready():
        job._set(job._job, (True, result))


def fail(request: Any, error: Exception) -> None:
    """End a request that runs in a child as failed, as the pool does at a hard time limit.

    Relies on `Request._apply_result`, a reference to the pool's job, and on `ApplyResult.ready`,
    `_job` and `_set`, which calls the request's `on_failure`.
    """
    job = _job(request)
    if job is None or job.ready():
        return
    try:
        raise error from None
    except type(error):
        job._set(job._job, (False, ExceptionInfo()))


def retire(pool: Any, pid: int) -> bool:
    """Let an idle child go and be replaced before it gets another task; tell whether.

    To be called in the callback with which its task ends: nothing has been written to it since.
    Where the pool writes ahead to busy children (`-O fast`) it is left alone.
    Relies on `AsynPool.sched_strategy`, `_busy_workers` (descriptors that nothing is written to),
    and the processes' `inqW_fd` and `terminate_controlled`.
    """
    workers = pool._pool
    child = _living(pool, pid)
    if child is None or not _is_fair(workers):
        return False
    workers._busy_workers.add(child.inqW_fd)
    child.terminate_controlled()
    return True


def _is_fair(workers: Any) -> bool:
    """Tell whether the pool writes to idle children only."""
    # Loaded by the pool itself; workers with other pools have no use for it.
    from celery.concurrency.asynpool import SCHED_STRATEGY_FAIR  # noqa: PLC0415

    return bool(getattr(workers, "sched_strategy", None) == SCHED_STRATEGY_FAIR)


def _job(request: Any) -> Any:
    """Find the pool's job of a request; None when it has none any more."""
    return None if request._apply_result is None else request._apply_result()


def _child(pool: Any, pid: int) -> Any:
    """Find a child by its process."""
    for child in list(pool._pool._pool):
        if child.pid == pid:
            return child
    return None


def _living(pool: Any, pid: int) -> Any:
    """Find a child that lives; once it was waited for, its number may be another process's."""
    child = _child(pool, pid)
    return None if child is None or child.exitcode is not None else child
