"""What an overload run's records say."""

from __future__ import annotations

from math import inf

from tests.benchmarks.overload import Outcome, assess
from tests.benchmarks.records import Published, Record


def test_unstarted_critical_tasks_wait_for_ever():
    """They leave no record: counting records alone would forget exactly the worst ones."""
    records = [Record("critical", 10.0, 10.5, 10.5)]
    outcome = assess(records, Published(10.0, 12.0), urgent=3, seconds=2.0)

    assert (0.5, inf, inf) == outcome.waits_s
    assert 1 == outcome.started


def test_optional_tasks_count_by_their_part_inside_the_window():
    """Whole tasks would make the rate jump with the phase of the slots."""
    ends = (9.5, 10.0, 10.5, 11.5, 12.25, 13.0, 13.5)
    records = [Record("optional", 1.0, end - 1, end) for end in ends]

    assert Outcome((), 1.125) == assess(records, Published(10.0, 11.9), urgent=0, seconds=2.0)


def test_an_optional_task_longer_than_the_window_counts_by_its_part():
    """A machine that stalls stretches one task over the whole run."""
    records = [Record("optional", 1.0, 8.0, 16.0), Record("critical", 1.0, 10.0, 11.0)]
    outcome = assess(records, Published(10.0, 11.9), urgent=1, seconds=2.0)

    assert 0.125 == outcome.optional_per_s
