"""How many no-op tasks a second a worker runs, against stock Celery.

All messages are in the broker before the workers start. The workers of one round take turns on
the machine (`turns.py`); only bodies inside the turns count, so that neither start-up nor shutdown
does. `progress.py` counts them at the same cost in every variant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tests.benchmarks.records import Published
from tests.benchmarks.report import Report, Row, Spread, ratios, spread
from tests.benchmarks.runner import Pool, start_run
from tests.benchmarks.turns import Racer, race
from tests.benchmarks.variants import (
    BANDS,
    EMPTY_POLICY,
    STOCK,
    STOCK_QUEUES,
    THREE_BANDS,
    THREE_BUDGETS,
    BrokerName,
    Variant,
)

# Some 5 turns each on 2 cores with Celery 5.7 (2026-11). More pairs tell more than longer ones:
# pairs of 15,000 messages and turns of 2 s spread as widely.
MESSAGES = {"redis": 4_000, "rabbitmq": 8_000}
# 10 times what a worker needs to start on a busy machine.
_TIMEOUT_S = 60.0


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
    Case("default band", Pool("prefork", 2), ours=(THREE_BANDS, THREE_BUDGETS, EMPTY_POLICY)),
    Case("default band", Pool("prefork", 4)),
    Case("default band", Pool("threads", 4)),
    Case("all bands in turn", Pool("prefork", 2), stock=STOCK_QUEUES, bands=BANDS),
)


@dataclass(frozen=True, slots=True)
class Rate:
    """One measurement.

    Attributes:
        tasks_per_s: Bodies run in its turns, by the length of these.
        main_cpu_us: CPU time of the worker's main process a task, microseconds.
        publish_us: Wall time of the publisher a message, microseconds.
    """

    tasks_per_s: float
    main_cpu_us: float
    publish_us: float


def measure_rates(
    url: str, variants: Sequence[Variant], case: Case, messages: int
) -> dict[str, Rate]:
    """Let one worker of each variant run over preloaded messages, by turns.

    Args:
        url: The broker's.
        variants: What apps to run.
        case: Pool and bands.
        messages: How many to preload for each.

    Returns:
        The rate of each variant by its name.

    Raises:
        ServerFailed: A worker did not start, or ended.
    """
    with ExitStack() as runs:
        racers: dict[str, Racer] = {}
        published: dict[str, Published] = {}
        for number, variant in enumerate(variants):
            own = variant.prefixed(f"{number}-")
            run = runs.enter_context(start_run(url, own))
            published[variant.name] = run.publish("noop", messages, bands=case.bands)
            worker = run.start_worker(case.pool, name=f"racer{number}")
            run.wait_for(worker, 1, timeout_s=_TIMEOUT_S)
            queues = [own.queues[band] for band in case.bands]
            racers[variant.name] = racer = Racer(run, worker, queues, messages)
            # The next worker starts, and its messages are sent, while this one has nothing to do.
            racer.pause()
        race(list(racers.values()))
    return {
        name: Rate(
            tasks_per_s=racer.tasks / racer.wall_s,
            main_cpu_us=1e6 * racer.cpu_s / racer.tasks,
            publish_us=1e6 * (published[name].ended - published[name].begun) / messages,
        )
        for name, racer in racers.items()
    }


def compare_throughput(
    urls: dict[BrokerName, str], rounds: int, announce: Callable[[str], None]
) -> Report:
    """Measure every case on every broker.

    Args:
        urls: Brokers to use.
        rounds: Rounds a case, each with workers of its own.
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
    variants = [case.stock, *case.ours]
    measured = [
        # Every second round starts, and so publishes, in the other order.
        measure_rates(url, variants[:: -1 if number % 2 else 1], case, MESSAGES[broker])
        for number in range(rounds)
    ]
    return {variant.name: [rates[variant.name] for rates in measured] for variant in variants}


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
