"""Throttling by what lies in the broker: it settles, also where several workers see one queue."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from statistics import fmean

import pytest

from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.shortage import Cause, Queued
from celery_budget.core.throttle import FLOOR, GOAL
from celery_budget.policy.load import load
from celery_budget.policy.model import Band
from celery_budget.simulate.clock import BEGIN
from celery_budget.simulate.job import Job
from celery_budget.simulate.world import World
from tests.unit.core.worker import run, ticket

TARGET_S = 0.1
SERVICE_S = 0.1
SLOTS = 100
BANDS = Band("critical", 0, preempts=True, latency_target=TARGET_S), Band("optional", 1)


def full(now: float) -> Dispatcher:
    """Make a worker whose slots are all taken for long, so that the queue alone tells anything."""
    dispatcher = Dispatcher(BANDS, SLOTS)
    first = ticket("critical", published=now)
    run(dispatcher, first, now=now)
    dispatcher.ended(first, now + SERVICE_S)
    for _ in range(SLOTS):
        run(dispatcher, ticket("critical", published=now), now=now)
    return dispatcher


def shares(even: float, power: float, workers: int, periods: int) -> list[list[float]]:
    """Let workers follow a queue that is as long as the shares that they leave to others make it.

    Args:
        even: At this share the messages wait as long as wanted.
        power: Of the share, with which they grow.
        workers: Each looks and steps at moments of its own.
        periods: How many.
    """
    fleet = [full(BEGIN) for _ in range(workers)]
    # What they started before counts for a first period.
    for dispatcher in fleet:
        dispatcher.decide(BEGIN + 0.99)
    found: list[list[float]] = []
    for period in range(1, periods + 1):
        for place, dispatcher in enumerate(fleet):
            now = BEGIN + 1.01 * period + place / workers
            share = fmean(each.throttled_to("optional") for each in fleet)
            wait_s = TARGET_S * (share / even) ** power
            messages = round(wait_s / SERVICE_S * SLOTS * workers)
            dispatcher.see({"critical": Queued(messages, 0.0, now, workers)})
            dispatcher.decide(now)
        found.append([dispatcher.throttled_to("optional") for dispatcher in fleet])
    return found


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("power", [0.5, 1, 2, 4])
@pytest.mark.parametrize("even", [0.1, 0.2, 0.3, 0.5, 0.7])
def test_it_settles_within_three_periods_of_being_told(
    even: float, power: float, workers: int
) -> None:
    """The first of two looks tells nothing; from the second on, however much depends on it."""
    found = shares(even, power, workers, 60)

    last = found[-1]
    for period in found[4:]:
        assert all(abs(share - end) <= 0.1 for share, end in zip(period, last, strict=True))
    for place in range(workers):
        late = [period[place] for period in found[10:]]
        assert max(late) - min(late) <= 0.1 * late[-1]
    size = (fmean(last) / even) ** power
    assert size <= 1.25 * GOAL or FLOOR == fmean(last)


class Scene:
    """Long urgent tasks, more than there are slots for, and then none.

    Attributes:
        world: After it.
        shares: Of the lesser band, each second, of each worker.
        causes: What tells it.
        depths: Messages in the urgent queue, each second.
    """

    BURST_S, END_S = 20, 60

    def __init__(self, workers: int, seed: int) -> None:
        policy = {
            "bands": {
                "critical": {"preempts": True, "latency_target": "1s"},
                "optional": {"min_share": 0.05},
            },
            "tasks": {"pay": {"band": "critical"}},
            "default_band": "optional",
        }
        self.world = World(load(policy), seed=seed)
        for number in range(workers):
            self.world.add_worker(f"w{number}", 4)
        self.world.arrive(self._jobs("other", 6 * workers, 0.5, self.END_S, Random(seed)))
        self.world.clock.run(5)
        self.world.arrive(self._jobs("pay", 2 * workers, 4.0, self.BURST_S, Random(seed + 1)))
        self.shares: list[list[float]] = []
        self.causes: list[set[Cause | None]] = []
        self.depths: list[int] = []
        while not self.depths or self.depths[-1] or len(self.depths) < self.END_S:
            self.world.clock.run(1)
            fleet = [worker.dispatcher for worker in self.world.workers.values()]
            self.shares.append([each.throttled_to("optional") for each in fleet])
            self.causes.append({each.throttled_by("optional") for each in fleet})
            self.depths.append(len(self.world.broker.queues["critical"]))

    def _jobs(
        self, task: str, per_s: float, length_s: float, lasts_s: float, chance: Random
    ) -> Iterator[Job]:
        at = self.world.clock.now
        end = at + lasts_s
        while (at := at + chance.expovariate(per_s)) < end:
            yield self.world.job(task, length_s, at=at)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_queue_that_no_worker_can_ask_lowers_the_share(workers: int, seed: int) -> None:
    """Four of them fill a worker for four seconds, in which none starts and none tells a wait."""
    scene = Scene(workers, seed)
    deep = next(second for second, depth in enumerate(scene.depths) if depth >= 4 * workers)

    assert all(share <= 0.5 for share in scene.shares[deep + 3])
    assert any(Cause.QUEUE in causes for causes in scene.causes)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lesser_work_is_back_when_the_queue_is_empty(workers: int, seed: int) -> None:
    """Within the time that the share takes from its floor, once there is a slot again."""
    scene = Scene(workers, seed)
    scene.world.clock.run(20)

    fleet = [worker.dispatcher for worker in scene.world.workers.values()]
    assert all(1.0 == each.throttled_to("optional") for each in fleet)
    assert all(each.throttled_by("optional") is None for each in fleet)
