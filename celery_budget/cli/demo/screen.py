"""How the demo looks: a live table on a terminal, plain lines elsewhere, then a comparison."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from celery_budget.cli.demo.app import Variant
from celery_budget.cli.demo.figures import Result, Tally
from celery_budget.cli.demo.load import SLOTS

TITLES = {
    Variant.STOCK: f"Celery as it comes: one queue, {SLOTS} slots",
    Variant.BANDS: f"celery-budget: three bands, {SLOTS} slots, 1 of them kept for critical tasks",
}

# Without a terminal: often enough to see that it goes on, seldom enough for a build log.
_LINE_EVERY_S = 2.0


class Screen:
    """Show one run while it lasts.

    Args:
        console: Where to.
        variant: What runs.
        seconds: How long it will run.
    """

    def __init__(self, console: Console, variant: Variant, seconds: float) -> None:
        self._console = console
        self._variant = variant
        self._seconds = seconds
        self._next_line_at = 0.0
        self._live: Live | None = None
        if console.is_terminal:
            # Refreshed by `show` alone: a thread would take time from what is measured.
            self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, tallies: dict[str, Tally], elapsed: float) -> None:
        """Show the run so far."""
        if self._live is not None:
            self._live.update(self._table(tallies, elapsed), refresh=True)
        elif elapsed >= self._next_line_at:
            self._next_line_at += _LINE_EVERY_S
            self._console.print(self._line(tallies, elapsed), soft_wrap=True)

    def _table(self, tallies: dict[str, Tally], elapsed: float) -> Table:
        table = Table(title=f"{TITLES[self._variant]} - {int(elapsed)} of {self._seconds:g} s")
        table.add_column("band")
        for name in ("depth", "held", "running", "done", "wait p50", "p95", "p99"):
            table.add_column(name, justify="right", min_width=7)
        for band, tally in tallies.items():
            counts = (tally.depth, tally.held, tally.running, tally.ended)
            table.add_row(band, *map(str, counts), *_waits(tally, elapsed))
        return table

    def _line(self, tallies: dict[str, Tally], elapsed: float) -> str:
        parts = [
            f"{band}: depth {tally.depth}, held {tally.held}, running {tally.running}, "
            f"done {tally.ended}, wait p99 {_waits(tally, elapsed)[2]}"
            for band, tally in tallies.items()
        ]
        return f"{self._variant} {int(elapsed):3} s | " + " | ".join(parts)


def comparison(results: dict[Variant, Result]) -> Table:
    """Put the runs side by side, band by band."""
    table = Table(title="Wait from publish to start, and work done")
    table.add_column("band")
    table.add_column("run")
    for name in ("wait p50", "p95", "p99", "done", "still waiting"):
        table.add_column(name, justify="right")
    for band in next(iter(results.values())).tallies:
        for variant, result in results.items():
            tally = result.tallies[band]
            counts = (str(tally.ended), str(tally.waiting))
            table.add_row(band, variant.value, *_waits(tally, result.seconds), *counts)
        table.add_section()
    return table


def verdict(results: dict[Variant, Result]) -> list[str]:
    """Say in words what the comparison shows, what it cost, and how it was counted."""
    stock, bands = results[Variant.STOCK], results[Variant.BANDS]
    lined_up, banded = (
        _waits(result.tallies["critical"], result.seconds)[2] for result in (stock, bands)
    )
    before, after = (result.tallies["optional"].ended for result in (stock, bands))
    return [
        f"Critical tasks waited {lined_up} (p99) in line with the others, {banded} in their band.",
        f"The price: {after} optional tasks done, not {before}; one slot is kept free, and",
        "important tasks go first.",
        f"Both runs had the same {SLOTS} slots, load, server and Celery defaults. Tasks measure",
        "their waits; one that never started counts with its wait so far.",
    ]


def _waits(tally: Tally, now: float) -> tuple[str, str, str]:
    percentiles = tally.percentiles(now)
    if percentiles is None:
        return ("-", "-", "-")
    p50, p95, p99 = map(_duration, percentiles)
    return p50, p95, p99


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
