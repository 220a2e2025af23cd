"""Workers that share the machine by turns: one fetches tasks while the others have none.

What slows a shared machine comes and goes within seconds. Turns of half a second give each worker
the same share of it, which whole runs one after the other do not: on 2 shared cores the ratio of
two equal stock workers spread over 0.62-1.39 in whole runs (2026-11).

A worker is paused as an operator does it, by `celery control cancel_consumer`. Stopping its
processes by signal was tried: a task that is stopped in its middle looks to celery-budget as if
it took long, and long tasks are not fetched ahead.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import psutil

from celery_budget.embedded import OwnedProcess
from tests.benchmarks.runner import Run

# Short against the seconds for which a neighbour takes the machine.
TURN_S = 0.5
# Until a worker that was told to fetch does so at full speed, and until one that was told to stop
# has run what it had: a few messages, or a control command, take milliseconds.
_SETTLE_S = 0.1


class Racer:
    """A worker that runs in its turns only, its main process on one core, its children on others.

    Args:
        run: Where it runs; its tasks are in the broker already.
        worker: Its main process, which runs.
        queues: Which hold its tasks.
        total: Tasks in the broker at its start.

    Attributes:
        tasks: Bodies run in the turns that count.
        wall_s: Length of those turns.
        cpu_s: CPU time of the main process in them.
    """

    def __init__(self, run: Run, worker: OwnedProcess, queues: Sequence[str], total: int) -> None:
        self._run = run
        self._worker = worker
        self._queues = queues
        self._total = total
        self._most = 0
        self.tasks = 0
        self.wall_s = 0.0
        self.cpu_s = 0.0
        _place(worker)

    @property
    def is_running_dry(self) -> bool:
        """Whether its next turn might find too few tasks."""
        # Twice as many as in its best turn: a machine that is suddenly free of others.
        return self._total - self._run.progress() < 2 * self._most

    def pause(self) -> None:
        """Let the worker fetch nothing more, and wait until it has run what it has.

        Raises:
            ServerFailed: The worker did not answer, or has ended.
        """
        for queue in self._queues:
            self._run.tell(self._worker, "cancel_consumer", queue)
        seen = -1
        while seen != (seen := self._run.progress()):
            time.sleep(_SETTLE_S)

    def resume(self) -> None:
        """Let the worker fetch again.

        Raises:
            ServerFailed: The worker did not answer, or has ended.
        """
        for queue in self._queues:
            self._run.tell(self._worker, "add_consumer", queue)

    def take_turn(self, *, counts: bool) -> None:
        """Run for one turn, between two pauses.

        Args:
            counts: Whether it goes into the sums.

        Raises:
            ServerFailed: The worker did not answer, or has ended.
        """
        before = self._run.progress()
        self.resume()
        time.sleep(_SETTLE_S)
        tasks, cpu_s, begun = self._run.progress(), self._cpu_s(), time.monotonic()
        time.sleep(TURN_S)
        ran, wall_s = self._run.progress() - tasks, time.monotonic() - begun
        cpu_s = self._cpu_s() - cpu_s
        self.pause()
        self._most = max(self._most, self._run.progress() - before)
        if counts:
            self.tasks += ran
            self.wall_s += wall_s
            self.cpu_s += cpu_s

    def _cpu_s(self) -> float:
        times = psutil.Process(self._worker.pid).cpu_times()
        return float(times.user + times.system)


def _place(worker: OwnedProcess) -> None:
    """Bind a worker's processes to cores, where the system can and there are two.

    Pairs of equal workers differed by 10 % and more, mostly for as long as they lived. Where the
    kernel happens to put them is one thing less in which they can differ.
    """
    cores = psutil.Process().cpu_affinity() if psutil.LINUX else []
    if len(cores) < 2:
        return
    main = psutil.Process(worker.pid)
    main.cpu_affinity(cores[:1])
    for child in main.children(recursive=True):
        child.cpu_affinity(cores[1:])


def race(racers: Sequence[Racer]) -> None:
    """Give all racers equally many turns until the first runs out of tasks.

    Every second round goes backwards, so that none always follows the same other. The first
    turn of each does not count: caches are cold and windows still small.

    Args:
        racers: All paused, and so they are afterwards.

    Raises:
        ServerFailed: A worker did not answer, or has ended.
    """
    for racer in racers:
        racer.take_turn(counts=False)
    order = list(racers)
    while not any(racer.is_running_dry for racer in racers):
        for racer in order:
            racer.take_turn(counts=True)
        order.reverse()
