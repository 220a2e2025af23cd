"""How long critical tasks wait while a flood of slow tasks holds every slot, against stock Celery.

Two slots; optional tasks of one second fill the queues for longer than the run; one critical no-op
task is published each 100 ms. Wait is the time from `apply_async` to the start of the body.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from tests.benchmarks.records import Published, Record
from tests.benchmarks.report import Report, Row, Spread, percentile, ratios, spread
from tests.benchmarks.runner import Pool, Run, alternate, start_run
from tests.benchmarks.variants import BrokerName, Variant, three_bands

SECONDS = 20
_POOL = Pool("prefork", 2)
_TASK_S = 1.0
_INTERVAL_S = 0.1
# Longer than the longest wait a variant may have and still pass: one optional task and a margin.
_SETTLE_S = 3.0
# An optional task leaves its record when it ends: one that began in the window is there by then.
_TAIL_S = 1.5 * _TASK_S
# Start-up of worker and publisher on 2 busy cores; a worker that is not full by then has failed.
_START_S = 60.0

ONE_QUEUE = Variant("stock, one queue")
VARIANTS = (
    ONE_QUEUE,
    Variant("stock, message priorities, prefetch 1", priorities=True, prefetch_multiplier=1),
    Variant("stock, a queue per band, prefetch 1", queue_per_band=True, prefetch_multiplier=1),
    Variant("ours, no reserve", policy=three_bands()),
    Variant("ours, reserve 1", policy=three_bands(reserve=1), reserve=1),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run.

    Attributes:
        waits_s: Of every critical task; inf for those that never started in the run.
        optional_per_s: Optional tasks done a second while critical ones were published; a task
            that began before or ended after counts by the part of it inside. Whole tasks would
            move the rate by 5 % with the phase in which two slots of 1 s happen to end.
    """

    waits_s: tuple[float, ...]
    optional_per_s: float

    @property
    def started(self) -> int:
        """Critical tasks whose body was reached."""
        return sum(1 for wait in self.waits_s if wait < inf)


def measure_overload(url: str, variant: Variant, seconds: int, flood: str = "slow") -> Outcome:
    """Flood one worker, then publish critical tasks for some time.

    Args:
        url: The broker's.
        variant: What app to run.
        seconds: How long to publish critical tasks.
        flood: What the slots are busy with: `slow`, `burn`, or "" for nothing at all.

    Raises:
        ServerFailed: The slots were not all busy within a minute.
    """
    urgent = round(seconds / _INTERVAL_S)
    # Twice what two slots could run until the last look, and as many as a window may hold.
    count = 2 * _POOL.slots * round(seconds + _SETTLE_S + _START_S / 4) + 100
    with start_run(url, variant) as run:
        if flood:
            run.publish(flood, count, _TASK_S)
        else:
            run.publish("noop", _POOL.slots, bands=("optional",))
        worker = run.start_worker(_POOL)
        run.wait_for(worker, _POOL.slots - variant.reserve, timeout_s=_START_S)
        published = run.publish("urgent", urgent, _INTERVAL_S)
        records = _settled_records(run, urgent, published.begun + seconds + _TAIL_S)
    return assess(records, published, urgent, seconds)


def assess(records: Sequence[Record], published: Published, urgent: int, seconds: float) -> Outcome:
    """Turn what the tasks told into waits and a rate.

    Args:
        records: Of all tasks of the run.
        published: When the critical tasks were.
        urgent: How many critical tasks were published.
        seconds: Length of the window, from the first critical publish, in which optional tasks
            count.
    """
    waits = [record.wait_s for record in records if record.band == "critical"]
    never = [inf] * (urgent - len(waits))
    end = published.begun + seconds
    done = 0.0
    for record in records:
        inside = min(record.ended, end) - max(record.started, published.begun)
        if record.band == "optional" and inside > 0:
            done += inside / (record.ended - record.started)
    return Outcome((*waits, *never), done / seconds)


def _settled_records(run: Run, urgent: int, earliest: float) -> list[Record]:
    """Give late critical tasks their time, and the optional ones that run time to end."""
    give_up = time.monotonic() + _SETTLE_S
    while (now := time.monotonic()) < give_up:
        started = sum(record.band == "critical" for record in run.records())
        if started >= urgent and now >= earliest:
            break
        time.sleep(_INTERVAL_S)
    return run.records()


def compare_overload(
    urls: dict[BrokerName, str],
    rounds: int,
    announce: Callable[[str], None],
    seconds: int = SECONDS,
) -> Report:
    """Measure every variant on every broker.

    Args:
        urls: Brokers to use.
        rounds: Alternating rounds.
        announce: Told what is measured next.
        seconds: How long each run publishes critical tasks.
    """
    rows: list[Row] = []
    raw: list[dict[str, object]] = []
    for broker, url in urls.items():

        def measure(variant: Variant, broker: BrokerName = broker, url: str = url) -> Outcome:
            announce(f"overload: {broker}, {variant.name}")
            return measure_overload(url, variant, seconds)

        results = alternate(VARIANTS, rounds, measure)
        stock = results[ONE_QUEUE.name]
        rows.extend(row(broker, name, outcomes, stock) for name, outcomes in results.items())
        raw.extend(
            {"broker": broker, "variant": name, "outcomes": outcomes}
            for name, outcomes in results.items()
        )
    title = f"Critical wait under overload, ms, {_POOL.slots} slots of {_TASK_S:g} s tasks"
    return Report(f"{title}, {seconds} s a run (median, lowest-highest of rounds)", rows, raw)


def row(broker: str, name: str, outcomes: list[Outcome], stock: list[Outcome]) -> Row:
    """Lay out what the runs of one variant gave, beside those of stock Celery."""

    def wait_ms(part: float) -> Spread:
        return spread([1e3 * percentile(outcome.waits_s, part) for outcome in outcomes])

    started = sum(outcome.started for outcome in outcomes)
    published = sum(len(outcome.waits_s) for outcome in outcomes)
    optional = [outcome.optional_per_s for outcome in outcomes]
    return {
        "variant": name,
        "broker": broker,
        "started": f"{started}/{published}",
        "p50": wait_ms(0.5),
        "p95": wait_ms(0.95),
        "p99": wait_ms(0.99),
        "max": wait_ms(1),
        "optional/s": spread(optional),
        "optional ratio": ratios(optional, [outcome.optional_per_s for outcome in stock]),
    }
