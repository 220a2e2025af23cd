"""Weeks with spikes at known hours, for the simulations of forecasts.

Payments come at random, more by day than by night, less at weekends, on some days more than on
others; and on working days there are three spikes. Reports fill what slots there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, pi, sin
from random import Random

from celery_budget.core.outlook import error_of
from celery_budget.core.season import BIN_S, SEEN, WEEK, WEEKS, bin_of
from celery_budget.core.tally import MOST_ENTRIES, Entry, Tally
from celery_budget.policy.load import load
from celery_budget.simulate.job import Job
from celery_budget.simulate.world import World

#: When a spike begins, minutes after midnight UTC, how long it lasts, minutes, and how many times
#: the ordinary rate comes besides. One of them begins within a quarter of an hour.
SPIKES = (540, 20, 12), (780, 15, 10), (1027, 12, 12)

DAY_S = 86_400.0
_WORKING_DAYS = 5


@dataclass(frozen=True)
class Load:
    """What comes, and whom it meets."""

    per_s: float
    pay_s: float
    reports_per_s: float = 0.17
    report_s: float = 60.0
    slots: int = 8
    workers: int = 2
    #: Standard deviation of the logarithm of what one day has more than another.
    noise: float = 0.1


ORDINARY = Load(per_s=0.1, pay_s=2.5)


def monday(at: float) -> float:
    """Tell when the week of a time began."""
    # 1970 began on a Thursday.
    return at - (at - 4 * DAY_S) % (7 * DAY_S)


def rate(load_: Load, at: float) -> float:
    """Tell how many payments a second come at a time, on an average day."""
    day, second = divmod(at - monday(at), DAY_S)
    minute = second / 60
    of_day = load_.per_s * (1 + 0.5 * sin(2 * pi * (minute - 480) / 1_440))
    if day >= _WORKING_DAYS:
        return 0.4 * of_day
    return of_day + load_.per_s * sum(
        times for begin, lasts, times in SPIKES if begin <= minute < begin + lasts
    )


def payments(load_: Load, chance: Random, begin: float, end: float) -> Iterator[float]:
    """Tell when payments come, at random."""
    noise: dict[int, float] = {}
    while begin < end:
        day = int(begin // DAY_S)
        if day not in noise:
            noise[day] = exp(chance.gauss(0, load_.noise))
        per_s = noise[day] * rate(load_, begin)
        at, until = begin, min(end, begin // 60 * 60 + 60)
        while (at := at + chance.expovariate(per_s)) < until:
            yield at
        begin = until


def spikes(begin: float, end: float) -> list[tuple[float, float]]:
    """List the spikes between two times: when each begins and ends."""
    found = []
    first = monday(begin)
    for day in range(int((end - first) // DAY_S) + 1):
        for minute, lasts, _ in SPIKES if day % 7 < _WORKING_DAYS else ():
            at = first + day * DAY_S + minute * 60
            if begin + 3_600 < at and at + lasts * 60 < end:
                found.append((at, at + lasts * 60))
    return found


class Scene:
    """A fleet that has counted for some weeks, and goes through some days more.

    Args:
        seed: Of all chance.
        reserve_most: Of the band of payments; None: nothing is forecast.
        days: To go through.
        history: Weeks that were counted before; at most as many as are looked back.
        load_: What comes.

    Attributes:
        world: After it.
        begin: When it began, Unix seconds.
        kept: Slots of the fleet that were kept for payments when each spike began, as far as nobody
            else used them.
        left: Those that were kept half an hour after its end.
    """

    def __init__(
        self,
        seed: int,
        reserve_most: int | None,
        *,
        days: float,
        history: int = 2,
        load_: Load = ORDINARY,
    ) -> None:
        urgent = {"preempts": True}
        if reserve_most is not None:
            urgent["reserve_most"] = reserve_most  # type: ignore[assignment]
        policy = {
            "bands": {"critical": urgent, "optional": {}},
            "tasks": {"pay": {"band": "critical"}},
            "default_band": "optional",
        }
        self.world = world = World(load(policy), seed=seed)
        self.load = load_
        self.begin = world.clock.now
        end = self.begin + days * DAY_S
        self._remember(Random(seed + 1), history)
        for number in range(load_.workers):
            world.add_worker(f"w{number}", load_.slots)
        world.arrive(self._payments(Random(seed + 2), end))
        world.arrive(self._reports(Random(seed + 3), end))
        self.kept: list[int] = []
        self.left: list[int] = []
        for at, until in spikes(self.begin, end):
            world.clock.at(at, lambda: self.kept.append(self._kept()))
            world.clock.at(until + 1_800, lambda: self.left.append(self._kept()))
        world.clock.run(end - self.begin)

    def _remember(self, chance: Random, weeks: int) -> None:
        """Tell the store what came before, as workers would have done."""
        assert weeks <= WEEKS
        load_ = self.load
        first = bin_of(self.begin) - weeks * WEEK
        begin = (first + 1) * BIN_S + 4 * DAY_S
        counts = dict.fromkeys(range(first + 1, bin_of(self.begin)), 0)
        for at in payments(load_, chance, begin, self.begin):
            counts[bin_of(at)] = counts.get(bin_of(at), 0) + 1
        entries = [
            entry
            for number, came in counts.items()
            for entry in (
                Entry("critical", SEEN, number, 1, 0),
                Entry("critical", "pay", number, came, int(came * load_.pay_s * 1e6)),
            )
        ]
        for number, place in enumerate(range(0, len(entries), MOST_ENTRIES), 1):
            some = tuple(entries[place : place + MOST_ENTRIES])
            at = bin_of(self.begin)
            self.world.arrivals.count(
                Tally("before", number, 1, self.begin, at, ("critical",), some)
            )

    def _payments(self, chance: Random, end: float) -> Iterator[Job]:
        lengths = Random(chance.random())
        for at in payments(self.load, chance, self.begin, end):
            yield self.world.job("pay", lengths.expovariate(1 / self.load.pay_s), at=at)

    def _reports(self, chance: Random, end: float) -> Iterator[Job]:
        at = self.begin
        while (at := at + chance.expovariate(self.load.reports_per_s)) < end:
            yield self.world.job("report", chance.expovariate(1 / self.load.report_s), at=at)

    def _kept(self) -> int:
        dispatchers = [worker.dispatcher for worker in self.world.workers.values()]
        return sum(min(d.reserve("critical"), d.slots - d.running("optional")) for d in dispatchers)

    def in_place(self) -> tuple[int, int]:
        """Tell before how many spikes there were the slots that it used on average, and of all."""
        used = [
            sum(length_s for at, length_s in self._came if begin <= at < end) / (end - begin)
            for begin, end in spikes(self.begin, self.world.clock.now)
        ]
        return sum(kept >= each for kept, each in zip(self.kept, used, strict=True)), len(used)

    @property
    def _came(self) -> list[tuple[float, float]]:
        runs = self.world.runs
        return [(run.job.published, run.job.length_s) for run in runs if run.job.band == "critical"]

    def error(self) -> float:
        """Tell by how much forecasts were off, as an operator is told."""
        season = self.world.workers["w0"].dispatcher.forecast.seasons["critical"]
        bins = range(bin_of(self.begin) + 1, bin_of(self.world.clock.now))
        found = error_of(season, list(bins))
        assert found is not None
        return found

    def waits(self, first_s: float) -> list[float]:
        """Tell how long payments waited that came in the first seconds of spikes, in order."""
        begins = [begin for begin, _ in spikes(self.begin, self.world.clock.now)]
        return sorted(
            run.waited_s
            for run in self.world.runs
            if run.job.band == "critical"
            and any(begin <= run.job.published < begin + first_s for begin in begins)
        )

    def done(self, band: str) -> int:
        """Count the executions of a band."""
        return sum(run.job.band == band for run in self.world.runs)
