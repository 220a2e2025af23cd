"""Processes in the place of Docker containers, under pytest-celery's own container classes.

Where pytest-celery would start an image, these start a program of this machine; everything
above that (nodes, clusters, setup, readiness, kill, restart) is pytest-celery's, unchanged.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import Signals

from pytest_celery import CeleryWorkerContainer, RedisContainer

from celery_budget.embedded import OwnedProcess


class ProcessContainer:
    """Imitate the container object of the Docker client as far as pytest-celery uses it.

    Attributes:
        id: As long as Docker's; a worker's host name is its first 12 digits.
        name: For messages.
        status: `"running"` or `"exited"`, as of the last `reload`.
        attrs: What `docker inspect` would say, reduced to what is read.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        address: str = "",
    ) -> None:
        self.id = secrets.token_hex(32)
        self.name = name
        self.status = "created"
        self.attrs = {
            "Config": {"Hostname": address, "Env": [f"{key}={env[key]}" for key in env]},
            "NetworkSettings": {"Networks": {}, "Ports": {}},
            "HostConfig": {"PortBindings": {}},
        }
        self._command = [word.replace("%h", self.id[:12]) for word in command]
        self._env = env
        self._cwd = cwd
        self._start()

    def _start(self) -> None:
        self._process = OwnedProcess(self._command, env=self._env, cwd=self._cwd, name=self.name)
        self.reload()

    def reload(self) -> None:
        """Update `status`."""
        self.status = "running" if self._process.exit_status is None else "exited"

    def logs(self) -> bytes:
        """All output since the last start."""
        return self._process.log.encode()

    def kill(self, signal: str | int | None = None) -> None:
        """Send a signal, and return after the end when it is SIGKILL."""
        number = signal if isinstance(signal, int) else Signals[signal or "SIGKILL"]
        if number == Signals.SIGKILL:
            self._process.kill()
        else:
            self._process.send(number)

    def restart(self, timeout: float) -> None:
        """End the process in order, or by force after `timeout` seconds, and start it again."""
        self._process.stop(timeout)
        self._start()

    def remove(self) -> None:
        """End the process for good."""
        self._process.kill()


class ProcessRedis(RedisContainer):
    """Redis on a port of this machine."""

    def get_addr(self, port: str) -> tuple[str, int]:
        """Tell where the server is; pytest-docker-tools would ask Docker's port table."""
        host, _, number = self.hostname.partition(":")
        return host, int(number)


def start_redis(program: str, port: int, directory: Path) -> ProcessRedis:
    """Start Redis as pytest-celery's image would, on a loopback port."""
    # The first word is the image's program.
    command = [program, *RedisContainer.command("--port", str(port), "--bind", "127.0.0.1")[1:]]
    container = ProcessContainer(
        "redis", command, env={}, cwd=directory, address=f"127.0.0.1:{port}"
    )
    return ProcessRedis(container)


def start_worker(
    container_cls: type[CeleryWorkerContainer],
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    content: Mapping[str, bytes],
    directory: Path,
) -> CeleryWorkerContainer:
    """Start a worker on the files that would be its container's volume.

    Args:
        container_cls: pytest-celery's class for the worker.
        command: As the class gives it.
        env: As the class gives it; PATH and PYTHONPATH included.
        content: File contents by path inside the volume.
        directory: An empty directory for the volume.
    """
    for path, data in content.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    container = ProcessContainer(container_cls.worker_name(), command, env=env, cwd=directory)
    return container_cls(container)
