"""Throttling through an overload, in the world: it settles, keeps its promises, and goes back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean, pstdev

import pytest

from celery_budget.core.share import SHARE_SPAN_S
from celery_budget.core.throttle import FLOOR
from celery_budget.policy.load import load
from celery_budget.simulate.clock import BEGIN
from celery_budget.simulate.job import Job
from celery_budget.simulate.world import World
from tests.properties.virtual import Served

#: How long each stretch lasts, seconds, and how much comes then.
STEPS = (30, 1), (60, 5), (40, 1)
OVER, BACK, END = 30, 90, 130


@dataclass(frozen=True)
class Load:
    """What comes to each worker at the ordinary rate, and what it meets."""

    slots: int
    critical_per_s: float
    critical_s: float
    lesser_per_s: float
    lesser_s: float
    target_s: float
    workers: int = 1


#: At five times the rate the critical work alone fits well, and the lesser work does not.
LOADS = {
    "a large worker": Load(8, 10, 0.08, 6, 0.5, 0.1),
    "a small worker": Load(2, 2, 0.05, 1, 1.0, 0.1),
    "short tasks": Load(4, 6, 0.05, 4, 0.3, 0.1),
    "many slots": Load(16, 20, 0.1, 5, 1.0, 0.15),
    "long tasks": Load(8, 10, 0.08, 1, 3.0, 0.1),
    "several workers": Load(4, 5, 0.08, 3, 0.5, 0.1, workers=3),
}


class Scene:
    """An overload that comes and goes.

    Attributes:
        world: After it.
        shares: Of the lesser band on the first worker, each second.

    Args:
        load_: What comes.
        seed: Of its moments.
        target_s: Of the critical band.
        is_all: Whether lesser work becomes more as well.
        degraded_to: The part of its time that lesser work takes if it is asked to do less; None:
            it cannot.
    """

    def __init__(
        self,
        load_: Load,
        seed: int,
        target_s: float | None,
        *,
        is_all: bool = True,
        degraded_to: float | None = None,
    ) -> None:
        critical = {"preempts": True}
        if target_s is not None:
            critical["latency_target"] = target_s  # type: ignore[assignment]
        policy = {
            "bands": {
                "critical": critical,
                "optional": {"min_share": 0.05, "degrade": degraded_to is not None},
            },
            "tasks": {"pay": {"band": "critical"}},
            "default_band": "optional",
        }
        self._degraded_to = degraded_to or 1.0
        self.world = World(load(policy), seed=seed)
        for number in range(load_.workers):
            self.world.add_worker(f"w{number}", load_.slots)
        every = load_.workers
        self._arrive("pay", every * load_.critical_per_s, load_.critical_s, Random(seed))
        steps = STEPS if is_all else ((END, 1),)
        self._arrive("other", every * load_.lesser_per_s, load_.lesser_s, Random(seed + 1), steps)
        self.shares: list[float] = []
        for _ in range(END):
            self.world.clock.run(1)
            self.shares.append(self.world.workers["w0"].dispatcher.throttled_to("optional"))

    def _arrive(
        self,
        task: str,
        per_s: float,
        length_s: float,
        chance: Random,
        steps: Sequence[tuple[int, int]] = STEPS,
    ) -> None:
        def jobs() -> Iterator[Job]:
            at = self.world.clock.now
            for lasts_s, times in steps:
                end = at + lasts_s
                while (at := at + chance.expovariate(per_s * times)) < end:
                    job = self.world.job(task, length_s, at=at)
                    job.degraded_to = self._degraded_to
                    yield job
                at = end

        self.world.arrive(jobs())

    def started(self, band: str, begin: float, end: float) -> list[float]:
        """Tell how long those waited that started in a stretch, seconds since the beginning."""
        return [
            run.waited_s
            for run in self.world.runs
            if run.job.band == band and BEGIN + begin <= run.started < BEGIN + end
        ]

    def late(self, begin: float, end: float, of: float) -> float:
        """Tell which part of the critical ones waited longer than that."""
        waits = self.started("critical", begin, end)
        return sum(wait > of for wait in waits) / len(waits)


@pytest.mark.parametrize("load_", LOADS.values(), ids=list(LOADS))
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_overload_is_settled_without_swinging(load_: Load, seed: int) -> None:
    """Half a minute later the share lies still, and most critical tasks start in time."""
    scene = Scene(load_, seed, load_.target_s)
    steady = scene.shares[OVER + 10 : BACK]

    assert FLOOR <= fmean(steady) < 0.9
    assert pstdev(steady) <= 0.1
    assert scene.late(OVER + 5, BACK, load_.target_s) <= 0.1
    without = Scene(load_, seed, None)
    assert without.late(OVER + 5, BACK, load_.target_s) > 2 * scene.late(
        OVER + 5, BACK, load_.target_s
    )


@pytest.mark.parametrize("load_", LOADS.values(), ids=list(LOADS))
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lesser_work_is_back_within_ten_seconds(load_: Load, seed: int) -> None:
    """It gets again what it got before, and as much more as its backlog can take."""
    scene = Scene(load_, seed, load_.target_s)
    before = len(scene.started("optional", 5, OVER)) / (OVER - 5)

    assert len(scene.started("optional", BACK + 10, END)) / (END - BACK - 10) >= before
    assert len(scene.started("optional", BACK + 5, BACK + 10)) / 5 >= 0.9 * before


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_without_a_backlog_the_share_is_whole_again_within_ten_seconds(seed: int) -> None:
    """Where only the urgent work became more, nothing is left to wait for it."""
    scene = Scene(Load(8, 10, 0.08, 9, 0.5, 0.1), seed, 0.1, is_all=False)

    assert min(scene.shares[OVER:BACK]) < 0.8
    assert 1.0 in scene.shares[BACK : BACK + 10]


@pytest.mark.parametrize("load_", LOADS.values(), ids=list(LOADS))
def test_lesser_work_keeps_its_minimum_share(load_: Load) -> None:
    """In every span of the overload, on every worker, whatever waits above it."""
    scene = Scene(load_, 4, load_.target_s / 1_000)
    runs = scene.world.runs

    for name in scene.world.workers:
        served = Served([r for r in runs if r.worker == name], "optional", scene.world.clock.now)
        # A band of several workers may have its last ones at others: while all have a backlog.
        least = served.least(SHARE_SPAN_S, BEGIN + OVER + 10, BEGIN + BACK)
        assert least >= 0.05 * load_.slots * SHARE_SPAN_S


def test_nobody_is_held_back_where_it_would_not_help() -> None:
    """Lesser tasks that are shorter than the target make nobody wait."""
    scene = Scene(Load(8, 10, 0.08, 60, 0.02, 0.1), 1, 0.1)

    assert {1.0} == set(scene.shares)


@pytest.mark.parametrize("load_", LOADS.values(), ids=list(LOADS))
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tasks_that_do_less_leave_more_room_for_others(load_: Load, seed: int) -> None:
    """More of them are done in the overload, and urgent ones are late no more often."""
    plain = Scene(load_, seed, load_.target_s)
    scene = Scene(load_, seed, load_.target_s, degraded_to=0.4)
    late = scene.late(OVER + 5, BACK, load_.target_s)

    assert late <= max(0.05, 1.2 * plain.late(OVER + 5, BACK, load_.target_s))
    done, before = (len(each.started("optional", OVER + 5, BACK)) for each in (scene, plain))
    assert done >= 1.3 * before
    runs = [run for run in scene.world.runs if run.job.band == "optional"]
    during = [r.is_degraded for r in runs if BEGIN + OVER + 5 <= r.started < BEGIN + BACK]
    assert fmean(during) >= 0.95
    assert not any(run.is_degraded for run in scene.world.runs if run.job.band == "critical")
