"""`celery-budget demo` as a newcomer runs it: finished, interrupted, terminated, killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis

from celery_budget.embedded import OwnedProcess, RedisServer
from tests.conftest import WaitFor
from tests.worker import ROOT

FIRST_RUN, SECOND_RUN = "Celery as it comes", "celery-budget: three bands"
PNG = b"\x89PNG\r\n\x1a\n"

StartDemo = Callable[..., OwnedProcess]


@pytest.fixture
def start_demo(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StartDemo]:
    """Start the demo in an empty directory; only its own clean-up is under test."""
    monkeypatch.delenv("CELERY_BUDGET_REDIS_URL", raising=False)
    started: list[OwnedProcess] = []

    def start(*arguments: str, **env: str) -> OwnedProcess:
        command = [sys.executable, "-m", "celery_budget", "demo", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
        started.append(OwnedProcess(command, env=environment, cwd=tmp_path, name="demo"))
        return started[-1]

    yield start
    for demo in started:
        demo.kill()


def descendants(pid: int) -> set[psutil.Process]:
    """All processes below one, as of now."""
    return set(psutil.Process(pid).children(recursive=True))


def are_gone(processes: set[psutil.Process]) -> bool:
    """Tell whether all ended; a container may have nobody who reaps zombies."""
    return not any(
        process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes
    )


def test_it_shows_that_bands_help_and_leaves_a_plot(start_demo: StartDemo, tmp_path: Path) -> None:
    """The first thing anybody runs must work without set-up and tell the truth."""
    demo = start_demo("--seconds", "5", "--json", "numbers.json")
    status = demo.wait(120)
    output = demo.log

    assert status == 0, output
    assert "Embedded broker: redis-server " in output
    assert FIRST_RUN in output
    assert SECOND_RUN in output
    assert (tmp_path / "celery-budget-demo.png").read_bytes().startswith(PNG)
    stock, bands = (
        json.loads((tmp_path / "numbers.json").read_text())[variant]["bands"]
        for variant in ("stock", "bands")
    )
    assert [band["published"] for band in stock.values()] == pytest.approx(
        [band["published"] for band in bands.values()], abs=2
    )
    assert bands["critical"]["wait_s"]["p99"] < stock["critical"]["wait_s"]["p50"]
    assert bands["optional"]["done"] > 0


@pytest.mark.parametrize(
    ("number", "moment", "expected_status"),
    [
        (signal.SIGINT, "Embedded broker", 130),
        (signal.SIGINT, "stock   2 s", 130),
        (signal.SIGTERM, "stock   2 s", 143),
        (signal.SIGINT, "bands   2 s", 130),
        (signal.SIGKILL, "bands   2 s", -9),
    ],
    ids=["ctrl-c at once", "ctrl-c in the flood", "term", "ctrl-c in the second run", "kill"],
)
def test_nothing_runs_on_after_a_signal(
    number: signal.Signals,
    moment: str,
    expected_status: int,
    start_demo: StartDemo,
    wait_for: WaitFor,
) -> None:
    """A demo that leaves a worker or a server behind is never run a second time."""
    demo = start_demo("--seconds", "3.5")
    demo.wait_until(lambda: moment in demo.log, 60, moment)
    children = descendants(demo.pid)
    demo.send(number)
    status = demo.wait(20)

    wait_for(lambda: are_gone(children), what="the end of the demo's processes")

    assert children
    assert status == expected_status
    assert ("nothing is left running" in demo.log) == (number == signal.SIGINT)


def test_a_named_server_is_used_without_touching_what_is_there(
    start_demo: StartDemo, redis_server: RedisServer
) -> None:
    """Somebody may name the server of a real application, with a queue of the same name."""
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        client.flushdb()
        client.rpush("celery", "a real task")
        demo = start_demo("--seconds", "2", CELERY_BUDGET_REDIS_URL=redis_server.url)
        status = demo.wait(120)
        left = {key: client.lrange(key, 0, -1) for key in client.keys("*")}

    assert status == 0, demo.log
    assert "Named broker: Redis" in demo.log
    assert left == {"celery": ["a real task"]}


def test_a_missing_library_is_named_before_anything_starts(tmp_path: Path) -> None:
    """`pip install celery-budget` alone brings neither matplotlib nor a Redis client."""
    script = (
        "import sys; sys.modules.update(redis=None, matplotlib=None); "
        "from celery_budget.cli.demo.command import demo; demo(['--seconds', '2'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert (
        done.stderr
        == "Error: The demo needs redis and matplotlib: pip install 'celery-budget[demo]'\n"
    )
