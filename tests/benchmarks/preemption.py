"""How long critical tasks wait where lesser ones are frozen for them, against an idle worker.

The load of `overload.py`: two slots full of optional tasks of one second, which wait or compute,
and a critical no-op task each 100 ms. The idle worker runs the critical tasks alone.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.benchmarks.overload import SECONDS, Outcome, measure_overload, row
from tests.benchmarks.report import Report, Row
from tests.benchmarks.runner import alternate
from tests.benchmarks.variants import BrokerName, Variant, three_bands

_OURS = Variant("ours, freeze", policy=three_bands(preempt=["freeze"]))
_STOCK = Variant("stock, one queue")
_PRIORITIES = Variant("stock, message priorities", priorities=True, prefetch_multiplier=1)
_LOADS = {"waiting": "slow", "computing": "burn"}

#: What runs, and what its optional tasks do, by the name of the run.
_RUNS = {"idle": (_OURS, "nothing")} | {
    f"{app.name}, {load}": (app, load) for load in _LOADS for app in (_STOCK, _PRIORITIES, _OURS)
}


def compare_preemption(
    urls: dict[BrokerName, str],
    rounds: int,
    announce: Callable[[str], None],
    seconds: int = SECONDS,
) -> Report:
    """Measure both loads on every broker.

    Args:
        urls: Brokers to use.
        rounds: Alternating rounds.
        announce: Told what is measured next.
        seconds: How long each run publishes critical tasks.
    """
    rows: list[Row] = []
    raw: list[dict[str, object]] = []
    for broker, url in urls.items():

        def measure(which: Variant, broker: BrokerName = broker, url: str = url) -> Outcome:
            announce(f"preemption: {broker}, {which.name}")
            app, load = _RUNS[which.name]
            return measure_overload(url, app, seconds, _LOADS.get(load, ""))

        results = alternate([Variant(name) for name in _RUNS], rounds, measure)
        for name, outcomes in results.items():
            app, load = _RUNS[name]
            stock = results.get(f"{_STOCK.name}, {load}", results[f"{_STOCK.name}, waiting"])
            rows.append({**row(broker, app.name, outcomes, stock), "optional tasks": load})
            raw.append({"broker": broker, "run": name, "outcomes": outcomes})
    title = f"Critical wait with preemption, ms, two slots of 1 s tasks, {seconds} s a run"
    return Report(f"{title} (median, lowest-highest of rounds)", rows, raw)
