"""Workers that share the machine by turns: one runs while the others are stopped by signal.

What slows a shared machine comes and goes within seconds. Turns of half a second give each worker
the same share of it, which whole runs one after the other do not: on 2 shared cores the ratio of
two equal stock workers spread over 0.62-1.39 in whole runs (2026-11).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

import psutil

from celery_budget.embedded import OwnedProcess
from tests.benchmarks.runner import Run

# Long against the milliseconds in which a worker wakes up and its broker catches up, short
# against the seconds for which a neighbour takes the machine.
TURN_S = 0.5


class Racer:
    """A worker that runs in its turns only.

    Args:
        run: Where it runs; its tasks are in the broker already.
        worker: Its main process, which runs.
        total: Tasks in the broker at its start.

    Attributes:
        turns: Turns that count.
        tasks: Bodies run in those turns.
        wall_s: Length of those turns.
        cpu_s: CPU time of the main process in them.
    """

    def __init__(self, run: Run, worker: OwnedProcess, total: int) -> None:
        self._run = run
        self._worker = worker
        self._total = total
        self._most = 0
        self.turns = 0
        self.tasks = 0
        self.wall_s = 0.0
        self.cpu_s = 0.0

    @property
    def is_running_dry(self) -> bool:
        """Whether its next turn might find too few tasks."""
        # Half as many again as in its best turn: a machine that is suddenly free of others.
        return self._total - self._run.progress() < 1.5 * self._most

    def pause(self) -> None:
        """Stop the worker's processes where they are."""
        os.killpg(self._worker.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let the worker's processes go on."""
        os.killpg(self._worker.pid, signal.SIGCONT)

    def take_turn(self, *, counts: bool) -> None:
        """Run for one turn, between two pauses.

        Args:
            counts: Whether it goes into the sums.

        Raises:
            ServerFailed: The worker has ended.
        """
        self._worker.require_running()
        tasks, cpu_s = self._run.progress(), self._cpu_s()
        begun = time.monotonic()
        self.resume()
        time.sleep(TURN_S)
        self.pause()
        wall_s = time.monotonic() - begun
        ran = self._run.progress() - tasks
        self._most = max(self._most, ran)
        if counts:
            self.turns += 1
            self.tasks += ran
            self.wall_s += wall_s
            self.cpu_s += self._cpu_s() - cpu_s

    def _cpu_s(self) -> float:
        times = psutil.Process(self._worker.pid).cpu_times()
        return float(times.user + times.system)


def race(racers: Sequence[Racer]) -> None:
    """Give all racers equally many turns until the first runs out of tasks.

    Every second round goes backwards, so that none always follows the same other. The first
    turn of each does not count: caches are cold and windows still small.

    Args:
        racers: Their workers run; afterwards they run again.
    """
    for racer in racers:
        racer.pause()
    try:
        for racer in racers:
            racer.take_turn(counts=False)
        order = list(racers)
        while not any(racer.is_running_dry for racer in racers):
            for racer in order:
                racer.take_turn(counts=True)
            order.reverse()
    finally:
        for racer in racers:
            racer.resume()
