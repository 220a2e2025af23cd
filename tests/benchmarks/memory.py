"""How much memory a worker's main process and a pool child take, against stock Celery.

Read after some no-op tasks, so that all that is imported or made on first use is there.
RSS counts shared pages in full, PSS by the number of processes that share them, private (USS) not
at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

import psutil

from tests.benchmarks.report import Report, Row, Spread, differences, spread
from tests.benchmarks.runner import Pool, alternate, start_run
from tests.benchmarks.variants import EMPTY_POLICY, STOCK, THREE_BANDS, BrokerName, Variant

_POOL = Pool("prefork", 2)
_MESSAGES = 500
_TIMEOUT_S = 120.0
_OURS = (THREE_BANDS, EMPTY_POLICY)
_KINDS = ("rss", "pss", "private")


@dataclass(frozen=True, slots=True)
class Size:
    """Memory of one process, or the mean of several, in MB (10^6 bytes)."""

    rss: float
    pss: float
    private: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """One measurement: the main process and the mean of its pool children."""

    main: Size
    child: Size


def measure_memory(url: str, variant: Variant) -> Sizes:
    """Run some tasks, then read the kernel's books while the worker is idle.

    Args:
        url: The broker's.
        variant: What app to run.

    Raises:
        ServerFailed: The tasks did not all run.
    """
    with start_run(url, variant) as run:
        run.publish("noop", _MESSAGES, bands=("important",))
        worker = run.start_worker(_POOL)
        run.wait_for(worker, _MESSAGES, timeout_s=_TIMEOUT_S)
        main = psutil.Process(worker.pid)
        return Sizes(main=_size([main]), child=_size(main.children()))


def _size(processes: Sequence[psutil.Process]) -> Size:
    infos = [process.memory_full_info() for process in processes]
    return Size(
        rss=mean(info.rss for info in infos) / 1e6,
        pss=mean(info.pss for info in infos) / 1e6,
        private=mean(info.uss for info in infos) / 1e6,
    )


def compare_memory(
    urls: dict[BrokerName, str], rounds: int, announce: Callable[[str], None]
) -> Report:
    """Measure ours minus stock on every broker.

    Args:
        urls: Brokers to use.
        rounds: Alternating rounds.
        announce: Told what is measured next.
    """
    rows: list[Row] = []
    raw: list[dict[str, object]] = []
    for broker, url in urls.items():

        def measure(variant: Variant, broker: BrokerName = broker, url: str = url) -> Sizes:
            announce(f"memory: {broker}, {variant.name}")
            return measure_memory(url, variant)

        results = alternate([STOCK, *_OURS], rounds, measure)
        for variant in _OURS:
            rows.extend(_compare(broker, variant.name, results[variant.name], results[STOCK.name]))
        raw.extend(
            {"broker": broker, "variant": name, "sizes": sizes} for name, sizes in results.items()
        )
    title = f"Memory after {_MESSAGES} tasks, MB, and ours - stock (median, lowest-highest)"
    return Report(title, rows, raw)


def _compare(broker: str, name: str, ours: list[Sizes], stock: list[Sizes]) -> list[Row]:
    """Make a row for the main process and one for a child."""
    rows: list[Row] = []
    for process in ("main", "child"):
        row: dict[str, str | float | Spread] = {
            "variant": name,
            "broker": broker,
            "process": process,
        }
        for kind in _KINDS:
            theirs = [getattr(getattr(sizes, process), kind) for sizes in stock]
            mine = [getattr(getattr(sizes, process), kind) for sizes in ours]
            row[f"stock {kind}"] = spread(theirs).median
            row[f"{kind} more"] = differences(mine, theirs)
        rows.append(row)
    return rows
