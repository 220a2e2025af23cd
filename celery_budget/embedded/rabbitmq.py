"""A RabbitMQ node for a demo or a test: found, started on loopback, ended with its owner.

The node shares nothing with one that the machine may already run: ports, name, cookie,
data directory and Erlang's port mapper (epmd) are its own.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from celery_budget.embedded.amqp import NotServing, greet
from celery_budget.embedded.home import Home
from celery_budget.embedded.node import RabbitNode
from celery_budget.embedded.package import install_package, is_installable
from celery_budget.embedded.process import OwnedProcess
from celery_budget.embedded.server import ServerFailed, ServerMissing

#: Names a running node to use instead of a private one.
RABBITMQ_URL_VARIABLE = "CELERY_BUDGET_RABBITMQ_URL"

_PORT_TRIES = 3
# Starts in 5 s alone on one core; 90 s leaves room for a machine with every core taken.
_READY_S = 90.0
# An orderly end takes 3 s.
_STOP_S = 30.0
_REMEDY = (
    "Install one: `apt-get install rabbitmq-server`; or name a running one in "
    f"{RABBITMQ_URL_VARIABLE}, for example amqp://guest:guest@localhost:5672//."
)


class RabbitServer:
    """Offer a RabbitMQ node while the context lasts.

    The first of these is used: the URL in the environment variable
    `CELERY_BUDGET_RABBITMQ_URL`; the installed `rabbitmq-server`; the Debian package, when
    `install` allows it. A private node needs no root, listens on 127.0.0.1 and loses its
    data at the end.

    Args:
        install: Whether the Debian package may be installed when nothing else is found.

    Attributes:
        url: Broker URL; known after `start`.
        port: AMQP port; known after `start`.
        version: e.g. `"3.10.8"`; known after `start`.
        node: The private node while there is one; None for a named one.
        origin: For people, e.g. `"RabbitMQ 3.10.8 at /usr/lib/rabbitmq/bin/rabbitmq-server"`.
    """

    def __init__(self, *, install: bool = False) -> None:
        self.url = os.environ.get(RABBITMQ_URL_VARIABLE, "")
        self.port = 0
        self.version = ""
        self.origin = ""
        self._is_named = bool(self.url)
        self._install = install
        self.node: RabbitNode | None = None
        self._home: Home | None = None
        self._processes: list[OwnedProcess] = []

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def locate(self) -> str:
        """Tell which server `start` will use; install it if that is allowed and needed.

        Raises:
            ServerMissing: There is none, or the named one does not serve.
            ServerFailed: The installation failed.
        """
        if self._is_named:
            self._reach_named()
            return self.origin
        return str(_find(install=self._install))

    def start(self) -> None:
        """Return once the node opens an AMQP connection.

        Raises:
            ServerMissing: There is none, or the named one does not serve.
            ServerFailed: A private one did not start; the error carries its output.
        """
        if self._is_named:
            self._reach_named()
            return
        program = _find(install=self._install)
        for tries_left in reversed(range(_PORT_TRIES)):
            node = self.node or RabbitNode.invent()
            try:
                self._launch(program, node)
                break
            except ServerFailed as error:
                if self.node:
                    raise
                self._remove()
                if not tries_left or not error.is_port_taken:
                    raise
        self.node = node
        self.port = node.port
        self.url = node.url()
        self.origin = f"RabbitMQ {self.version} at {program}"

    def stop(self) -> None:
        """End a private node, its port mapper and its data; a named one stays."""
        # SIGKILL, and its helper programs end when their pipes close: an orderly end would
        # only save data that goes now.
        self._end_processes()
        self._remove()

    def kill(self) -> None:
        """Kill the private node at once, as a crash would; its data stays for `start`."""
        if not self._processes:
            problem = "named by the user, or not running: only a private node can be killed"
            raise ServerFailed(self.origin or "RabbitMQ", problem, "")
        self._end_processes()

    def restart(self) -> None:
        """End the private node in order and start it again with its data, on the same port."""
        if self._processes:
            self._processes[-1].stop(_STOP_S)
            self._end_processes()
        self.start()

    def _launch(self, program: Path, node: RabbitNode) -> None:
        if self._home is None:
            self._home = Home()
        environment = _environment(self._home.path, node)
        epmd_arguments = ["epmd", "-address", "127.0.0.1", "-port", str(node.epmd_port)]
        self._processes.append(OwnedProcess(epmd_arguments, env=environment))
        broker = OwnedProcess([str(program)], env=environment, cwd=self._home.path)
        self._processes.append(broker)
        address = urlsplit(node.url())

        def serves() -> bool:
            try:
                greeting = greet(address)
            except NotServing:
                return False
            # Another node may have taken the port: ours then ends with an error of its own.
            if greeting.cluster.split("@")[0] != node.name:
                return False
            self.version = greeting.version
            return True

        try:
            broker.wait_until(serves, _READY_S, "AMQP connection")
        except BaseException:
            self._end_processes()
            raise

    def _end_processes(self) -> None:
        for process in reversed(self._processes):
            process.kill()
        self._processes.clear()

    def _remove(self) -> None:
        self.node = None
        if self._home is not None:
            self._home.remove()
            self._home = None

    def _reach_named(self) -> None:
        address = urlsplit(self.url)
        shown = f"{address.scheme}://{address.hostname}:{address.port or 5672}{address.path}"
        if address.scheme not in ("amqp", "amqps", "pyamqp") or not address.hostname:
            looked = f"{RABBITMQ_URL_VARIABLE} is not an amqp:// or amqps:// URL"
            raise ServerMissing("RabbitMQ", looked, "Correct or unset it.")
        try:
            greeting = greet(address)
        except NotServing as error:
            looked = f"{shown}, named in {RABBITMQ_URL_VARIABLE}, does not serve: {error}"
            raise ServerMissing(
                "RabbitMQ", looked, "Start it, correct its user, or unset it."
            ) from error
        self.port = address.port or 5672
        self.version = greeting.version
        self.origin = f"RabbitMQ {self.version} at {shown}, as {RABBITMQ_URL_VARIABLE} says"


def _find(*, install: bool) -> Path:
    program = _installed()
    if program is None and install and is_installable():
        install_package("rabbitmq-server")
        program = _installed()
    if program is None:
        raise ServerMissing("RabbitMQ server", "no rabbitmq-server on this machine", _REMEDY)
    return program


def _installed() -> Path | None:
    """Find RabbitMQ's own start script.

    What Debian has on PATH is a wrapper that changes to the user `rabbitmq`, its home and
    its log files; the script itself is elsewhere and runs as anybody.
    """
    on_path = shutil.which("rabbitmq-server") or shutil.which("/usr/sbin/rabbitmq-server")
    candidates = [Path("/usr/lib/rabbitmq/bin/rabbitmq-server")]
    if on_path is not None:
        candidates.append(Path(on_path).resolve())
    for candidate in candidates:
        if (candidate.parent / "rabbitmq-env").exists() and os.access(candidate, os.X_OK):
            return candidate
    return None


def _environment(home: Path, node: RabbitNode) -> dict[str, str]:
    """Write the node's files and say where they are."""
    config = home / "rabbitmq.conf"
    config.write_text(
        f"listeners.tcp.1 = 127.0.0.1:{node.port}\n"
        "log.console = true\n"
        "log.console.level = warning\n"
        "log.file = false\n"
        # A full disk or a small machine must not block publishers in a test for ever.
        "disk_free_limit.absolute = 1MB\n",
    )
    (home / "enabled_plugins").write_text("[].\n")
    cookie = home / ".erlang.cookie"
    if not cookie.exists():
        cookie.write_text(node.cookie)
        cookie.chmod(0o400)
    foreign = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return inherited | {
        "HOME": str(home),
        "ERL_EPMD_PORT": str(node.epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"{node.name}@localhost",
        "RABBITMQ_DIST_PORT": str(node.dist_port),
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            # Two schedulers: a test broker must not take every core of a build machine.
            "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false +S 2:2"
        ),
        # Makes the start script become the Erlang process instead of watching it.
        "RUNNING_UNDER_SYSTEMD": "true",
    }
