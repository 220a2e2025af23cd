"""Throttling by a budget that urgent tasks wait for, in the world: it helps, settles, goes back."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from statistics import fmean, pstdev

import pytest

from celery_budget.core.shortage import Cause
from celery_budget.core.throttle import FLOOR
from celery_budget.policy.load import load
from celery_budget.simulate.job import Job
from celery_budget.simulate.world import World

#: When urgent work begins, has settled, ends and all is over, seconds; and how long of it may wait.
FROM, SETTLED, UNTIL, END = 10, 20, 70, 100
TARGET_S = 0.2


class Scene:
    """Workers whose slots are many and whose budget is not, all of it used by lesser work.

    Attributes:
        world: After it.
        shares: Of the lesser band, each second, of each worker.
        causes: What tells it.
    """

    def __init__(
        self,
        workers: int,
        seed: int,
        *,
        target_s: float | None = TARGET_S,
        budget: str = "fleet",
        slots: int = 4,
    ) -> None:
        policy = {
            "bands": {
                "critical": {
                    "preempts": True,
                    **({"latency_target": target_s} if target_s else {}),
                },
                "optional": {"min_share": 0.05},
            },
            "tasks": {"pay": {"band": "critical"}},
            "default_band": "optional",
            "budgets": {budget: {"slots": slots * workers}},
        }
        self.world = World(load(policy), seed=seed)
        for number in range(workers):
            self.world.add_worker(f"w{number}", 8)
            # No two workers begin to wait in the very same microsecond.
            self.world.clock.run(0.137)
        begin = self.world.clock.now
        self.begin = begin
        self._arrive("pay", begin + FROM, begin + UNTIL, 10 * workers, 0.1, Random(seed))
        self._arrive("other", begin, begin + END, 8 * workers, 1.0, Random(seed + 1))
        self.shares: list[list[float]] = []
        self.causes: list[set[Cause | None]] = []
        for _ in range(END):
            self.world.clock.run(1)
            fleet = [worker.dispatcher for worker in self.world.workers.values()]
            self.shares.append([each.throttled_to("optional") for each in fleet])
            self.causes.append({each.throttled_by("optional") for each in fleet})

    def _arrive(
        self, task: str, begin: float, end: float, per_s: float, length_s: float, chance: Random
    ) -> None:
        def jobs() -> Iterator[Job]:
            at = begin
            while (at := at + chance.expovariate(per_s)) < end:
                yield self.world.job(task, length_s * chance.uniform(0.8, 1.2), at=at)

        self.world.arrive(jobs())

    @property
    def late(self) -> float:
        """The part of the urgent tasks that started too late, once it has settled."""
        waits = [
            run.waited_s
            for run in self.world.runs
            if run.job.band == "critical" and run.job.published >= self.begin + SETTLED
        ]
        return sum(wait > TARGET_S for wait in waits) / len(waits)

    @property
    def done(self) -> int:
        """Lesser tasks that ran."""
        return sum(run.job.band == "optional" for run in self.world.runs)


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_urgent_tasks_find_a_part_of_the_budget_free(workers: int, seed: int) -> None:
    """Far fewer are late, at the price of some lesser tasks, which come back within ten seconds.

    The fleet's share lies still; which of its workers leaves more of it may drift.
    """
    plain = Scene(workers, seed, target_s=None)
    scene = Scene(workers, seed)
    steady = scene.shares[SETTLED:UNTIL]

    assert scene.late <= plain.late / 4
    assert scene.done >= 0.9 * plain.done
    assert FLOOR < fmean(map(fmean, steady)) < 0.5
    assert pstdev(map(fmean, steady)) <= 0.05
    assert all(pstdev(shares) <= 0.15 for shares in zip(*steady, strict=True))
    assert {Cause.LEDGER} == set.union(*scene.causes[SETTLED:UNTIL])
    assert all(1.0 == share for share in scene.shares[UNTIL + 10])


@pytest.mark.parametrize("seed", [1, 2])
def test_a_budget_of_urgent_work_alone_holds_nobody_back(seed: int) -> None:
    """Nothing that lesser bands leave alone would come to it."""
    scene = Scene(2, seed, budget="band:critical", slots=1)

    assert scene.late > 0.1
    assert Cause.LEDGER not in set.union(*scene.causes)
