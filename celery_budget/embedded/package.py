"""Installs a server from the Debian archive, for machines that are ours alone.

Called by the servers beside it when their caller allowed it and nothing else was found.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from celery_budget.embedded.server import ServerFailed

# An apt run on a slow mirror took 3 minutes; RabbitMQ brings 40 MB of Erlang.
_TIMEOUT_S = 600.0
_START_POLICY = Path("/usr/sbin/policy-rc.d")


def is_installable() -> bool:
    """Tell whether this process may install Debian packages."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install_package(name: str) -> None:
    """Install a Debian package without starting its service.

    Raises:
        ServerFailed: apt-get failed; the error carries its output.
    """
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _services_kept_down():
        for step in (["update"], ["install", "-y", "--no-install-recommends", name]):
            command = ["apt-get", "-q", *step]
            done = subprocess.run(  # noqa: S603 - fixed words only
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
            if done.returncode != 0:
                problem = f"`{' '.join(command)}` ended with status {done.returncode}"
                raise ServerFailed(name, problem, done.stdout)


@contextmanager
def _services_kept_down() -> Iterator[None]:
    """Forbid package scripts to start services meanwhile, as Debian policy 9.3.3 provides."""
    if _START_POLICY.exists():
        yield
        return
    _START_POLICY.write_text("#!/bin/sh\nexit 101\n")
    _START_POLICY.chmod(0o755)
    try:
        yield
    finally:
        _START_POLICY.unlink(missing_ok=True)
