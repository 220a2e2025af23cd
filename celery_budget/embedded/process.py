"""A process that cannot outlive its owner, with its output kept for questions.

Lives here: starting, watching and ending one process in a session of its own. Not here: what
the process is. Called by the servers beside it, by the demo for its workers and by the tests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from celery_budget.embedded.server import ServerFailed

# 10 ms: far below every start-up time waited for here, and 0.1 % of a core.
POLL_S = 0.01

# Asks the kernel for SIGKILL at the owner's death, then becomes the program under the same
# process id. A launcher, because `preexec_fn` may deadlock in an owner with threads and is
# deprecated there since Python 3.12. PR_SET_PDEATHSIG is 1; it survives exec.
_LAUNCHER = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""


class OwnedProcess:
    """Run a program until it ends, it is stopped, or its owner is gone.

    The kernel kills it when the *thread* that made this object ends, so make it in a thread
    that lives as long as the process should. Outside Linux only `stop` and `kill` end it.
    It gets a session of its own: Ctrl-C at the terminal reaches the owner alone.

    Args:
        arguments: Program and arguments; the program is looked up on PATH.
        env: The whole environment; None: the owner's.
        cwd: Working directory; None: the owner's.
        name: What errors call it; None: the program's name.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name or Path(arguments[0]).name
        # Unnamed, so that not even SIGKILL of the owner leaves a file.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `kill`
        self._last_words = ""
        command = list(arguments)
        if sys.platform == "linux":
            command = [
                sys.executable,
                "-I",
                "-S",
                "-c",
                _LAUNCHER,
                str(os.getpid()),
                *command,
            ]
        self._popen = subprocess.Popen(  # noqa: S603 - to run programs is its purpose
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id, also of its process group."""
        return self._popen.pid

    @property
    def exit_status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._popen.poll()

    @property
    def log(self) -> str:
        """All that the process and its children wrote so far, standard error included."""
        if self._log.closed:
            return self._last_words
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Return once `is_ready()` holds.

        Args:
            is_ready: Asked every 10 ms; must return quickly.
            timeout_s: Seconds to wait at most.
            what: What is waited for, for the error text.

        Raises:
            ServerFailed: The process ended first, or the time is over.
        """
        give_up = time.monotonic() + timeout_s
        while not is_ready():
            status = self.exit_status
            if status is not None:
                raise ServerFailed(self.name, f"ended with status {status} before {what}", self.log)
            if time.monotonic() > give_up:
                raise ServerFailed(self.name, f"no {what} within {timeout_s:g} s", self.log)
            time.sleep(POLL_S)

    def require_running(self) -> None:
        """Return while it runs.

        Raises:
            ServerFailed: It ended by itself; the error carries its output.
        """
        status = self.exit_status
        if status is not None:
            raise ServerFailed(self.name, f"ended with status {status}", self.log)

    def send(self, number: int) -> None:
        """Send a signal to the process alone, not to its children; nothing once it ended."""
        self._popen.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Wait for the end and return the exit status.

        Raises:
            ServerFailed: It still runs after `timeout_s` seconds.
        """
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            problem = f"still runs after {timeout_s:g} s"
            raise ServerFailed(self.name, problem, self.log) from None

    def stop(self, timeout_s: float = 10.0) -> int:
        """Ask it to end (SIGTERM), kill what is left of its group, return the exit status.

        Args:
            timeout_s: Seconds until it is killed.
        """
        self.send(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout_s)
        return self.kill()

    def kill(self) -> int:
        """Kill it and its group at once and return the exit status; safe to repeat."""
        # macOS answers EPERM for a group of zombies.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        status = self._popen.wait()
        if not self._log.closed:
            self._last_words = self.log
            self._log.close()
        return status
