"""Each undocumented attribute that `worker/seams/` relies on is still there.

A release of Celery, kombu or py-amqp that moves one must fail here, with its name, and not in
somebody's worker.
"""

from __future__ import annotations

import inspect
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from time import sleep, time
from types import SimpleNamespace
from typing import Any, ClassVar
from weakref import WeakValueDictionary, ref

import psutil
import pytest
from amqp import Channel as AmqpChannel
from amqp import Connection as AmqpConnection
from amqp import spec
from amqp.abstract_channel import AbstractChannel
from amqp.exceptions import UnexpectedFrame
from amqp.method_framing import frame_writer
from amqp.transport import TCPTransport
from billiard.einfo import ExceptionInfo
from billiard.pool import SIG_SOFT_TIMEOUT, ApplyResult, ResultHandler
from billiard.pool import Pool as BilliardPool
from billiard.pool import Worker as PoolWorker
from billiard.process import BaseProcess as Process
from celery import VERSION, Celery
from celery._state import get_current_task
from celery.app.trace import build_tracer
from celery.backends.base import Backend, BaseKeyValueStoreBackend
from celery.backends.rpc import RPCBackend
from celery.concurrency.asynpool import (
    SCHED_STRATEGIES,
    SCHED_STRATEGY_FAIR,
    SCHED_STRATEGY_FCFS,
    AsynPool,
)
from celery.concurrency.base import BasePool, apply_target
from celery.concurrency.eventlet import TaskPool as EventletPool
from celery.concurrency.gevent import TaskPool as GeventPool
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.solo import TaskPool as SoloPool
from celery.concurrency.thread import TaskPool as ThreadsPool
from celery.utils.log import current_process_index
from celery.worker import WorkController, components, state, strategy
from celery.worker.autoscale import WorkerComponent
from celery.worker.components import Pool, StateDB
from celery.worker.consumer.consumer import Consumer as CeleryConsumer
from celery.worker.consumer.mingle import Mingle
from celery.worker.request import Request
from kombu import Connection, Consumer, Queue
from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Timer
from kombu.transport.redis import Channel as RedisChannel
from kombu.transport.virtual import Message as VirtualMessage
from kombu.transport.virtual import QoS
from kombu.utils.limits import TokenBucket

from celery_budget import install
from celery_budget.app import BACKEND
from celery_budget.errors import BudgetRefused, TaskYielded
from celery_budget.worker import seams


def test_the_way_into_the_pool_is_found_behind_the_semaphore() -> None:
    """The dispatcher bounds what is submitted; the semaphore would hide what was not."""
    assert callable(WorkController._process_task)
    assert "self._process_task" in inspect.getsource(WorkController._process_task_sem)

    controller = SimpleNamespace(_process_task=print, _process_task_sem=repr)

    assert print is seams.process_task(SimpleNamespace(controller=controller, on_task_request=repr))
    assert len is seams.process_task(SimpleNamespace(controller=controller, on_task_request=len))


def test_the_autoscaler_tells_its_maximum() -> None:
    """A pool that grows only when more is reserved than fits must be offered more."""
    autoscaled = SimpleNamespace(controller=SimpleNamespace(autoscale=[8, 2], max_concurrency=8))
    fixed = SimpleNamespace(controller=SimpleNamespace(autoscale=None, max_concurrency=None))

    assert 8 == seams.most_slots(autoscaled)
    assert 0 == seams.most_slots(fixed)


def test_our_autoscaler_is_there_before_the_consumer() -> None:
    """The consumer's bootsteps ask for it when they are made."""
    ours, other = SimpleNamespace(is_budgeted=True), SimpleNamespace()
    assert "w.autoscaler = self.instantiate(" in inspect.getsource(WorkerComponent.create)
    assert [Pool] == list(WorkerComponent.requires)

    for found, expected in ((ours, ours), (other, None), (None, None)):
        consumer = SimpleNamespace(controller=SimpleNamespace(autoscaler=found))
        assert expected is seams.budget_autoscaler(consumer)
    assert seams.budget_autoscaler(SimpleNamespace(controller=SimpleNamespace())) is None


def test_the_prefork_pool_tells_its_size_from_what_it_runs() -> None:
    """Slots are asked for at each decision, so that pool_grow takes effect at once."""
    pool = SimpleNamespace(is_green=False, num_processes=3)
    assert 3 == seams.size(pool)()
    assert "_processes" in inspect.getsource(PreforkPool.num_processes.fget)
    assert "self._processes" in inspect.getsource(BilliardPool.__init__)


def test_a_pool_tells_how_it_runs_tasks() -> None:
    """What can be metered depends on it; of somebody else's pool nothing is assumed."""

    class Own(PreforkPool):
        """A pool of the user's, derived from Celery's."""

    kinds = [Own, PreforkPool, ThreadsPool, SoloPool, GeventPool, EventletPool, BasePool]

    assert ["prefork", "prefork", "threads", "solo", "green", "green", None] == [
        seams.pool_kind(pool.__new__(pool)) for pool in kinds
    ]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_knows_the_number_that_the_pool_gives_it() -> None:
    """It names the cell in which the one writes and the other reads."""
    processes = BilliardPool(2)
    try:
        children = {child.pid: child.index for child in processes._pool}
        pool = SimpleNamespace(_pool=processes)

        assert {0, 1} == {seams.child_index(pool, pid) for pid in children}
        assert seams.child_index(pool, -1) is None
        for _ in range(4):
            pid, index = processes.apply(_pid_and_index)
            assert children[pid] == index
            assert seams.child_index(pool, pid) == index
    finally:
        processes.terminate()


def _pid_and_index() -> tuple[int, int | None]:
    return os.getpid(), current_process_index(base=0)


def test_a_flush_keeps_the_tasks_that_children_run() -> None:
    """On Celery 5.6.0 it drops them, and their slots would stay busy for ever."""
    for name in ("_accepted", "_job", "ready"):
        assert name in dir(ApplyResult) or f"self.{name} " in inspect.getsource(ApplyResult), name
    assert "self._cache" in inspect.getsource(BilliardPool.__init__)

    class Job:
        def __init__(self, number: int, accepted: bool, ready: bool) -> None:
            self._job, self._accepted, self._ready = number, accepted, ready
            self._write_to = SimpleNamespace(inqW_fd=number * 10)

        def ready(self) -> bool:
            return self._ready

    running, waiting, done = Job(1, True, False), Job(2, False, False), Job(3, True, True)
    cache = {job._job: job for job in (running, waiting, done)}
    busy = {10, 20, 30}

    def drop() -> None:
        cache.clear()
        busy.clear()

    workers = SimpleNamespace(_cache=cache, _busy_workers=busy)
    seams.flush(SimpleNamespace(_pool=workers, flush=drop))

    assert {1: running} == cache
    assert {10} == busy
    clears = "self._busy_workers.clear()" in inspect.getsource(AsynPool.flush)
    assert clears == (VERSION[:2] == (5, 6))
    assert "job._write_to = proc" in inspect.getsource(AsynPool._create_write_handlers)
    assert "busy_workers" in inspect.getsource(AsynPool._create_write_handlers)
    seams.flush(SimpleNamespace(_pool=None))  # as a cold shutdown leaves it


def test_the_signal_of_a_soft_time_limit_is_that_of_ceilings() -> None:
    """The child's handler passes on what no ceiling has sent."""
    assert signal.SIGUSR1 == SIG_SOFT_TIMEOUT
    assert "signal.signal(SIG_SOFT_TIMEOUT" in inspect.getsource(PoolWorker.after_fork)


def test_a_killed_child_is_replaced_and_its_job_can_be_ended_first() -> None:
    """What the pool does at a hard time limit; other children live on."""
    processes = BilliardPool(2)
    pool = SimpleNamespace(_pool=processes)
    try:
        failures: list[ExceptionInfo] = []
        before = {child.pid for child in processes._pool}
        job = processes.apply_async(_sleep_for_ever, error_callback=failures.append)
        _wait_until(lambda: bool(job.worker_pids()))
        (pid,) = job.worker_pids()
        seams.kill(pool, pid)
        seams.fail(SimpleNamespace(_apply_result=ref(job)), BudgetRefused("a", "b"))
        seams.fail(SimpleNamespace(_apply_result=ref(job)), BudgetRefused("too", "late"))
        _wait_until(lambda: pid not in {child.pid for child in processes._pool})
        _wait_until(lambda: len(processes._pool) == 2)

        assert "_apply_result" in inspect.getsource(Request.execute_using_pool)
        assert ["('a', 'b')"] == [str(info.exception.exc.args) for info in failures]
        assert before - {pid} < {child.pid for child in processes._pool}
        assert all(child.exitcode is None for child in processes._pool)
        seams.kill(pool, pid)  # long gone: the number may be another process's
        seams.tell(pool, pid)
    finally:
        processes.terminate()


def test_the_job_of_a_killed_child_can_be_given_a_result() -> None:
    """An evicted task has not failed."""
    processes = BilliardPool(1)
    pool = SimpleNamespace(_pool=processes)
    try:
        results: list[object] = []
        job = processes.apply_async(_sleep_for_ever, callback=results.append)
        _wait_until(lambda: bool(job.worker_pids()))
        (pid,) = job.worker_pids()
        seams.kill(pool, pid)
        seams.end(SimpleNamespace(_apply_result=ref(job)), "left")
        seams.end(SimpleNamespace(_apply_result=ref(job)), "too late")
        seams.end(SimpleNamespace(_apply_result=None), "never submitted")

        assert ["left"] == results
    finally:
        processes.terminate()


def _sleep_for_ever() -> None:
    sleep(600)


def _wait_until(condition: Callable[[], bool]) -> None:
    give_up = time() + 60
    while not condition():
        assert time() < give_up
        sleep(0.01)


def test_a_job_is_written_to_an_idle_child_at_once() -> None:
    """The pool's own writer does it, to children that neither work nor are being written to."""
    writes = inspect.getsource(AsynPool._create_write_handlers)
    assert "hub.consolidate_callback = schedule_writes" in writes
    for name in ("all_inqueues", "active_writes", "busy_workers"):
        assert f"{name} = self._{name}" in writes
    made = inspect.getsource(BilliardPool.__init__)
    assert "self._maxtasksperchild = " in made
    assert "self._max_memory_per_child = " in made
    written: list[list[int]] = []
    hub = Hub()

    def hand_out(
        strategy: int, busy: set[int], tasks: int | None = None, memory: int | None = None
    ) -> None:
        workers = SimpleNamespace(
            sched_strategy=strategy,
            _all_inqueues={3, 4, 5},
            _active_writes={4},
            _busy_workers=busy,
            _maxtasksperchild=tasks,
            _max_memory_per_child=memory,
        )
        seams.hand_out(SimpleNamespace(_pool=workers), hub)

    try:
        hand_out(SCHED_STRATEGY_FAIR, {5})  # the pool has not told the hub of its writer
        hub.consolidate_callback = written.append
        hand_out(SCHED_STRATEGY_FAIR, {5})
        hand_out(SCHED_STRATEGY_FAIR, {3, 5})
        hand_out(SCHED_STRATEGY_FCFS, {5})
        hand_out(SCHED_STRATEGY_FAIR, {5}, tasks=9)
        hand_out(SCHED_STRATEGY_FAIR, {5}, memory=9)
        seams.hand_out(SimpleNamespace(_pool=SimpleNamespace()), hub)  # it writes by itself
    finally:
        hub.close()

    assert [[3]] == written


def test_the_pool_is_asked_for_writes_only_when_it_has_some() -> None:
    """Also after a reconnect, when Celery 5.6.0 has registered another callback."""
    registers = inspect.getsource(AsynPool.register_with_event_loop)
    assert "hub.on_tick.add(self.on_poll_start)" in registers
    writes = inspect.getsource(AsynPool._create_write_handlers)
    assert "outbound = self.outbound_buffer" in writes
    assert "None, WRITE | ERR, consolidate=True" in writes
    assert "self.consolidate.discard(fd)" in inspect.getsource(Hub._discard)
    asked: list[str] = []
    hub = Hub()
    workers = SimpleNamespace(on_poll_start=lambda: asked.append("first"), outbound_buffer=[])
    pool = SimpleNamespace(_pool=workers)
    try:
        assert seams.ask_when_due(SimpleNamespace(_pool=SimpleNamespace()), hub, None) is None
        hub.on_tick.add(workers.on_poll_start)
        first = seams.ask_when_due(pool, hub, None)
        assert first is seams.ask_when_due(pool, hub, first)
        workers.on_poll_start = lambda: asked.append("second")
        hub.on_tick.add(workers.on_poll_start)
        second = seams.ask_when_due(pool, hub, first)
        assert {second} == hub.on_tick
        assert second is not None

        second()
        workers.outbound_buffer.append("job")
        second()
        workers.outbound_buffer.clear()
        hub.consolidate.add(3)
        second()
    finally:
        hub.close()

    assert ["second", "second"] == asked


def test_a_child_is_stopped_and_goes_on() -> None:
    """A number that the pool no longer has may be another process's."""
    processes = BilliardPool(1)
    pool = SimpleNamespace(_pool=processes)
    (child,) = processes._pool
    try:
        assert seams.stop(pool, child.pid)
        _wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
        seams.go_on(pool, child.pid)
        _wait_until(lambda: psutil.Process(child.pid).status() != psutil.STATUS_STOPPED)
        assert not seams.stop(pool, os.getpid())
        seams.go_on(pool, os.getpid())
    finally:
        processes.terminate()


def test_a_pool_is_told_of_spare_children_before_it_starts() -> None:
    """Its size is read from `limit` then, and the worker's slots are the rest."""
    pool = PreforkPool(2, app=Celery(set_as_current=False), threads=False, forking_enable=True)
    seams.add_spare(pool, 3)

    assert "processes=self.limit" in inspect.getsource(PreforkPool.on_start)
    assert 5 == pool.limit
    assert 2 == seams.size(SimpleNamespace(is_green=False, num_processes=5), 3)()


def test_a_pool_tells_whether_it_would_write_ahead() -> None:
    """By what the worker's `-O` was."""
    ahead = {name for name, strategy in SCHED_STRATEGIES.items() if strategy == SCHED_STRATEGY_FCFS}
    made = inspect.getsource(components.Pool.create)
    assert "sched_strategy=self.optimization" in made
    for name in SCHED_STRATEGIES:
        pool = PreforkPool(1, sched_strategy=name)
        assert seams.writes_ahead(pool) == (name in ahead)


def test_the_clock_of_a_time_limit_can_be_stopped() -> None:
    """The pool keeps a timer of its own for each job that has one."""
    source = inspect.getsource(AsynPool._create_timelimit_handlers)
    assert "trefs = self._tref_for_id = WeakValueDictionary()" in source
    assert "trefs[R._job] = call_later(" in source
    ended: list[int] = []
    hub = Hub()
    job = SimpleNamespace(_job=7, ready=lambda: False)
    request = SimpleNamespace(_apply_result=lambda: job)
    workers = SimpleNamespace(_tref_for_id=WeakValueDictionary())
    pool = SimpleNamespace(_pool=workers)
    try:
        assert seams.hold_limit(pool, hub, request) is None
        workers._tref_for_id[7] = first = hub.call_later(60, ended.append, 7)
        held = seams.hold_limit(pool, hub, request)
        assert held is not None
        assert first.canceled
        assert 59 < held[0] <= 60
        assert 7 not in workers._tref_for_id
        seams.release_limit(pool, hub, request, (0.0, *held[1:]))
        second = workers._tref_for_id[7]
        hub.fire_timers()
        assert [7] == ended
        assert not second.canceled
        job.ready = lambda: True
        seams.hold_limit(pool, hub, request)
        seams.release_limit(pool, hub, request, held)
        assert 7 not in workers._tref_for_id
        request._apply_result = None
        assert seams.hold_limit(pool, hub, request) is None
    finally:
        hub.close()


def test_an_idle_child_can_be_sent_away_without_losing_a_task() -> None:
    """Nothing is written to a child that counts as busy, until it is gone."""
    handlers = inspect.getsource(AsynPool._create_process_handlers)
    assert "busy_workers.discard(inq)" in handlers
    writes = inspect.getsource(AsynPool._create_write_handlers)
    assert "is_fair_strategy and ready_fd in busy_workers" in writes
    assert "self._mark_worker_as_available(inqW_fd)" in inspect.getsource(AsynPool.on_job_ready)
    ready = inspect.getsource(ResultHandler._make_methods)
    assert ready.index("on_job_ready(job, i, obj, inqW_fd)") < ready.index("item._set(i, obj)")
    assert callable(Process.terminate_controlled)

    ended: list[bool] = []
    child = SimpleNamespace(
        pid=7, exitcode=None, inqW_fd=3, terminate_controlled=lambda: ended.append(True)
    )

    def workers(strategy: int) -> SimpleNamespace:
        return SimpleNamespace(_pool=[child], sched_strategy=strategy, _busy_workers=set())

    fair, fast = workers(SCHED_STRATEGY_FAIR), workers(SCHED_STRATEGY_FCFS)
    assert seams.retire(SimpleNamespace(_pool=fair), 7)
    assert {3} == fair._busy_workers
    assert not seams.retire(SimpleNamespace(_pool=fast), 7)
    assert not seams.retire(SimpleNamespace(_pool=fair), 8)
    assert [True] == ended


@pytest.mark.parametrize("pool", [GeventPool, EventletPool])
def test_a_green_pool_tells_its_size(pool: type) -> None:
    """What the gevent pool of Celery 5.6 tells otherwise are its running greenlets."""
    assert "self._pool.size" in inspect.getsource(pool.grow) or pool is EventletPool
    assert pool.is_green

    green = SimpleNamespace(is_green=True, limit=3, _pool=None)
    size = seams.size(green)

    assert 3 == size()
    green._pool = SimpleNamespace(size=4)
    assert 4 == size()


@pytest.mark.parametrize("pool", [GeventPool, EventletPool])
def test_a_green_pool_keeps_its_greenlets_in_order(pool: type) -> None:
    """The newest one is the one just submitted; eventlet's pool does not return it."""
    assert "pool_map" in inspect.getsource(pool._add_to_pool_map)

    newest = object()

    assert newest is seams.newest_greenlet(SimpleNamespace(_pool_map={1: object(), 2: newest}))


def test_a_request_is_forgotten_by_the_books_of_the_worker() -> None:
    """What goes back to the broker must not be counted as reserved for ever."""

    class Request:
        id = "forgotten"

    request = Request()
    state.requests["forgotten"] = request
    state.reserved_requests.add(request)

    seams.forget(request)

    assert "forgotten" not in state.requests
    assert request not in state.reserved_requests


def test_a_refused_request_ends_as_failed() -> None:
    """Its sender gets an answer, and its message is accounted for."""
    app = Celery("refusing", backend="cache+memory://", set_as_current=False)

    @app.task(name="refused", shared=False)
    def refused() -> None:
        """Never run."""

    acknowledged: list[bool] = []
    message = SimpleNamespace(delivery_info={}, properties={}, headers={})
    request = Request(
        message,
        app=app,
        task=refused,
        body=([], {}, {}),
        headers={"id": "1", "task": "refused"},
        decoded=True,
        on_ack=lambda *_: acknowledged.append(True),
    )
    seams.refuse(request, BudgetRefused("fleet usd", "budgets.fleet.usd"))

    assert [True] == acknowledged
    assert "FAILURE" == app.AsyncResult("1").state
    assert isinstance(app.AsyncResult("1").result, BudgetRefused)


def test_a_request_sends_its_events_through_an_eventer_that_can_be_replaced() -> None:
    """The one of a started request adds the bill."""
    sent: list[tuple[str, dict[str, object]]] = []

    class Eventer:
        enabled = True

        def send(self, kind: str, /, **fields: object) -> None:
            sent.append((kind, fields))

    app = Celery("telling", set_as_current=False)
    app.conf.worker_send_task_events = True
    request = _request(app, eventer=SimpleNamespace(enabled=False))
    request.eventer = Eventer()
    request.send_event("task-succeeded", result="1")

    assert [("task-succeeded", {"uuid": "1", "result": "1"})] == sent


@pytest.mark.parametrize(
    ("eventer", "is_told"),
    [
        (None, False),
        ({"enabled": False, "groups": ["task"]}, False),
        ({"enabled": True, "groups": ["worker"]}, False),
        ({"enabled": True, "groups": ["worker", "task"]}, True),
        ({"enabled": True, "groups": None}, True),
    ],
    ids=str,
)
def test_events_of_tasks_are_sent_where_somebody_asked(
    eventer: dict[str, Any] | None, is_told: bool
) -> None:
    """A worker without -E has an eventer too, for its own events."""
    app = Celery("telling", broker="memory://", set_as_current=False)
    with app.connection_for_write() as connection:
        made = eventer and app.events.Dispatcher(connection, **eventer)
        assert is_told is seams.is_told(_request(app, eventer=made))


def _request(app: Celery, eventer: object) -> Request:
    @app.task(name="told", shared=False)
    def told() -> None:
        """Never run."""

    return Request(
        SimpleNamespace(delivery_info={}, properties={}, headers={}),
        app=app,
        task=told,
        body=([], {}, {}),
        headers={"id": "1", "task": "told"},
        decoded=True,
        eventer=eventer,
    )


def test_backends_store_what_one_method_returns() -> None:
    """The bill is added to it; SQL and others take from it what they have columns for."""
    names = list(inspect.signature(Backend._get_result_meta).parameters)

    assert ["self", "result", "state", "traceback", "request"] == names[:5]
    for store in (BaseKeyValueStoreBackend._store_result, RPCBackend._to_result):
        # The rpc backend of Celery 5.6 extends no results.
        is_extended = "self._get_result_meta(" in inspect.getsource(store)
        assert is_extended or (store is RPCBackend._to_result and VERSION < (5, 7))


def test_an_app_makes_its_backend_by_a_name() -> None:
    """Ours chooses the class when the app first needs it."""
    assert "(app=self, url=url)" in inspect.getsource(Celery._get_backend)

    app = Celery("named", backend="rpc://", set_as_current=False)
    install(app)

    assert BACKEND == app.backend_cls
    assert type(app.backend) is RPCBackend


def test_a_result_has_all_that_was_stored_with_it() -> None:
    """Its public attributes tell only what Celery itself stores."""
    result = Celery("stored", set_as_current=False).AsyncResult("1", backend=_Stored())

    assert {"status": "SUCCESS", "other": 5} == result._get_task_meta()


class _Stored:
    """A result backend of one result."""

    def get_task_meta(self, task_id: str) -> dict[str, object]:
        return {"status": "SUCCESS", "other": 5}

    def meta_from_decoded(self, meta: dict[str, object]) -> dict[str, object]:
        return meta

    def add_pending_result(self, *args: object, **options: object) -> None:
        """Wait for nothing."""

    def remove_pending_result(self, result: object) -> None:
        """Wait for nothing."""


@pytest.mark.parametrize("asked", ["should_stop", "should_terminate"])
def test_a_shutdown_is_seen_where_celery_s_own_loop_sees_it(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What becomes free then must stay empty."""
    assert f"{asked} is not None and {asked} is not False" in inspect.getsource(
        state.maybe_shutdown
    )
    for value, is_stopping in ((None, False), (False, False), (True, True), (0, True), (1, True)):
        monkeypatch.setattr(state, asked, value)
        assert is_stopping == seams.is_stopping()


def test_revoked_ids_are_the_ones_that_requests_ask() -> None:
    """Cancelling a held task is revoking it."""
    assert state.revoked is seams.revoked_ids()


def test_requests_that_wait_for_their_eta_are_arguments_of_timer_entries() -> None:
    """What is held back by an ETA or a rate limit is part of a task's status."""

    class Request:
        request_dict: ClassVar[dict[str, object]] = {}

    request = Request()
    timer = Timer()
    timer.call_at(time() + 60, print, (request, 1), priority=6)
    timer.call_repeatedly(60, print)
    consumer = SimpleNamespace(timer=timer)

    assert [request] == seams.scheduled(consumer)
    assert "(req,), priority=6" in inspect.getsource(strategy.default)
    if not hasattr(state, "scheduled_requests"):  # Celery 5.6
        assert 1 == seams.parked(consumer)
        return
    state.scheduled_requests.add(request)
    try:
        assert 1 == seams.parked(consumer)
    finally:
        state.scheduled_requests.discard(request)


def test_requests_behind_a_rate_limit_are_in_their_task_s_bucket() -> None:
    """Nothing else in the worker knows of them."""
    bucket = TokenBucket(1.0)
    CeleryConsumer._limit_task(
        SimpleNamespace(_schedule_bucket_request=lambda _bucket: None), "request", bucket, 1
    )
    consumer = SimpleNamespace(task_buckets={"limited": bucket, "free": None})

    assert ["request"] == seams.rate_limited(consumer)


def test_the_worker_knows_what_it_has_fetched_and_what_the_pool_accepted() -> None:
    """The status of a task, and which slots are lost with a connection, come from there."""

    class Request:
        id = name = "fetched"

    request = Request()
    state.task_reserved(request)
    try:
        assert (request, False) == seams.fetched("fetched")
        assert not seams.is_accepted(request)
        state.task_accepted(request)
        assert (request, True) == seams.fetched("fetched")
        assert seams.is_accepted(request)
    finally:
        state.task_ready(request)
    assert seams.fetched("fetched") is None


def test_a_gated_channel_is_polled_only_with_room() -> None:
    """Redis windows are this handle, the one that `worker_disable_prefetch` uses."""
    assert callable(QoS.can_consume)
    assert callable(QoS.can_consume_max_estimate)

    assert hasattr(RedisChannel, "_in_poll")
    with Connection("memory://") as connection:
        channel = connection.channel()
        channel._in_poll = None
        room = 0
        seams.gate(channel, lambda: room)

        assert not channel.qos.can_consume()
        room = 2
        assert channel.qos.can_consume()
        assert 2 == channel.qos.can_consume_max_estimate()


def test_a_redis_channel_claims_and_acknowledges_through_one_client() -> None:
    """kombu makes one for each command, which costs more than the command."""
    assert "self._create_client()" in inspect.getsource(RedisChannel.conn_or_acquire)

    class Client:
        def __init__(self, connection_pool: object) -> None:
            self.connection_pool = connection_pool

    class Channel:
        pool: object = "first"

        def _create_client(self, asynchronous: bool = False) -> Client:
            return Client("waiting" if asynchronous else self.pool)

    channel = Channel()
    seams.reuse_client(channel)
    first = channel._create_client()

    assert first is channel._create_client()
    assert channel._create_client(asynchronous=True) is not channel._create_client(True)
    channel.pool = "second"  # as after a lost connection
    assert "second" == channel._create_client().connection_pool


def test_amqp_frames_can_be_sent_without_waiting() -> None:
    """A round trip to the broker in the event loop would stop everything else."""
    sent: list[tuple[object, ...]] = []

    class Channel:
        def send_method(self, *frame: object, **given: object) -> None:
            sent.append(frame)

    assert "wait" in inspect.signature(AmqpChannel.send_method).parameters
    assert AmqpChannel._on_basic_cancel_ok is not None
    seams.send_prefetch(Channel(), 3)
    seams.send_cancel(SimpleNamespace(channel=Channel(), _active_tags={"q": "t"}), ["q"])

    assert [
        (spec.Basic.Qos, "lBb", (0, 3, False)),
        (spec.Basic.Cancel, "sb", ("t", False)),
    ] == sent


def test_an_acknowledgement_is_the_frame_that_py_amqp_would_send() -> None:
    """It is made without py-amqp's writer, which takes longer than the broker does."""
    sent: list[bytes] = []
    connection = SimpleNamespace(transport=SimpleNamespace(write=sent.append), bytes_sent=0)
    connection.frame_max = 131_072
    writer = frame_writer(connection, SimpleNamespace(write=lambda view: sent.append(bytes(view))))
    connection.frame_writer = writer
    channel = SimpleNamespace(connection=connection, channel_id=3)
    seams.acknowledge_directly(channel)
    for tag, multiple in ((1, False), (2**40, True)):
        channel.basic_ack(tag, multiple=multiple)
        AbstractChannel.send_method(channel, spec.Basic.Ack, "Lb", (tag, multiple))

    assert sent[0] == sent[1]
    assert sent[2] == sent[3]
    assert 4 == connection.bytes_sent
    assert ["delivery_tag", "multiple"] == list(
        inspect.signature(AmqpChannel.basic_ack).parameters
    )[1:3]
    channel.connection = None
    with pytest.raises(AmqpConnection.recoverable_connection_errors):
        channel.basic_ack(3)


class Frames:
    """An AMQP connection of which only the socket is real."""

    def __init__(self, sock: socket.socket) -> None:
        self.transport = TCPTransport("localhost:1")
        self.transport.sock = sock
        self.transport._setup_transport()
        self.seen: list[tuple[int, int, bytes]] = []
        self.more: Callable[[], object] = lambda: None

    def on_inbound_frame(self, frame: tuple[int, int, bytes]) -> None:
        self.seen.append((frame[0], frame[1], bytes(frame[2])))
        self.more()


def frame(number: int, size: int) -> bytes:
    """Make a frame of type 1 on a channel of that number."""
    return struct.pack(">BHI", 1, number, size) + bytes(size) + b"\xce"


@pytest.fixture
def frames() -> Iterator[tuple[Frames, socket.socket, Callable[[], None]]]:
    """Offer a connection, the broker's end of it, and what the event loop calls."""
    ours, brokers = socket.socketpair()
    with ours, brokers:
        connection = Frames(ours)
        readers: list[Callable[[], None]] = []
        hub = SimpleNamespace(add_reader=lambda _fd, reader: readers.append(reader))
        seams.read_in_bulk(connection, hub)
        yield connection, brokers, readers[0]


def test_all_frames_of_a_socket_are_read_at_once(
    frames: tuple[Frames, socket.socket, Callable[[], None]],
) -> None:
    """Nine reads a message are a large part of what a short task costs."""
    connection, broker, read = frames
    whole = frame(1, 0) + frame(2, 300) + frame(3, 5)
    broker.sendall(whole[:-3])
    read()

    assert [(1, 1, b""), (1, 2, bytes(300))] == connection.seen
    read()  # nothing has come
    broker.sendall(whole[-3:])
    read()
    assert (1, 3, bytes(5)) == connection.seen[-1]
    assert b"" == connection.transport._read_buffer


def test_a_frame_that_makes_py_amqp_wait_leaves_it_the_next_ones(
    frames: tuple[Frames, socket.socket, Callable[[], None]],
) -> None:
    """A remote control command may declare a queue and read on until the broker's answer."""
    connection, broker, read = frames
    waited = []

    def wait() -> None:
        connection.more = lambda: None
        waited.append(connection.transport.read_frame()[1])

    connection.more = wait
    broker.sendall(frame(1, 9) + frame(2, 9) + frame(3, 9))
    read()

    assert [2] == waited
    assert [1, 3] == [channel for _, channel, _ in connection.seen]


def test_a_closed_or_garbled_connection_is_lost_and_not_read_on(
    frames: tuple[Frames, socket.socket, Callable[[], None]],
) -> None:
    """Celery reconnects at these errors; anything else would end the worker, or spin it."""
    connection, broker, read = frames
    broker.sendall(frame(1, 4)[:-1] + b"\0")
    with pytest.raises(UnexpectedFrame):
        read()
    broker.close()
    with pytest.raises(OSError, match="closed"):
        read()

    assert not connection.transport.connected
    assert issubclass(UnexpectedFrame, AmqpConnection.connection_errors)


def test_a_consumer_starts_each_queue_without_waiting() -> None:
    """kombu's public `consume` waits for the answer to the last one."""
    with Connection("memory://") as connection, connection.channel() as channel:
        consumer = Consumer(channel, [Queue("a"), Queue("b"), Queue("c")], on_message=print)
        tags = seams.send_consume(consumer, ["a", "c"])

        assert {"a", "c"} == set(tags)
        assert tags == consumer._active_tags


def test_a_redis_channel_asks_its_queues_in_the_order_it_is_told() -> None:
    """kombu's own round robin knows nothing of who waits in a lane."""
    source = inspect.getsource(RedisChannel)
    came: list[str] = []

    class Channel:
        active_queues: ClassVar = {"a", "b", "c"}
        _update_queue_cycle = RedisChannel._update_queue_cycle

    channel: Any = Channel()
    seams.take_turns(channel, lambda queues: sorted(queues, reverse=True), came.append)

    assert ["c", "b"] == channel._queue_cycle.consume(2)
    assert "b" == channel._queue_cycle.rotate("b")
    assert ["b"] == came
    assert "self._queue_cycle.consume(len(self.active_queues))" in source
    assert source.index("self._queue_cycle.rotate(dest)") < source.index(
        "self.connection._deliver(loads(bytes_to_str(item)), dest)"
    )


def test_redis_channels_keep_the_names_that_giving_back_uses() -> None:
    """Held messages go back with kombu's own keys and format, or a stock worker loses them."""
    for name in (
        "_do_restore_message",
        "_get_message_priority",
        "_q_for_pri",
        "ack_emulation",
        "conn_or_acquire",
        "global_keyprefix",
        "priority_steps",
        "unacked_index_key",
        "unacked_key",
    ):
        assert hasattr(RedisChannel, name), name
    assert hasattr(QoS, "ack")
    assert "self._qos" in inspect.getsource(RedisChannel.qos.fget)
    assert hasattr(QoS, "_flush")
    assert hasattr(QoS, "_delivered")
    assert "_quick_ack" in inspect.getsource(QoS.__init__)


def test_a_message_can_be_sent_again_with_other_headers() -> None:
    """tests/integration/test_returns.py does it on both brokers."""
    assert hasattr(VirtualMessage, "serializable")
    parameters = inspect.signature(AbstractChannel.send_method).parameters
    assert ["self", "sig", "format", "args", "content"] == list(parameters)[:5]
    assert "spec.Basic.Publish, argsig" in inspect.getsource(AmqpChannel._basic_publish)
    assert "Bssbb" in inspect.getsource(AmqpChannel._basic_publish)


def test_an_execution_may_end_by_what_is_no_exception() -> None:
    """Celery's tracer lets it through, with its own clean-up done, and stores no result."""
    app = Celery("seams", broker="memory://", backend="cache+memory://", set_as_current=False)

    @app.task(name="seams.leaving", shared=False)
    def leaving() -> None:
        """Leave its slot."""
        raise TaskYielded

    tracer = build_tracer("seams.leaving", leaving, app=app)
    with pytest.raises(TaskYielded):
        tracer("leaving", (), {}, {"id": "leaving"})

    assert get_current_task() is None
    assert leaving.request_stack.top is None
    assert "PENDING" == app.AsyncResult("leaving").state


def test_a_pool_in_one_process_gives_what_its_target_returned() -> None:
    """Threads and greenlets: what an execution that has left returns is no result."""
    results: list[object] = []
    apply_target(lambda: "left", callback=results.append)

    assert ["left"] == results


def test_mingle_hands_over_what_other_workers_answer() -> None:
    """Moves are learned with revokes, before the first message."""
    assert "self.sync_with_node" in inspect.getsource(Mingle.on_node_reply)
    assert seams.MINGLE == Mingle.name


def test_the_state_database_is_where_the_worker_keeps_it() -> None:
    """Moves outlive a restart only there."""
    assert "w._persistence" in inspect.getsource(StateDB.create)
    assert seams.persistence(SimpleNamespace(controller=SimpleNamespace(_persistence=None))) is None


def test_current_task_is_found_where_celery_keeps_it() -> None:
    """Children inherit from the task under which they are published."""
    app = Celery("seams", broker="memory://", set_as_current=False)

    @app.task(name="seams.outer")
    def outer() -> str:
        from celery._state import get_current_task

        return get_current_task().name

    assert "seams.outer" == outer.apply().get()
