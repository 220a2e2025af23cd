"""Workers that take turns on the machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from celery_budget.embedded import OwnedProcess
from tests.benchmarks.runner import Run
from tests.benchmarks.turns import TURN_S, Racer, race
from tests.benchmarks.variants import STOCK

_ROOT = Path(__file__).parents[3]
# A body each 2 ms until it is killed, as a worker with short tasks.
_BODIES = """
import sys, time
from pathlib import Path
from tests.benchmarks.progress import Marker
marker = Marker(Path(sys.argv[1]))
while True:
    marker.mark()
    time.sleep(0.002)
"""
_TOTAL = 2_000


@pytest.fixture
def racers(tmp_path) -> Iterator[list[tuple[Racer, Run, OwnedProcess]]]:
    """Two that run."""
    with ExitStack() as cleaning:
        made = []
        for name in ("a", "b"):
            directory = tmp_path / name
            directory.mkdir()
            run = Run("memory://", STOCK, directory, cleaning)
            process = OwnedProcess([sys.executable, "-c", _BODIES, str(directory)], cwd=_ROOT)
            cleaning.callback(process.kill)
            run.wait_for(process, 1, timeout_s=60)
            made.append((Racer(run, process, _TOTAL), run, process))
        yield made


def test_nothing_runs_during_a_pause(racers):
    """A body that ran in another's turn would take that one's time and count for nobody."""
    racer, run, process = racers[0]
    racer.pause()
    # The signal is sent, and takes hold when the kernel says so.
    process.wait_until(
        lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, 60, "stop"
    )
    before = run.progress()
    time.sleep(0.05)

    assert before == run.progress()

    racer.resume()
    run.wait_for(process, before + 1, timeout_s=60)


def test_a_race_ends_before_a_racer_runs_dry_and_all_had_equally_many_turns(racers):
    """A worker without tasks would look slow, and so would one with fewer turns."""
    race([racer for racer, _, _ in racers])

    assert racers[0][0].turns == racers[1][0].turns
    for racer, run, process in racers:
        assert racer.turns * TURN_S <= racer.wall_s
        assert 0 < racer.tasks < _TOTAL
        # They run again, so that they can be asked to end.
        run.wait_for(process, run.progress() + 1, timeout_s=60)
