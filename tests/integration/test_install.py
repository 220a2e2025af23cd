"""`install` on apps as they exist: settings, base classes, several apps, no broker."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task
from kombu import Connection

from celery_budget import BudgetTask, budget, install
from celery_budget.app import installed
from celery_budget.embedded import RedisServer
from celery_budget.errors import PolicyError
from celery_budget.headers import HEADER, Stamp, read
from tests.servers import Broker
from tests.worker import ROOT

TWO_BANDS: dict[str, Any] = {
    "default_band": "slow",
    "bands": {"fast": {"queues": ["fast"]}, "slow": {"queues": ["slow"]}},
}


@pytest.fixture
def app(redis_broker: Broker) -> Celery:
    """Offer a stock app on an empty broker."""
    return Celery("app", broker=redis_broker.url, set_as_current=False)


def stamp(app: Celery, queue: str) -> Stamp:
    """Take a message out of a queue and read our header of it."""
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue(queue, no_ack=True).get(timeout=2)
        return read(message.headers[HEADER])


class DelayOnCommit(Task):
    """What Django's fix-up makes the app's task class."""

    abstract = True

    def delay_on_commit(self, *args: object) -> tuple[object, ...]:
        """Stand for the method that must not be lost."""
        return args


def test_a_task_class_named_by_a_string_keeps_its_methods(app: Celery) -> None:
    """Celery's Django fix-up sets the name of its class before the app registry is ready."""
    app.task_cls = f"{__name__}:DelayOnCommit"
    install(app, policy=TWO_BANDS)

    @app.task(name="on_commit", band="fast", shared=False)
    def on_commit(number: int) -> None:
        """Do nothing."""

    on_commit.delay(1)

    assert (7,) == on_commit.delay_on_commit(7)
    assert isinstance(on_commit, BudgetTask)
    assert "fast" == stamp(app, "fast").band


def test_a_task_with_a_base_of_its_own_has_terms_too(app: Celery) -> None:
    """Nothing on the way may depend on the task class: large apps have their own."""
    install(app, policy=TWO_BANDS)

    @app.task(name="based", base=DelayOnCommit, band="fast", shared=False)
    def based() -> None:
        """Do nothing."""

    based.delay()

    assert not isinstance(based, BudgetTask)
    assert "fast" == stamp(app, "fast").band


def test_a_base_class_declares_for_all_its_tasks(app: Celery) -> None:
    """A family of tasks has one place that says how urgent it is."""
    install(app, policy=TWO_BANDS)

    class Reports(BudgetTask):
        abstract = True
        band = "fast"
        deadline = "5m"

    @app.task(name="report", base=Reports, shared=False)
    def report() -> None:
        """Do nothing."""

    report.delay()

    written = stamp(app, "fast")
    assert "fast" == written.band
    assert 299 < written.deadline - written.at < 301


def test_the_setting_follows_the_namespace_of_the_configuration(
    app: Celery, tmp_path: Path
) -> None:
    """In Django every Celery setting begins with CELERY_."""
    file = tmp_path / "budget.toml"
    file.write_text('default_band = "slow"\n[bands.fast]\n[bands.slow]\n')
    install(app)
    app.config_from_object(
        {"CELERY_BROKER_URL": app.conf.broker_url, "CELERY_BUDGET_POLICY": str(file)},
        namespace="CELERY",
        force=True,
    )
    app.send_task("anything")

    assert "slow" == stamp(app, "slow").band


def test_a_policy_given_to_install_wins_over_the_setting(app: Celery) -> None:
    """What stands in the code beside the app is the more deliberate choice."""
    app.conf.budget_policy = {"bands": {"other": {}}}
    install(app, policy=TWO_BANDS)
    app.send_task("anything")

    assert "slow" == stamp(app, "slow").band


def test_installing_again_replaces_the_policy_and_nothing_else(app: Celery) -> None:
    """Modules are imported twice in tests, in shells and by reloaders."""
    install(app, policy={"bands": {"first": {}}})
    task_cls, steps = app.task_cls, set(app.steps["consumer"])
    install(app, policy=TWO_BANDS)
    app.send_task("anything")

    assert task_cls is app.task_cls
    assert steps == app.steps["consumer"]
    assert "slow" == stamp(app, "slow").band


def test_apps_of_one_name_in_one_process_keep_their_policies(redis_broker: Broker) -> None:
    """Test suites, and services with two brokers, have several apps, stock ones among them."""
    apps = [Celery("same", broker=redis_broker.url, set_as_current=False) for _ in range(3)]
    install(apps[0], policy={"bands": {"one": {"queues": ["one"]}}})
    install(apps[1], policy={"bands": {"two": {"queues": ["two"]}}})
    for app in apps:
        app.send_task("anything")
    with Connection(redis_broker.url) as connection:
        stock = connection.SimpleQueue("celery", no_ack=True).get(timeout=2)

    assert "one" == stamp(apps[0], "one").band
    assert "two" == stamp(apps[1], "two").band
    assert HEADER not in stock.headers
    assert installed(apps[2]) is None


def test_a_policy_with_mistakes_stops_a_publish_and_not_the_install(app: Celery) -> None:
    """`celery -A app budget check` imports the app to name the mistakes."""
    install(app, policy={"bands": {"fast": {"weigth": 4}}})

    with pytest.raises(PolicyError, match="did you mean weight"):
        app.send_task("anything")


def test_eager_and_plain_calls_work_without_a_band(app: Celery) -> None:
    """Unit tests of users' apps call tasks this way; nothing is published."""
    install(app, policy=TWO_BANDS)
    seen: list[tuple[object, ...]] = []

    @app.task(name="look", band="fast", shared=False)
    def look() -> None:
        seen.append((budget.band, budget.tenant, budget.deadline, budget.attempt))

    look()
    look.apply()
    app.conf.task_always_eager = True
    look.apply_async(band="slow", tenant="acme")

    assert 3 == len(seen)
    assert {(None, None, None, 1)} == set(seen)


def test_a_process_that_only_imports_the_app_opens_nothing(redis_server: RedisServer) -> None:
    """Every management command and web process imports it, with a broker or without."""
    program = """
        import os, socket, sys, threading

        class Refused(socket.socket):
            def connect(self, *_):
                raise AssertionError("a connection was opened")

        socket.socket = Refused
        before = len(os.listdir("/proc/self/fd"))
        from celery import Celery
        from celery_budget import install

        app = Celery("web", broker="redis://127.0.0.1:1/0")
        install(app, policy="/no/such/file.toml")

        @app.task(band="fast")
        def charge():
            pass

        assert threading.active_count() == 1
        assert len(os.listdir("/proc/self/fd")) == before
        heavy = {"redis", "prometheus_client", "psutil", "flower", "celery_budget.worker"}
        loaded = heavy & set(sys.modules)
        assert not loaded, loaded
        print("imported")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ("imported\n", 0) == (done.stdout, done.returncode), done.stderr


def test_a_forked_publisher_stamps_what_it_sends(app: Celery) -> None:
    """Web servers install in the parent and publish in forked children."""
    install(app, policy=TWO_BANDS)
    app.send_task("parent")
    child = os.fork()
    if not child:
        status = 1
        try:
            app.send_task("child", band="fast")
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)

    assert 0 == status
    assert "fast" == stamp(app, "fast").band
    assert "slow" == stamp(app, "slow").band
