"""How many no-op tasks a second a worker runs, against stock Celery.

All messages are in the broker before the worker starts. The clock runs from the first body's
start to the last body's end, so that neither start-up nor shutdown counts; `progress.py` tells
both at the same cost in every variant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psutil

from tests.benchmarks.report import Report, Row, Spread, ratios, spread
from tests.benchmarks.runner import Pool, alternate, start_run
from tests.benchmarks.variants import (
    BANDS,
    EMPTY_POLICY,
    STOCK,
    STOCK_QUEUES,
    THREE_BANDS,
    BrokerName,
    Variant,
)

# About 5 s of work each on 2 cores with Celery 5.7: Redis gives 700-1,000 tasks a second,
# RabbitMQ 2,600 (2026-11).
MESSAGES = {"redis": 5_000, "rabbitmq": 15_000}
# 20 times what the slowest pool needed.
_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison.

    Attributes:
        name: What is peculiar to it.
        pool: How the worker executes.
        stock: What ours is compared with.
        ours: The variants compared, each with `stock`.
        bands: Bands that the tasks take in turn.
    """

    name: str
    pool: Pool
    stock: Variant = STOCK
    ours: tuple[Variant, ...] = (THREE_BANDS,)
    bands: tuple[str, ...] = ("important",)


CASES = (
    Case("default band", Pool("prefork", 1)),
    Case("default band", Pool("prefork", 2), ours=(THREE_BANDS, EMPTY_POLICY)),
    Case("default band", Pool("prefork", 4)),
    Case("default band", Pool("threads", 4)),
    Case("all bands in turn", Pool("prefork", 2), stock=STOCK_QUEUES, bands=BANDS),
)


@dataclass(frozen=True, slots=True)
class Rate:
    """One measurement.

    Attributes:
        tasks_per_s: Bodies run by the time between the first's start and the last's end.
        main_cpu_us: CPU time of the worker's main process a task, microseconds.
        publish_us: Wall time of the publisher a message, microseconds.
    """

    tasks_per_s: float
    main_cpu_us: float
    publish_us: float


def measure_rate(url: str, variant: Variant, case: Case, messages: int) -> Rate:
    """Run one worker over preloaded messages until all bodies have run.

    Args:
        url: The broker's.
        variant: What app to run.
        case: Pool and bands.
        messages: How many to preload.

    Raises:
        ServerFailed: Not all of them ran.
    """
    with start_run(url, variant) as run:
        published = run.publish("noop", messages, bands=case.bands)
        worker = run.start_worker(case.pool)
        # From the first bodies on, for the CPU time of start-up is not a task's.
        before = run.wait_for(worker, 1, timeout_s=_TIMEOUT_S)
        cpu_before = _cpu_s(worker.pid)
        after = run.wait_for(worker, messages, timeout_s=_TIMEOUT_S)
        cpu_after = _cpu_s(worker.pid)
    return Rate(
        tasks_per_s=messages / after.elapsed_s,
        main_cpu_us=1e6 * (cpu_after - cpu_before) / (messages - before.count),
        publish_us=1e6 * (published.ended - published.begun) / messages,
    )


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def compare_throughput(
    urls: dict[BrokerName, str], rounds: int, announce: Callable[[str], None]
) -> Report:
    """Measure every case on every broker.

    Args:
        urls: Brokers to use.
        rounds: Alternating rounds a case.
        announce: Told what is measured next.
    """
    rows: list[Row] = []
    raw: list[dict[str, object]] = []
    for broker, url in urls.items():
        for case in CASES:
            announce(f"throughput: {broker}, {case.pool}, {case.name}")
            results = _measure_case(broker, url, case, rounds)
            rows.extend(_compare(broker, case, results))
            raw.extend(
                {"broker": broker, "pool": str(case.pool), "case": case.name, "variant": name}
                | {"rates": rates}
                for name, rates in results.items()
            )
    return Report("No-op tasks a second, and ours / stock (median, lowest-highest)", rows, raw)


def _measure_case(broker: BrokerName, url: str, case: Case, rounds: int) -> dict[str, list[Rate]]:
    def measure(variant: Variant) -> Rate:
        return measure_rate(url, variant, case, MESSAGES[broker])

    return alternate([case.stock, *case.ours], rounds, measure)


def _compare(broker: BrokerName, case: Case, results: dict[str, list[Rate]]) -> list[Row]:
    """Make a row for each variant of ours."""
    stock = results[case.stock.name]
    return [
        {
            "variant": variant.name,
            "broker": broker,
            "pool": str(case.pool),
            "tasks": case.name,
            "stock/s": spread([rate.tasks_per_s for rate in stock]).median,
            "ours/s": spread([rate.tasks_per_s for rate in ours]).median,
            "ratio": _ratio("tasks_per_s", ours, stock),
            "stock main µs/task": spread([rate.main_cpu_us for rate in stock]).median,
            "main cpu ratio": _ratio("main_cpu_us", ours, stock),
            "publish ratio": _ratio("publish_us", ours, stock),
        }
        for variant in case.ours
        for ours in [results[variant.name]]
    ]


def _ratio(field: str, ours: list[Rate], stock: list[Rate]) -> Spread:
    return ratios([getattr(rate, field) for rate in ours], [getattr(r, field) for r in stock])
