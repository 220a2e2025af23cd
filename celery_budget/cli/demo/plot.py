"""The demo's picture: each critical task's wait over the time it was published."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from celery_budget.cli.demo.app import Variant
from celery_budget.cli.demo.figures import Result
from celery_budget.cli.demo.screen import TITLES

_COLOURS = {Variant.STOCK: "tab:red", Variant.BANDS: "tab:blue"}


def draw(results: dict[Variant, Result], file: Path) -> None:
    """Write the waits of critical tasks as a PNG file.

    Tasks that never started are hollow marks at their wait so far.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for variant, result in results.items():
        tally = result.tallies["critical"]
        numbers = range(len(tally.published))
        started = [number for number in numbers if number in tally.waits]
        waiting = [number for number in numbers if number not in tally.waits]
        for chosen, fill, label in (
            (started, _COLOURS[variant], TITLES[variant]),
            (waiting, "none", "still waiting at the end: wait so far"),
        ):
            if chosen:
                axes.scatter(
                    [tally.published[number] for number in chosen],
                    [tally.wait_so_far(number, result.seconds) for number in chosen],
                    s=16,
                    facecolors=fill,
                    edgecolors=_COLOURS[variant],
                    label=label,
                )
    axes.set_yscale("log")
    axes.set_xlabel("published, seconds since the beginning of the run")
    axes.set_ylabel("wait from publish to start, seconds")
    axes.set_title("A critical task every 100 ms while optional tasks flood the worker")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(loc="center left")
    figure.savefig(file, dpi=120, format="png")
