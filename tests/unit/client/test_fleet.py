"""How many workers a fleet takes."""

from __future__ import annotations

import pytest
from rich.console import Console

from celery_budget.cli.fleet import tabulate
from celery_budget.client.fleet import BandLoad, Fleet, WorkerLoad
from celery_budget.core.scaling import CLEAR_S


def fleet(queued: int, *loads: BandLoad, slots: int = 4) -> Fleet:
    """Make a fleet with one band, and a worker for each load."""
    workers = {f"w{n}": WorkerLoad(slots, {"a": load}) for n, load in enumerate(loads)}
    return Fleet(("a",), {"a": ("q",)}, {"q": queued}, workers)


@pytest.mark.parametrize(
    ("made", "slots", "workers"),
    [
        (fleet(0), 0, 1),
        (fleet(0, BandLoad(4, 0)), 5, 2),
        (fleet(0, BandLoad(4, 0, frozen=4)), 0, 1),
        (fleet(60, BandLoad(0, 0, expected_s=CLEAR_S / 10)), 6, 2),
        (fleet(50, BandLoad(4, 5, 0, 1.0, 3.0), BandLoad(4, 5, 0, 1.0, 3.0)), 16, 4),
        (fleet(100, BandLoad(0, 0, expected_s=30.0), slots=0), 100, 1),
    ],
)
def test_what_runs_and_waits_tells(made: Fleet, slots: int, workers: int) -> None:
    """In workers like the largest one; one at least."""
    assert (slots, workers) == (made.wanted_slots, made.wanted_workers)


@pytest.mark.parametrize(
    ("loads", "shown"),
    [
        ([BandLoad(0, 0)], "-"),
        # A worker of an earlier release does not say why.
        ([BandLoad(0, 0, throttled_to=0.5)], "to 50%"),
        (
            [
                BandLoad(0, 0, throttled_to=0.5, throttled_by="wait"),
                BandLoad(0, 0, throttled_to=0.25, throttled_by="queue"),
                BandLoad(0, 0),
            ],
            "to 25%, queue",
        ),
    ],
)
def test_the_table_shows_what_takes_most_and_why(loads: list[BandLoad], shown: str) -> None:
    """An operator wants to know what to mend."""
    console = Console(width=200)
    with console.capture() as captured:
        console.print(tabulate(fleet(0, *loads), []))

    row = next(line for line in captured.get().splitlines() if line.startswith("│ a "))
    assert shown == row.strip("│ ").split("│")[-1].strip()
