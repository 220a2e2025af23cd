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

_IDLE = "nothing else to do"
_LOADS = {"slow": "waiting", "burn": "computing"}
_PRIORITIES = Variant("stock, message priorities", priorities=True, prefetch_multiplier=1)
_STOCK = Variant("stock, one queue")
_OURS = Variant("ours, freeze", policy=three_bands(freezes=True))


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
    runs = [Variant(_IDLE)]
    runs += [Variant(f"{kind} {flood}") for flood in _LOADS for kind in ("one", "first", "ours")]
    apps = {"one": _STOCK, "first": _PRIORITIES, "ours": _OURS}
    rows: list[Row] = []
    raw: list[dict[str, object]] = []
    for broker, url in urls.items():

        def measure(which: Variant, broker: BrokerName = broker, url: str = url) -> Outcome:
            announce(f"preemption: {broker}, {which.name}")
            kind, _, flood = which.name.partition(" ")
            if which.name == _IDLE:
                return measure_overload(url, _OURS, seconds, "")
            return measure_overload(url, apps[kind], seconds, flood)

        results = alternate(runs, rounds, measure)
        for name, outcomes in results.items():
            kind, _, flood = name.partition(" ")
            stock = results.get(f"one {flood}", results["one slow"])
            app = _OURS if name == _IDLE else apps[kind]
            load = {"optional tasks": _LOADS.get(flood, _IDLE)}
            rows.append({**row(broker, app.name, outcomes, stock), **load})
            raw.append({"broker": broker, "run": name, "outcomes": outcomes})
    title = f"Critical wait with preemption, ms, two slots of 1 s tasks, {seconds} s a run"
    return Report(f"{title} (median, lowest-highest of rounds)", rows, raw)
