"""An overload that comes and goes: `python -m tests.benchmarks.steps`.

Two workers, critical tasks that are wanted within 100 ms, and optional ones that cannot give way;
five times as much of both for a minute. The same once in the world of the simulation, once on real
workers, and once on real workers without a target, so that nobody is throttled.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import fmean, pstdev
from threading import Thread
from typing import get_args

import click
from celery import Celery
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from celery_budget.embedded import RabbitServer, RedisServer
from celery_budget.policy.load import load
from celery_budget.simulate.job import Job
from celery_budget.simulate.world import World
from tests.benchmarks.report import percentile
from tests.benchmarks.variants import BrokerName
from tests.budgets import Budgets
from tests.servers import Broker

_WORKERS, _SLOTS = 2, 6
_TARGET_S, _MIN_SHARE = 0.1, 0.05
#: Task: how many a second, and how long each takes.
_TASKS: Mapping[str, tuple[float, float]] = {"critical": (12.0, 0.08), "optional": (8.0, 0.5)}
#: How long each stretch lasts, seconds, and how much comes then.
_STEPS = (30, 1), (60, 5), (40, 1)
_OVER, _BACK, _END = 30, 90, 130


@dataclass
class Trial:
    """What one run showed, by second.

    Attributes:
        title: Of its row and its line.
        starts: Of each band: when each task was published and how long it waited, seconds.
        shares: What the throttle left to the optional band; the mean of both workers.
    """

    title: str
    starts: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    shares: list[float] = field(default_factory=list)

    def waits_ms(self, begin: float, end: float) -> list[float]:
        """Tell how long critical tasks waited that were published in a stretch."""
        return [1e3 * wait for at, wait in self.starts["critical"] if begin <= at < end]

    def rate(self, begin: float, end: float) -> float:
        """Tell how many optional tasks started a second in a stretch."""
        starts = sum(begin <= at + wait < end for at, wait in self.starts["optional"])
        return starts / (end - begin)


def _policy(target_s: float | None) -> dict[str, object]:
    critical: dict[str, object] = {"preempts": True}
    if target_s is not None:
        critical["latency_target"] = target_s
    return {
        "default_band": "optional",
        "bands": {"critical": critical, "optional": {"min_share": _MIN_SHARE}},
    }


def _moments(band: str, seed: int) -> Iterator[float]:
    """Draw when tasks are published, seconds since the beginning."""
    chance = Random(seed)
    at = end = 0.0
    for lasts_s, times in _STEPS:
        end += lasts_s
        while (at := at + chance.expovariate(_TASKS[band][0] * times)) < end:
            yield at
        at = end


def _jobs(world: World, band: str, seed: int) -> Iterator[Job]:
    begun = world.clock.now
    for at in _moments(band, seed):
        yield world.job(band, _TASKS[band][1], at=begun + at)


def simulate(seed: int) -> Trial:
    """Let the world go through it."""
    trial = Trial("simulated")
    policy = _policy(_TARGET_S)
    world = World(load({**policy, "tasks": {band: {"band": band} for band in _TASKS}}), seed=seed)
    for number in range(_WORKERS):
        world.add_worker(f"w{number}", _SLOTS)
    begun = world.clock.now
    for band in _TASKS:
        world.arrive(_jobs(world, band, seed))
    for _ in range(_END):
        world.clock.run(1)
        shares = [each.dispatcher.throttled_to("optional") for each in world.workers.values()]
        trial.shares.append(fmean(shares))
    for band in _TASKS:
        trial.starts[band] = [
            (run.job.published - begun, run.waited_s) for run in world.runs if run.job.band == band
        ]
    return trial


def measure(
    redis: RedisServer,
    directory: Path,
    title: str,
    target_s: float | None,
    broker: Broker | None = None,
) -> Trial:
    """Let real workers go through it."""
    directory.mkdir()
    trial = Trial(title)
    budgets = Budgets(redis, directory, _policy(target_s), broker)
    workers = [budgets.spawn(slots=_SLOTS) for _ in range(_WORKERS)]
    for worker in workers:
        worker.wait_until_ready()
    sender = budgets.sender()
    moments = sorted((at, band) for band in _TASKS for at in _moments(band, 1))
    published: dict[str, list[float]] = {band: [] for band in _TASKS}
    begun = time.time() + 1
    shares = _Shares(sender.app, begun)
    shares.start()
    for at, band in moments:
        time.sleep(max(0.0, begun + at - time.time()))
        number = len(published[band])
        published[band].append(time.time())
        sender.pause.apply_async((band, _TASKS[band][1], number), band=band)
    shares.join()
    for worker in workers:
        worker.kill()
    trial.shares = shares.found
    for band, times in published.items():
        trial.starts[band] = [
            (times[entry["number"]] - begun, entry["at"] - times[entry["number"]])
            for entry in budgets.journal.entries("started", key=band)
        ]
    return trial


class _Shares(Thread):
    """Asks the workers each second how far the optional band is held back."""

    def __init__(self, app: Celery, begun: float) -> None:
        super().__init__()
        self.found: list[float] = []
        self._app = app
        self._begun = begun

    def run(self) -> None:
        """Ask until the end."""
        inspect = self._app.control.inspect(timeout=0.8, limit=_WORKERS)
        for second in range(_END):
            time.sleep(max(0.0, self._begun + second + 1 - time.time()))
            replies = inspect._request("budget") or {}
            told = [reply["bands"]["optional"]["throttled_to"] for reply in replies.values()]
            if told:
                self.found.append(fmean(told))
            else:
                self.found.append(self.found[-1] if self.found else 1.0)


def tabulate(trials: Sequence[Trial]) -> Table:
    """Lay out what the runs showed."""
    table = Table()
    table.add_column("run")
    for column in (
        "critical p95 before, during, after, ms",
        "later than 100 ms during",
        "share during: mean, deviation",
        "optional a second before, during, after",
        "back after, s",
    ):
        table.add_column(column, justify="right")
    for trial in trials:
        stretches = (5, _OVER), (_OVER + 5, _BACK), (_BACK + 10, _END)
        waits = [f"{percentile(trial.waits_ms(*each), 0.95):.0f}" for each in stretches]
        during = trial.waits_ms(*stretches[1])
        late = sum(wait > 1e3 * _TARGET_S for wait in during) / len(during)
        steady = trial.shares[_OVER + 10 : _BACK]
        before = trial.rate(*stretches[0])
        back = next(at for at in range(_BACK, _END) if trial.rate(at, at + 3) >= before) - _BACK
        table.add_row(
            trial.title,
            " ".join(waits),
            f"{late:.1%}",
            f"{fmean(steady):.2f} {pstdev(steady):.3f}",
            " ".join(f"{trial.rate(*each):.1f}" for each in stretches),
            str(back),
        )
    return table


def draw(trials: Sequence[Trial], file: Path) -> None:
    """Write the runs as a picture: shares, waits and starts over time."""
    figure = Figure(figsize=(9, 8), layout="constrained")
    FigureCanvasAgg(figure)
    shares, waits, starts = figure.subplots(3, sharex=True)
    seconds = range(_END)
    for trial in trials:
        shares.plot([second + 1 for second in seconds], trial.shares, label=trial.title)
        late = [percentile(trial.waits_ms(at, at + 1) or [0.0], 0.95) for at in seconds]
        waits.plot([second + 0.5 for second in seconds], late, label=trial.title)
        rates = [trial.rate(at, at + 1) for at in seconds]
        starts.plot([second + 0.5 for second in seconds], rates, label=trial.title)
    waits.axhline(1e3 * _TARGET_S, color="black", linewidth=0.8, linestyle="dashed")
    for axes, label in (
        (shares, "share of the slots\nleft to optional"),
        (waits, "critical: 95 % start\nwithin, ms"),
        (starts, "optional starts\na second"),
    ):
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.axvspan(_OVER, _BACK, color="grey", alpha=0.15)
        axes.grid(visible=True, alpha=0.3)
    starts.set_xlabel("seconds; five times the load in the grey part")
    shares.legend(loc="lower left")
    figure.savefig(file, dpi=100, format="png")


@click.command()
@click.option("--broker", type=click.Choice(get_args(BrokerName)), default="redis")
@click.option("--plot", type=click.Path(path_type=Path), help="PNG file to write.")
def main(broker: BrokerName, plot: Path | None) -> None:
    """Measure all, and print a table."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        trials = [simulate(1)]
        for title, target_s in ((f"on {broker}", _TARGET_S), (f"on {broker}, no target", None)):
            if broker == "rabbitmq":
                with RabbitServer() as rabbit:
                    own = Broker("rabbitmq", rabbit.url)
                    trials.append(measure(redis, scratch / title, title, target_s, own))
            else:
                trials.append(measure(redis, scratch / title, title, target_s))
    Console(width=160).print(tabulate(trials))
    if plot is not None:
        draw(trials, plot)


if __name__ == "__main__":
    main()
