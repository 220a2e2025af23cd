"""One owned process: its output, its end, and the waits for either."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from celery_budget.embedded import OwnedProcess, ServerFailed
from tests.conftest import WaitFor
from tests.worker import ROOT

OWNER = """
import sys, time
from celery_budget.embedded import OwnedProcess
child = OwnedProcess(["sh", "-c", "echo up; exec sleep 60"])
if sys.argv[1] == "running":
    child.wait_until(lambda: "up" in child.log, 10, "line saying up")
print(child.pid, flush=True)
time.sleep(60)
"""


def is_gone(pid: int) -> bool:
    """Tell whether a process ended; a container may have nobody who reaps zombies."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_an_early_end_is_reported_with_the_output() -> None:
    """A server that cannot start says why on its output and nowhere else."""
    process = OwnedProcess(["sh", "-c", "echo no such directory; exit 3"], name="server")

    with pytest.raises(ServerFailed) as caught:
        process.wait_until(lambda: False, 10, "answer")
    process.kill()

    text = str(caught.value)
    assert text.startswith("server: ended with status 3 before answer.")
    assert text.endswith("no such directory")


def test_a_missing_program_is_named() -> None:
    """The launcher in between must not hide which program was not found."""
    process = OwnedProcess(["no-such-program"])

    with pytest.raises(ServerFailed, match="no-such-program: No such file or directory"):
        process.wait_until(lambda: False, 10, "answer")
    process.kill()


def test_a_wait_ends_and_says_what_for() -> None:
    """No wait may hang a test run."""
    process = OwnedProcess(["sleep", "60"])

    with pytest.raises(ServerFailed, match=r"no answer within 0\.05 s"):
        process.wait_until(lambda: False, 0.05, "answer")
    process.kill()


def test_stop_kills_what_ignores_the_request() -> None:
    """A worker stuck in its shutdown would otherwise outlive its test."""
    process = OwnedProcess(["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"])
    process.wait_until(lambda: "up" in process.log, 10, "line saying up")

    status = process.stop(timeout_s=0.2)

    assert -9 == status


def test_kill_ends_children_and_keeps_the_output(wait_for: WaitFor) -> None:
    """A killed worker's pool must not go on, and its log is wanted afterwards."""
    process = OwnedProcess(["sh", "-c", "sleep 60 & echo child $!; wait"])
    process.wait_until(lambda: "\n" in process.log, 10, "child")
    child = int(process.log.split()[1])

    process.kill()
    process.kill()
    wait_for(lambda: is_gone(child), what="the end of the child")

    assert f"child {child}\n" == process.log


@pytest.mark.parametrize("moment", ["starting", "running"])
def test_it_ends_when_its_owner_is_killed(moment: str, wait_for: WaitFor) -> None:
    """Nobody cleans up after SIGKILL but the kernel, and a start takes long enough to be hit."""
    command = [sys.executable, "-c", OWNER, moment]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        was_running = not is_gone(child)
        owner.kill()

    wait_for(lambda: is_gone(child), what="the end of the child")

    assert was_running
