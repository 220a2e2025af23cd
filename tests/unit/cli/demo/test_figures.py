"""The demo's numbers: counted from what tasks noted, and nothing left out."""

from __future__ import annotations

from celery_budget.cli.demo.figures import Result, Tally


def test_percentiles_are_waits_that_happened() -> None:
    """Nearest rank: no value between two tasks is made up."""
    tally = Tally(published=[0.0] * 200, waits={n: n / 1000 for n in range(200)})

    assert (0.099, 0.189, 0.197) == tally.percentiles(now=10.0)


def test_a_task_that_never_started_counts_with_its_wait_so_far() -> None:
    """Leaving it out would make the run that starts nothing look best."""
    tally = Tally(published=[0.0, 1.0, 2.0], waits={0: 0.5})

    p50, _, p99 = tally.percentiles(now=10.0) or (0, 0, 0)

    assert (8.0, 9.0) == (p50, p99)


def test_no_task_has_no_percentiles() -> None:
    """The table shows a dash before the first task."""
    assert Tally().percentiles(now=1.0) is None


def test_every_task_is_counted_in_one_place() -> None:
    """Published = in the broker + held by the worker + running + done."""
    tally = Tally(published=[0.0] * 10, waits={0: 0.1, 1: 0.1, 2: 0.1}, ended=2, depth=4)

    assert (4, 3, 1, 2) == (tally.depth, tally.held, tally.running, tally.ended)
    assert 7 == tally.waiting


def test_the_document_tells_started_from_waiting() -> None:
    """Whoever draws their own plot needs both."""
    tally = Tally(published=[0.0, 1.0], waits={0: 0.25}, ended=1)

    document = Result(4.0, {"critical": tally}).document()

    assert {
        "seconds": 4.0,
        "bands": {
            "critical": {
                "published": 2,
                "done": 1,
                "still_waiting": 1,
                "wait_s": {"p50": 0.25, "p95": 3.0, "p99": 3.0},
                "tasks": [
                    {"published_s": 0.0, "wait_s": 0.25, "started": True},
                    {"published_s": 1.0, "wait_s": 3.0, "started": False},
                ],
            }
        },
    } == document
