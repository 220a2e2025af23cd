"""How good forecasts are, and what they are good for: `python -m tests.benchmarks.forecast`.

Simulated weeks with three spikes on each working day, of two workers that reports keep busy: with
slots kept by forecast, and without. With `--bins` and `--weights` other questions: how long a bin
should be, and how much what is known should count.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from random import Random

import click

from celery_budget.core import season as seasons
from celery_budget.core.staffing import needed
from celery_budget.simulate.clock import BEGIN
from tests.properties.spikes import DAY_S, ORDINARY, Load, Scene, monday, payments, spikes

_MOST = 6
_WEEKS = 4
_TUNED = ("FADE", "PRIOR", "WORTH", "MOST")


def _part(waits: Sequence[float], part: float) -> float:
    return waits[ceil(part * len(waits)) - 1]


def _simulate(seed: int, days: float) -> None:
    for most in (_MOST, None):
        begun = time.monotonic()
        scene = Scene(seed, most, days=days)
        took_s = time.monotonic() - begun
        waits = scene.waits(120)
        late = sum(wait > 1 for wait in waits) / len(waits)
        line = (
            f"seed {seed}, {'no forecast' if most is None else 'forecast   '}: waits at the "
            f"beginning of spikes p50 {_part(waits, 0.5) * 1e3:.0f} ms, p90 "
            f"{_part(waits, 0.9) * 1e3:.0f} ms, p95 {_part(waits, 0.95) * 1e3:.0f} ms, {late:.1%} "
            f"over 1 s; {scene.done('critical')} payments and {scene.done('optional')} reports"
        )
        if most is not None:
            in_place, of_all = scene.in_place()
            line += (
                f"; slots in place before {in_place} of {of_all} spikes, off by {scene.error():.1%}"
            )
        click.echo(f"{line} ({took_s:.0f} s)")


def _constants(bin_s: int = seasons.BIN_S, **others: float) -> dict[str, float]:
    """Give the constants of a season with bins of another length that does the same otherwise."""
    scale = bin_s / seasons.BIN_S
    return {
        "BIN_S": bin_s,
        "HOUR": 3_600 // bin_s,
        "DAY": 86_400 // bin_s,
        "WEEK": 7 * 86_400 // bin_s,
        "RECENT": max(2, round(seasons.RECENT / scale)),
        "NEXT": seasons.NEXT**scale,
        "LASTS": seasons.LASTS**scale,
        **others,
    }


_BINS = {f"bins of {bin_s} s": _constants(bin_s) for bin_s in (3_600, 900, 300)}
_WEIGHTS = {
    "as it is": _constants(),
    "no correction": _constants(WORTH=1e9),
    **{
        f"{name} = {value}": _constants(**{name: value})
        for name, value in (
            ("WORTH", 10.0),
            ("WORTH", 100.0),
            ("NEXT", 0.5),
            ("NEXT", 0.95),
            ("LASTS", 0.7),
            ("LASTS", 0.98),
            ("FADE", 0.25),
            ("FADE", 0.8),
            ("PRIOR", 0.1),
            ("PRIOR", 10.0),
        )
    },
}


def _measure(seed: int, name: str, constants: dict[str, float], load_: Load) -> None:
    """Cut weeks into bins, and look at what is expected of the last one."""
    begin = monday(BEGIN)
    end = begin + _WEEKS * 7 * DAY_S
    last = end - 7 * DAY_S
    for constant, value in constants.items():
        setattr(seasons, constant, value)
    season = seasons.Season()
    came = list(payments(load_, Random(seed), begin, end))
    for at in came:
        week, place = divmod(seasons.bin_of(at), seasons.WEEK)
        counts = season.weeks.setdefault(week, {}).setdefault("pay", seasons.Row()).counts
        counts.extend([0] * (place + 1 - len(counts)))
        counts[place] += 1
    season.changed()
    bins = range(seasons.bin_of(last), seasons.bin_of(end))
    arrived = sum(season.arrived(number) for number in bins)
    off = sum(abs(season.forecast(n, seasons.begin_of(n)) - season.arrived(n)) for n in bins)
    found = spikes(last, end)
    enough = 0
    for first, until in found:
        used = sum(first <= at < until for at in came) / (until - first) * load_.pay_s
        number = seasons.bin_of(first)
        expected = season.forecast(number, seasons.begin_of(number)) / seasons.BIN_S
        enough += needed(expected * load_.pay_s) >= used
    click.echo(
        f"seed {seed}, {name}: enough for {enough} of {len(found)} spikes, "
        f"off by {off / arrived:.1%}"
    )


@click.command()
@click.option("--seeds", default=3, help="How many.")
@click.option("--days", default=7.0, help="Of each simulation.")
@click.option("--bins", "is_bins", is_flag=True, help="Compare lengths of bins instead.")
@click.option("--weights", "is_weights", is_flag=True, help="Compare weights instead.")
def main(seeds: int, days: float, *, is_bins: bool, is_weights: bool) -> None:
    """Measure with some seeds."""
    before = {name: getattr(seasons, name) for name in _TUNED}
    for seed in range(1, seeds + 1):
        if not is_bins and not is_weights:
            _simulate(seed, days)
        for name, constants in {
            **(_BINS if is_bins else {}),
            **(_WEIGHTS if is_weights else {}),
        }.items():
            # Days that differ much show what corrects best.
            load_ = replace(ORDINARY, noise=0.3) if is_weights else ORDINARY
            _measure(seed, name, {**before, **constants}, load_)


if __name__ == "__main__":
    main()
