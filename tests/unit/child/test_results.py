"""Results with a bill: which backend an app gets, and whose bill is stored."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.backends.base import Backend, DisabledBackend
from celery.backends.cache import CacheBackend
from celery.backends.rpc import RPCBackend
from celery.result import AsyncResult
from celery.utils import uuid

from celery_budget import Bill, budget, install
from celery_budget.board import PoolKind
from celery_budget.child.meter import Meter
from celery_budget.headers import HEADER, Stamp, write
from celery_budget.local_board import LocalBoard

MEMORY = "cache+memory://"
RESOURCES = ("cpu", "usd")
RUN = 3


class OwnBackend(CacheBackend):
    """What a user names by class."""


def made_elsewhere(app: Celery, url: str | None) -> Backend:
    """Make a backend in a way of the user's own."""
    return OwnBackend(app, backend="memory", url=url)


def app_with(backend: str | None = MEMORY, **settings: object) -> Celery:
    """Make an app, as its author would."""
    app = Celery("billed", broker="memory://", backend=backend, set_as_current=False)
    app.conf.update(settings)
    return app


def run(app: Celery, body: Callable[[], object], board: LocalBoard | None = None) -> AsyncResult:
    """Run a function as a metered task, degraded, whose result is stored."""

    def ran() -> None:
        body()

    task = app.task(ran, name="body", shared=False)
    meter = Meter(board or LocalBoard(), RESOURCES, PoolKind.SOLO)
    tracer = build_tracer(task.name, task, app=app)
    task_id = uuid()  # one memory is behind all caches
    header = write(Stamp("slow", tenant="acme"))
    meter.call(RUN, tracer, task_id, (), {}, {"id": task_id, HEADER: header})
    return app.AsyncResult(task_id)


@pytest.mark.parametrize(
    ("backend", "kind"),
    [
        (None, DisabledBackend),
        ("disabled://", DisabledBackend),
        (MEMORY, CacheBackend),
        ("rpc://", RPCBackend),
        (f"{__name__}.OwnBackend", OwnBackend),
    ],
    ids=str,
)
def test_without_extended_results_the_backend_is_the_one_it_was(
    backend: str | None, kind: type[Backend]
) -> None:
    """Somebody may look at its class."""
    app = app_with(backend, cache_backend="memory")
    install(app)

    assert type(app.backend) is kind


@pytest.mark.parametrize("named", [f"{__name__}:OwnBackend", MEMORY])
@pytest.mark.parametrize("is_extended", [False, True])
def test_the_backend_of_an_author_who_named_it_outside_of_the_settings_is_kept(
    named: str, is_extended: bool
) -> None:
    """`backend_cls` goes before the setting in Celery."""
    app = app_with("rpc://", result_extended=is_extended, cache_backend="memory")
    app.backend_cls = named
    install(app)
    kind = CacheBackend if named == MEMORY else OwnBackend

    assert isinstance(app.backend, kind)
    assert (type(app.backend) is kind) is not is_extended


def test_a_backend_that_is_made_by_a_function_is_left_alone() -> None:
    """What it makes cannot be known before."""
    app = app_with(result_extended=True)
    app.backend_cls = f"{__name__}:made_elsewhere"
    install(app)

    assert type(app.backend) is OwnBackend


def test_settings_that_change_after_install_decide() -> None:
    """Django's settings are complete long after the line that installs."""
    app = app_with("rpc://")
    install(app)
    install(app)
    app.conf.result_backend = MEMORY
    app.conf.result_extended = True
    result = run(app, lambda: budget.charge(usd=1))

    assert isinstance(app.backend, CacheBackend)
    assert 1_000_000 == Bill.of(result).usage["usd"]


def test_each_app_keeps_its_own_backend() -> None:
    """One process may hold several apps of one name."""
    apps = [app_with(url, result_extended=True) for url in (MEMORY, "rpc://")]
    for app in apps:
        install(app)

    assert isinstance(apps[0].backend, CacheBackend)
    assert isinstance(apps[1].backend, RPCBackend)


def test_a_result_travels_with_its_backend() -> None:
    """Results that are pickled name the class of their backend."""
    app = app_with(result_extended=True)
    install(app)
    app.set_current()
    restored = pickle.loads(pickle.dumps(app.AsyncResult("1")))

    assert type(restored.backend) is CacheBackend
    assert "1" == restored.id


def test_a_result_tells_what_was_used_until_it_was_stored() -> None:
    """Storing belongs to the execution and cannot be part of what it stores."""
    app = app_with(result_extended=True)
    install(app)
    board = LocalBoard()
    bill = Bill.of(run(app, lambda: budget.charge(usd=1), board))
    final = board.read(RUN, None).units(("usd",))

    assert ("slow", "acme", True) == (bill.band, bill.tenant, bill.degraded)
    assert {"runtime", "cpu", "usd"} == set(bill.usage) == set(final)
    assert 1_000_000 == bill.usage["usd"]
    assert 0 < bill.usage["runtime"] <= final["runtime"]
    assert 0 < bill.usage["cpu"] <= final["cpu"]


def test_a_state_of_the_tasks_own_has_the_bill_so_far() -> None:
    """Whoever shows progress can show what it costs."""
    app = app_with(result_extended=True)
    install(app)
    seen = []

    def body() -> None:
        budget.charge(usd=1)
        task = app.tasks["body"]
        task.update_state(state="HALF")
        seen.append(Bill.of(app.AsyncResult(task.request.id)))
        budget.charge(usd=1)

    result = run(app, body)

    assert [1_000_000] == [bill.usage["usd"] for bill in seen]
    assert 2_000_000 == Bill.of(result).usage["usd"]


def test_the_result_of_an_eager_call_in_a_body_has_no_bill() -> None:
    """It would be that of another task."""
    app = app_with(result_extended=True, task_store_eager_result=True)
    install(app)

    @app.task(name="inner", shared=False)
    def inner() -> None:
        """Do nothing."""

    task_id = uuid()
    result = run(app, lambda: inner.apply(task_id=task_id))

    assert "SUCCESS" == app.AsyncResult(task_id).state
    assert Bill.of(app.AsyncResult(task_id)) is None
    assert Bill.of(result) is not None


def test_a_fork_of_an_execution_writes_no_bill(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it measured would be its own, and not the task's."""
    app = app_with(result_extended=True)
    install(app)

    result = run(app, lambda: monkeypatch.setattr(os, "getpid", lambda: -1))

    assert "SUCCESS" == result.state
    assert Bill.of(result) is None
