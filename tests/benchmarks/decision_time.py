"""`python -m tests.benchmarks.decision_time`: what the dispatcher costs, by tickets held.

One cycle is an offer, a decision and an end, as each task needs them; a window is asked for each
band after each of these. No broker, no worker, no clock of the dispatcher's own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter

import click
from rich.console import Console

from celery_budget.core.decisions import Start
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.ticket import Ticket
from celery_budget.policy.model import Band
from tests.benchmarks.report import Report, Row, document, tabulate

_BANDS = (
    Band("critical", 0, preempts=True),
    Band("important", 1, weight=4.0),
    Band("optional", 2, min_share=0.05),
)
_SLOTS = 2
_CYCLES = 250
_BATCHES = 40
_NOW = 1_700_000_000.0

#: Tickets held, and tenants they belong to.
_CASES = (
    (10, 1),
    (1_000, 1),
    (10_000, 1),
    (100_000, 1),
    (1_000, 1_000),
    (10_000, 1_000),
    (100_000, 1_000),
)


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of cycles, and the same machine's speed right before it.

    Attributes:
        yardstick_us: Time of a fixed piece of work.
        cycle_us: Time of one cycle.
        window_us: Time of one question for a window.
    """

    yardstick_us: float
    cycle_us: float
    window_us: float


def measure_case(held: int, tenants: int) -> list[Batch]:
    """Measure some batches with so many tickets held."""
    dispatcher = Dispatcher(_BANDS, _SLOTS)
    numbers = count()

    def make(now: float) -> Ticket:
        number = next(numbers)
        tenant = f"tenant-{number % tenants}"
        return Ticket(f"id-{number}", "task", "important", tenant, published=now)

    for number in range(held):
        dispatcher.offer(make(_NOW + number * 1e-6), _NOW)
    now = _NOW + 1.0
    batches = []
    for _ in range(_BATCHES):
        tickets = [make(now + number * 1e-6) for number in range(_CYCLES)]
        yardstick = _measure_yardstick()
        begin = perf_counter()
        for ticket in tickets:
            now += 0.0004
            dispatcher.offer(ticket, now)
            decision = dispatcher.decide(now)
            assert isinstance(decision, Start)
            now += 0.0003
            dispatcher.ended(decision.ticket, now)
        between = perf_counter()
        for _ticket in tickets:
            dispatcher.window("critical")
            dispatcher.window("important")
            dispatcher.window("optional")
        end = perf_counter()
        cycle_us = (between - begin) / _CYCLES * 1e6
        window_us = (end - between) / _CYCLES / len(_BANDS) * 1e6
        batches.append(Batch(yardstick * 1e6, cycle_us, window_us))
    # The first ones learn the service time and fill the caches.
    return batches[_BATCHES // 4 :]


def _measure_yardstick() -> float:
    """Time a fixed piece of work of the same kind: small objects, a dict, no system call."""
    known: dict[int, list[int]] = {}
    begin = perf_counter()
    for number in range(2_000):
        known[number % 50] = [number, number]
        str(number)
    return perf_counter() - begin


def measure_decisions(rounds: int = 3) -> Report:
    """Measure all cases in turn, several times over.

    A shared machine is up to twice as slow from one second to the next. Each batch is therefore
    scaled by the yardstick beside it to the fastest one of the run.
    """
    cases: dict[tuple[int, int], list[Batch]] = {case: [] for case in _CASES}
    for _ in range(rounds):
        for held, tenants in _CASES:
            cases[held, tenants] += measure_case(held, tenants)
    fastest = min(batch.yardstick_us for batches in cases.values() for batch in batches)
    few: dict[int, float] = {}
    rows: list[Row] = []
    for (held, tenants), batches in cases.items():
        cycle_us = _scaled([(each.cycle_us, each.yardstick_us) for each in batches], fastest)
        few.setdefault(tenants, cycle_us)
        rows.append(
            {
                "held": held,
                "tenants": tenants,
                "cycle us": cycle_us,
                "against fewest": cycle_us / few[tenants],
                "window us": _scaled(
                    [(each.window_us, each.yardstick_us) for each in batches], fastest
                ),
            }
        )
    raw = [
        {"held": held, "tenants": tenants, "batches": batches}
        for (held, tenants), batches in cases.items()
    ]
    return Report("Decision time: offer + decide + ended, and one window (median)", rows, raw)


def _scaled(pairs: Sequence[tuple[float, float]], fastest: float) -> float:
    return median(time * fastest / yardstick for time, yardstick in pairs)


@click.command()
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all numbers there.")
def main(file: Path | None) -> None:
    """Measure the dispatcher's time for each task against the number of tickets held."""
    report = measure_decisions()
    Console().print(tabulate(report))
    if file is not None:
        file.write_text(json.dumps(document([report], {}), indent=2) + "\n")


if __name__ == "__main__":
    main()
