"""Ceilings on a worker: samples what executions use, tells and stops those that use too much.

A thread of its own samples, so that reading a large process does not hold up the loop. What it
finds is done in the loop, where no task can end and no other start in its child meanwhile.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from math import ceil
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from celery.utils.log import get_logger
from msgspec import json

from celery_budget.core.ceiling import Excess, Sample, Step, Watch
from celery_budget.errors import CeilingExceeded
from celery_budget.policy.budget import NO_CEILING, Ceiling
from celery_budget.units import format_amount
from celery_budget.worker import seams
from celery_budget.worker.tree import ProcessTree

if TYPE_CHECKING:
    from celery.concurrency.base import BasePool

    from celery_budget.policy.model import Policy
    from celery_budget.worker.intake import Held
    from celery_budget.worker.metering import Metering

logger = get_logger(__name__)

#: Between two samples of one execution. Half of what is promised (100 ms): a busy machine wakes
#: threads late. A sample takes some 60 us for each execution under a ceiling.
PERIOD_S = 0.05

#: Pairs of an execution's names whose ceiling is remembered; tenants may be many.
KNOWN = 10_000

#: Characters of a ceiling's place in the policy that a task is told. In JSON and UTF-8 they take at
#: most four bytes each, and the rest of a notice 70.
PATH_LENGTH = 100

#: What a number that was measured is rounded up to, for people.
_ROUNDED = {"cpu": 1_000, "memory": 2**20, "runtime": 1_000}


class Found(NamedTuple):
    """What a sample has led to."""

    held: Held
    step: Step
    excess: Excess


class Watched:
    """One execution under a ceiling, as the sampling thread sees it."""

    __slots__ = ("cpu_us", "is_stopped", "tree", "watch")

    def __init__(self, ceiling: Ceiling) -> None:
        self.watch = Watch(ceiling)
        self.tree: ProcessTree | None = None
        self.cpu_us = 0
        self.is_stopped = False

    def sample(self, pid: int, runtime_us: int) -> Sample:
        """Look at the processes of the execution.

        What they had used of the CPU when they were first looked at counts for the execution
        before: at most a period is missing, and nobody is stopped for what another has used.
        """
        ceiling = self.watch.ceiling
        first = self.tree is None or self.tree.pid != pid
        if self.tree is None or first:
            self.tree = ProcessTree(pid)
        cpu = memory = None
        if ceiling.cpu is not None:
            cpu = self.tree.cpu_us()
            if cpu is not None:
                if first:
                    self.cpu_us = cpu
                cpu -= self.cpu_us
        if ceiling.memory is not None:
            memory = self.tree.memory_bytes(ceiling.memory.units)
        return Sample(cpu, memory, runtime_us)


class Ceilings:
    """All executions of one worker that are under a ceiling.

    Args:
        policy: Has ceilings.
        pool: The worker's own, of children.
        metering: Knows when an execution began, and reaches it.
    """

    def __init__(self, policy: Policy, pool: BasePool, metering: Metering) -> None:
        self._pool = pool
        self._metering = metering
        self._known: OrderedDict[tuple[str, str, str, str], Ceiling] = OrderedDict()
        self.amend(policy)
        self._watched: dict[Held, Watched] = {}
        self._found: deque[Found] = deque()
        self._wake: Callable[[], None] | None = None
        self._has_work = Event()
        self._is_closed = Event()
        self._thread: Thread | None = None
        self._draining: AbstractContextManager[object] | None = None

    def amend(self, policy: Policy) -> None:
        """Go by another policy's ceilings; what runs keeps the one it started with."""
        self._policy = policy
        self._known.clear()
        memory = [rule.memory for rule in policy.ceilings if rule.memory is not None]
        self._least_memory = min(memory, default=0)

    def open(self, wake: Callable[[], None]) -> None:
        """Begin, or go on after a reconnect.

        Args:
            wake: Makes the loop call `poll`; from any thread.
        """
        self._wake = wake
        self._draining = None
        if self._thread is None:
            self._check_memory()
            self._thread = Thread(target=self._sample, name="celery-budget ceilings", daemon=True)
            self._thread.start()

    def _check_memory(self) -> None:
        """Warn of a ceiling that every child is above before it has run anything."""
        own = ProcessTree(os.getpid()).memory_bytes(0)
        if own is not None and 0 < self._least_memory <= own:
            logger.warning(
                "The lowest ceiling of memory is %s, and a child of this worker has about %s "
                "before it runs anything: every task under that ceiling is stopped. Raise it.",
                format_amount("memory", self._least_memory),
                _rounded("memory", own),
            )
            self._least_memory = 0  # to replace children would not help

    def drain(self, lock: AbstractContextManager[object]) -> None:
        """Go on without the loop, which waits for running tasks to end.

        Args:
            lock: Held by whoever lets tasks start or end.
        """
        self._draining = lock

    def close(self) -> None:
        """End for good."""
        self._is_closed.set()
        self._has_work.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def watch(self, held: Held) -> None:
        """Begin to watch an execution that is about to start, if it has a ceiling."""
        ceiling = self._ceiling(held)
        if ceiling is not NO_CEILING:
            self._watched[held] = Watched(ceiling)
            if not self._has_work.is_set():
                self._has_work.set()

    def _ceiling(self, held: Held) -> Ceiling:
        names = (held.task, held.band, held.tenant, held.queue)
        ceiling = self._known.get(names)
        if ceiling is None:
            found = self._policy.ceiling(*names)
            ceiling = self._known[names] = NO_CEILING if found == NO_CEILING else found
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)
        return ceiling

    def ended(self, held: Held, usage: Mapping[str, int]) -> None:
        """Watch an execution no longer; replace its child if that has kept too much memory.

        The next task in that child would be stopped for what this one has left there.

        Args:
            held: Watched or not.
            usage: Units by resource.
        """
        watched = self._watched.pop(held, None)
        if watched is not None and watched.is_stopped:
            return
        if not 0 < self._least_memory < usage.get("memory", 0):
            return
        pid = held.request.worker_pid
        left = ProcessTree(pid).memory_bytes(0)
        if left is not None and left > self._least_memory and seams.retire(self._pool, pid):
            logger.info(
                "A child still has %s after %s[%s] and is replaced.",
                _rounded("memory", left),
                held.task,
                held.id,
            )

    @property
    def has_found(self) -> bool:
        """Whether `poll` has something to do."""
        return bool(self._found)

    def poll(self) -> None:
        """Do what samples have led to."""
        while self._found:
            self._perform(self._found.popleft(), is_draining=False)

    def _perform(self, found: Found, *, is_draining: bool) -> None:
        held, step, excess = found
        watched = self._watched.get(held)
        if watched is None or watched.is_stopped:
            return  # it has ended meanwhile
        pid = held.request.worker_pid
        error = CeilingExceeded(
            excess.resource,
            _rounded(excess.resource, excess.used),
            format_amount(excess.resource, excess.limit),
            excess.path[:PATH_LENGTH],
        )
        if step is Step.TELL:
            logger.warning("Task %s[%s] is told to end: %s.", held.task, held.id, error)
            self._metering.stop(held, json.encode(error.args))
            seams.tell(self._pool, pid)
            return
        logger.error("Task %s[%s] is stopped: %s.", held.task, held.id, error)
        watched.is_stopped = True
        if watched.tree is not None:
            watched.tree.kill()
        seams.kill(self._pool, pid)
        if not is_draining:  # else the pool tells of a lost child
            seams.fail(held.request, error)

    def _sample(self) -> None:
        """Sample what runs, in a thread of its own."""
        while not self._is_closed.is_set():
            self._has_work.wait()
            for held, watched in list(self._watched.items()):
                found = self._look(held, watched)
                if found is None:
                    continue
                draining = self._draining
                if draining is not None:
                    with draining:
                        self._perform(found, is_draining=True)
                else:
                    self._found.append(found)
                    if self._wake is not None:
                        self._wake()
            if not self._watched:
                self._has_work.clear()
                if self._watched:  # one has come between
                    self._has_work.set()
            self._is_closed.wait(PERIOD_S)

    def _look(self, held: Held, watched: Watched) -> Found | None:
        pid = held.request.worker_pid
        if pid is None or watched.is_stopped:
            return None
        usage = self._metering.read(held)
        if usage is None or usage.is_final or usage.pid != pid:
            return None  # not begun, or over
        now = monotonic()
        frozen_at = held.frozen_at  # the loop's thread changes it
        frozen_s = held.frozen_s + (now - frozen_at if frozen_at else 0.0)
        runtime_us = int((now - frozen_s) * 1e6) - usage.started_ns // 1_000
        sample = watched.sample(pid, max(0, runtime_us))
        seen = watched.watch.look(sample, now)
        return None if seen is None else Found(held, *seen)


def _rounded(resource: str, units: int) -> str:
    """Write a measured number; up, so that what is above a limit reads so."""
    to = _ROUNDED[resource]
    return format_amount(resource, ceil(units / to) * to)
