"""Directories of private servers: kept while their owner lives, swept after a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from celery_budget.embedded.home import Home
from tests.worker import ROOT

CRASH = """
import os, signal
from celery_budget.embedded.home import Home
home = Home()
print(home.path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_owner_s_directory_is_swept_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node's data is 1 MB; a machine that kills many test runs would fill up."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    crashed = subprocess.run(
        [sys.executable, "-c", CRASH],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    left = Path(crashed.stdout.strip())
    existed = left.is_dir()

    Home().remove()

    assert -signal.SIGKILL == crashed.returncode
    assert existed
    assert [] == list(tmp_path.iterdir())


def test_a_living_owner_s_directory_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several test runs share a machine; none may remove another's data."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    used = Home()

    Home().remove()

    assert [used.path] == list(tmp_path.iterdir())
    used.remove()
