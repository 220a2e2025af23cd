"""Slots seen at the pool: which tickets occupy one, and when each is free again.

`SlotPool` stands where the consumer expects its pool, so that the request classes Celery builds
submit through it. It changes nothing about how a task runs; it only watches it end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.concurrency.base import BasePool

from celery_budget.board import YIELDED, PoolKind
from celery_budget.worker import seams
from celery_budget.worker.intake import Held

Ended = Callable[[Held], None]


class Outcomes:
    """How executions ended since somebody asked."""

    __slots__ = ("_ended", "_failed")

    def __init__(self) -> None:
        self._ended = self._failed = 0

    def note(self, result: object) -> None:
        """Count one, by what the tracer of tasks gave: whether it failed, its result, its time."""
        self._ended += 1
        self._failed += bool(isinstance(result, tuple | list) and result and result[0])

    def take(self) -> float:
        """Tell the part that failed, and begin anew; 0.0 where none ended."""
        part = self._failed / self._ended if self._ended else 0.0
        self._ended = self._failed = 0
        return part


#: Called by the pool instead of a target: the run's number, the target, then its arguments.
Metered = Callable[..., Any]


class SlotPool:
    """The worker's pool, telling when a submitted ticket has left its slot.

    How a pool says that a task is over differs: prefork calls one of two callbacks, whatever
    happened to the child; a thread's future is done; a greenlet is dead; the solo pool returns.

    Args:
        pool: The worker's own.
        ended: Called with a ticket that has left its slot.
        metered: Meters what is called through it; None where nothing is metered.
        hub: The event loop of the worker; None without one.
        spare: Processes of the pool beside its slots.
    """

    def __init__(
        self,
        pool: BasePool,
        ended: Ended,
        metered: Metered | None = None,
        hub: Any = None,
        *,
        spare: int = 0,
    ) -> None:
        self._pool = pool
        self._ended = ended
        self._metered = metered
        self._expected: dict[str, Held] = {}
        #: Counts how executions ended; None where nobody asks.
        self.outcomes: Outcomes | None = None
        #: Told of a child that is about to get a signal.
        self.before_signal: Callable[[int], None] | None = None
        self._spare = spare
        self._watch = _watcher(pool)
        #: Whether a submission runs the task to its end before it returns.
        self.runs_inline = self._watch is _watch_return
        #: Whether the consumer's `flush`, after a connection loss, drops what no child has taken.
        self.discards = seams.pool_kind(pool) is PoolKind.PREFORK
        self._hub = hub if self.discards else None
        self._ask: Callable[[], None] | None = None
        #: Whether tasks end in threads of their own.
        self.is_threaded = self._watch is _watch_future

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def flush(self) -> None:
        """Drop what no child has taken; the consumer asks for it when the connection is lost."""
        if self.discards:
            seams.flush(self._pool)
        else:
            self._pool.flush()

    def registered(self) -> None:
        """Take note that the pool has registered with the event loop; again after a reconnect."""
        if self._hub is not None:
            self._ask = seams.ask_when_due(self._pool, self._hub, self._ask)

    @property
    def num_processes(self) -> int:
        """Slots; processes beside them do not count."""
        return int(self._pool.num_processes) - self._spare

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Send a child a signal, as `revoke(terminate=True)` does; a frozen one goes on for it."""
        self._pool.terminate_job(pid, signal)
        if self.before_signal is not None:
            self.before_signal(pid)

    def expect(self, held: Held) -> None:
        """The next submission of this task id belongs to `held`."""
        self._expected[held.id] = held

    def is_pending(self, held: Held) -> bool:
        """Tell, and forget, whether `held` was expected and never submitted."""
        return self._expected.pop(held.id, None) is not None

    def apply_async(
        self,
        target: Callable[..., object],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
        **options: Any,
    ) -> Any:
        """Submit as the pool does, and watch for the end of the slot's use."""
        held = self._expected.pop(options.get("correlation_id", ""), None)
        if held is None:
            return self._pool.apply_async(target, args, kwargs, **options)
        if self._metered is not None:
            target, args = self._metered, (held.run, target, *args)
            options["callback"] = _unless_left(held, options["callback"])
        if self.outcomes is not None:
            options["callback"] = _counted(self.outcomes, options["callback"])
        result = self._watch(self._pool, held, self._ended, target, args, kwargs, options)
        if self._hub is not None:
            seams.hand_out(self._pool, self._hub)
        return result


def _unless_left(held: Held, callback: Callable[[object], object]) -> Callable[[object], None]:
    """Keep the result of an execution that is no result: it has left, and is to be run again."""

    def on_result(result: object) -> None:
        if result == YIELDED:
            held.has_left = True
        else:
            callback(result)

    return on_result


def _counted(outcomes: Outcomes, callback: Callable[[object], object]) -> Callable[[object], None]:
    """Count how an execution ended; one that has left has not."""

    def on_result(result: object) -> None:
        if result != YIELDED:
            outcomes.note(result)
        callback(result)

    return on_result


def _watcher(pool: BasePool) -> Callable[..., Any]:
    """Choose how to see a slot become free. A pool of somebody else's counts as prefork-like."""
    if pool.is_green:
        return _watch_greenlet
    module = type(pool).__module__
    if module == "celery.concurrency.thread":
        return _watch_future
    if module == "celery.concurrency.solo":
        return _watch_return
    return _watch_callbacks


def _watch_callbacks(
    pool: BasePool,
    held: Held,
    ended: Ended,
    target: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object] | None,
    options: dict[str, Any],
) -> Any:
    callback, error_callback = options["callback"], options["error_callback"]

    def on_result(result: object) -> None:
        try:
            callback(result)
        finally:
            ended(held)

    def on_error(info: object) -> None:
        try:
            error_callback(info)
        finally:
            ended(held)

    options["callback"] = on_result
    options["error_callback"] = on_error
    return pool.apply_async(target, args, kwargs, **options)


def _watch_future(
    pool: BasePool,
    held: Held,
    ended: Ended,
    target: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object] | None,
    options: dict[str, Any],
) -> Any:
    result = pool.apply_async(target, args, kwargs, **options)
    result.f.add_done_callback(lambda _future: ended(held))
    return result


def _watch_greenlet(
    pool: BasePool,
    held: Held,
    ended: Ended,
    target: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object] | None,
    options: dict[str, Any],
) -> Any:
    result = pool.apply_async(target, args, kwargs, **options)
    # Linked last, so the pool has its own place free again when `ended` starts the next.
    seams.newest_greenlet(pool).link(lambda *_: ended(held))
    return result


def _watch_return(
    pool: BasePool,
    held: Held,
    ended: Ended,
    target: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object] | None,
    options: dict[str, Any],
) -> Any:
    try:
        return pool.apply_async(target, args, kwargs, **options)
    finally:
        ended(held)
