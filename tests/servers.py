"""Brokers for tests: private servers shared where that is safe, a fresh namespace per test.

Redis starts in 0.03 s, so each xdist worker has its own and flushes its database per test.
RabbitMQ takes 5 s, so one node serves the whole run, with a virtual host per test.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

import redis

from celery_budget.embedded import RabbitNode, RabbitServer, ServerMissing
from celery_budget.embedded.amqp import NotServing, greet


@dataclass(frozen=True, slots=True)
class Broker:
    """An empty broker of a test's own.

    Attributes:
        kind: `"redis"` or `"rabbitmq"`.
        url: As Celery takes it.
    """

    kind: str
    url: str


class VirtualHosts(Protocol):
    """Makes and drops virtual hosts of a RabbitMQ node."""

    def add_vhost(self, vhost: str) -> str:
        """Make an empty virtual host and return its URL."""
        ...

    def delete_vhost(self, vhost: str) -> None:
        """Drop a virtual host with its queues and connections."""
        ...


class NamedNode:
    """Reach the virtual hosts of a node the user named, through its management plugin.

    Args:
        url: Broker URL; its user must be an administrator.
    """

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._api = f"http://{self._address.hostname}:15672/api"

    def add_vhost(self, vhost: str) -> str:
        """Make an empty virtual host and return its URL."""
        user = self._address.username or "guest"
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        self._call("PUT", f"vhosts/{quote(vhost)}", {})
        self._call("PUT", f"permissions/{quote(vhost)}/{quote(user)}", rights)
        return self._address._replace(path=f"/{quote(vhost)}").geturl()

    def delete_vhost(self, vhost: str) -> None:
        """Drop a virtual host with its queues and connections."""
        self._call("DELETE", f"vhosts/{quote(vhost)}", {})

    def _call(self, method: str, path: str, body: dict[str, str]) -> None:
        user, password = self._address.username or "guest", self._address.password or "guest"
        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self._api}/{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10):
                pass
        except urllib.error.URLError as error:
            looked = f"{method} {self._api}/{path}: {error}"
            remedy = "Enable it: `rabbitmq-plugins enable rabbitmq_management`."
            raise ServerMissing("RabbitMQ management plugin", looked, remedy) from error


@contextmanager
def shared_rabbitmq(run: Path) -> Iterator[VirtualHosts]:
    """Use the run's one RabbitMQ node; the first to ask starts it.

    The starter ends it once nobody else of the run uses it. Use is a shared file lock, which
    the kernel drops when a test process dies.

    Args:
        run: Directory that all processes of this test run share.
    """
    named = RabbitServer()
    if named.url:
        named.start()
        yield NamedNode(named.url)
        return
    state = run / "rabbitmq.json"
    with (
        (run / "rabbitmq.starting").open("w") as starting,
        (run / "rabbitmq.users").open("w") as users,
    ):
        fcntl.flock(starting, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        node = _running_node(state)
        if node is not None:
            fcntl.flock(starting, fcntl.LOCK_UN)
            yield node
            return
        with RabbitServer() as server:
            assert server.node is not None
            state.write_text(json.dumps(asdict(server.node)))
            fcntl.flock(starting, fcntl.LOCK_UN)
            try:
                yield server.node
            finally:
                fcntl.flock(users, fcntl.LOCK_EX)
                state.unlink()


def _running_node(state: Path) -> RabbitNode | None:
    if not state.exists():
        return None
    node = RabbitNode(**json.loads(state.read_text()))
    try:
        greet(urlsplit(node.url()))
    except NotServing:
        # Its starter was killed, and the node with it.
        return None
    return node


def own_database(url: str, offset: int = 0) -> str:
    """Choose the Redis database of this xdist worker, counted from the URL's own and an offset."""
    address = urlsplit(url)
    first = int(address.path.strip("/") or 0) + offset
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return address._replace(path=f"/{first + worker}").geturl()


def empty(url: str) -> str:
    """Remove all that is in a Redis database; give its URL."""
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url
