"""A real `celery worker` process for a test, which ends with it."""

from __future__ import annotations

import itertools
import os
import secrets
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from celery_budget.embedded import OwnedProcess
from tests.journal import JOURNAL_VARIABLE

ROOT = Path(__file__).parent.parent

# Alone a worker is ready in 1.5 s; 60 s leaves room for a machine with every core taken.
_READY_S = 60.0
# A child of prefork waits for up to 30 s (billiard 4.3) until its last result was taken in, and a
# worker that is stopped just then never does: 8 of 60 runs of Celery 5.7 alone.
_STOP_S = 60.0
_numbers = itertools.count(1)


class Worker:
    """Run `celery -A <module> worker` until it is stopped; made by the fixture `worker_process`.

    Attributes:
        name: Node name, as `inspect` and `control` take it.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        broker: str,
        journal: Path,
        pool: str = "prefork",
        concurrency: int = 2,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = f"test{next(_numbers)}-{secrets.token_hex(3)}@localhost"
        command = [
            *(sys.executable, "-m", "celery", "-A", module, "worker", "-n", self.name),
            *("--pool", pool, "-c", str(concurrency), "-l", "INFO", *arguments),
        ]
        variables = {
            "CELERY_BROKER_URL": broker,
            JOURNAL_VARIABLE: str(journal),
            "PYTHONUNBUFFERED": "1",
        }
        environment = {**os.environ, **variables, **(env or {})}
        self._process = OwnedProcess(command, env=environment, cwd=ROOT, name=self.name)

    def wait_until_ready(self) -> None:
        """Return once the worker says that it is ready for tasks."""
        ready = f"{self.name} ready."
        self._process.wait_until(lambda: ready in self.log, _READY_S, "line saying ready")

    @property
    def pid(self) -> int:
        """Process id of the main process."""
        return self._process.pid

    @property
    def log(self) -> str:
        """All that the worker wrote so far."""
        return self._process.log

    @property
    def exit_status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.exit_status

    def send(self, number: int) -> None:
        """Send a signal to the main process."""
        self._process.send(number)

    def wait(self, timeout_s: float = _STOP_S) -> int:
        """Wait for the end of the main process and return its exit status."""
        return self._process.wait(timeout_s)

    def stop(self, timeout_s: float = _STOP_S) -> int:
        """Shut down warmly (SIGTERM), wait, and return the exit status.

        Raises:
            ServerFailed: It still runs after `timeout_s` seconds; the error has its log.
        """
        self.send(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> int:
        """Kill the main process and its children at once; safe to repeat."""
        return self._process.kill()
