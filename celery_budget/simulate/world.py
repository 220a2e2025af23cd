"""The world of a simulation: policy, clock, broker, ledger and workers in one place.

    world = World(load("budget.toml"), seed=7)
    for name in ("w1", "w2", "w3"):
        world.add_worker(name, slots=2)
    world.arrive(world.job("payments.charge", 0.08, at=world.clock.now + each) for each in times)
    world.clock.run(60)
    waits = [run.waited_s for run in world.runs]

The same policy, arrivals and seed give the same runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import count
from math import inf
from random import Random

from celery_budget.core.reporting import LEASE_S
from celery_budget.policy.abilities import can_degrade, methods
from celery_budget.policy.model import Policy
from celery_budget.policy.preemption import Method
from celery_budget.policy.terms import NOTHING_DECLARED, resolve
from celery_budget.simulate.broker import Broker
from celery_budget.simulate.clock import Clock
from celery_budget.simulate.job import Job, Run
from celery_budget.simulate.worker import SimulatedWorker
from celery_budget.stores.memory import MemoryLedger
from celery_budget.stores.memory_arrivals import MemoryArrivals

#: How long a report to the ledger, or its answer, is under way at least and at most, seconds
#: (docs/explanation/budgets.md).
LEDGER_DELAY_S = 0.0005, 0.005


class World:
    """All that a simulation consists of.

    Args:
        policy: Of all workers.
        seed: Of all chance: how long messages are under way.
        delay_s: How long messages are under way; see `Broker`.

    Attributes:
        policy: As given.
        clock: The time; `clock.run` lets it pass.
        broker: Where jobs wait.
        ledger: The reference ledger.
        arrivals: What workers have counted; tally what weeks before brought, for a forecast.
        ways: In which running jobs can give way: those that the policy names.
        workers: By name.
        runs: All executions, in order of their starts.
        refused: Jobs that never ran, for a budget.
        expired: Jobs that never ran, as their time was over.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        seed: int = 0,
        delay_s: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        self.policy = policy
        self.clock = Clock()
        self._chance = Random(seed)  # noqa: S311 - keeps no secret, and must be repeatable
        self.broker = Broker(
            self.clock, [band.name for band in policy.bands], self._chance, delay_s
        )
        self.ledger = MemoryLedger(lambda: self.clock.now_us, int(LEASE_S * 1e6))
        self.arrivals = MemoryArrivals(lambda: self.clock.now_us)
        said = [rule.preempt for rule in policy.tasks] + [band.preempt for band in policy.bands]
        self.ways: frozenset[Method] = frozenset(way for one in said for way in one or ())
        self.workers: dict[str, SimulatedWorker] = {}
        self.runs: list[Run] = []
        self.refused: list[Job] = []
        self.expired: list[Job] = []
        self._ids = count(1)

    def add_worker(
        self, name: str, slots: int, memory: int | None = None, processors: float | None = None
    ) -> SimulatedWorker:
        """Let one more worker take part, from now on.

        Args:
            name: Of it.
            slots: Of its pool.
            memory: Of its node, bytes, for a policy with `[pressure]`; None: it is not looked at.
            processors: Of its node, the same.
        """
        worker = self.workers[name] = SimulatedWorker(self, name, slots, memory, processors)
        worker.open()
        return worker

    def job(self, task: str, length_s: float, *, at: float | None = None, tenant: str = "") -> Job:
        """Make a job of a task, as the policy has it.

        Args:
            task: Its name, from which the policy tells the rest.
            length_s: How long it will run, seconds.
            at: When it is published, Unix seconds; None: now.
            tenant: Whose work it is.
        """
        at = self.clock.now if at is None else at
        terms = resolve(self.policy, task, now=at)
        return Job(
            f"job-{next(self._ids)}",
            task,
            terms.band,
            tenant or terms.tenant,
            deadline=terms.deadline,
            expires=inf if terms.expires is None else terms.expires,
            published=at,
            cost=terms.cost,
            methods=methods(self.policy, task, NOTHING_DECLARED, terms.band),
            can_degrade=can_degrade(self.policy, task, NOTHING_DECLARED, terms.band),
            length_s=length_s,
        )

    def arrive(self, jobs: Iterable[Job]) -> None:
        """Let jobs be published at their times; read one after the other, so that they may be many.

        Args:
            jobs: In order of `published`.
        """
        self._next(iter(jobs))

    def _next(self, jobs: Iterator[Job]) -> None:
        job = next(jobs, None)
        if job is None:
            return

        def publish() -> None:
            self.broker.publish(job)
            self._next(jobs)

        self.clock.at(job.published, publish)

    def resume(self, job: Job, left_s: float) -> None:
        """Give a job that made room back to the front of its queue, a moment later."""
        # Another ticket of the same message, which nobody has looked at yet.
        rest = replace(job, length_s=left_s, excused=frozenset(), group=None, since=0.0)
        self.clock.after(self.broker.delay_s(job.band), lambda: self.broker.give_back(rest))

    def delay_s(self) -> float:
        """Draw how long a report to the ledger or an answer is under way, seconds."""
        return self._chance.uniform(*LEDGER_DELAY_S)
