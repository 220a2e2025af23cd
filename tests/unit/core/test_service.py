"""Service times: what is guessed before a task ran and how quickly the guess follows."""

from __future__ import annotations

import pytest

from celery_budget.core.service import MOST_TYPES, SHORTEST_S, UNKNOWN_S, Peak, ServiceTimes


def test_an_unknown_task_counts_as_long() -> None:
    """Counted as short, its messages would be hoarded before anyone knows."""
    assert UNKNOWN_S == ServiceTimes()["never.ran"]


def test_asking_for_a_task_does_not_remember_it() -> None:
    """Names that never ran must not fill the memory."""
    times = ServiceTimes()
    times["never.ran"]

    assert 0 == len(times)


def test_the_first_observation_replaces_the_guess() -> None:
    """Averaged with the guess, a task of 1 ms would count as long for a dozen executions."""
    times = ServiceTimes()
    times.observe("quick", 0.001)

    assert pytest.approx(0.001) == times["quick"]


def test_the_average_follows_a_changed_task_within_some_ten_executions() -> None:
    """A deployment that makes a task slow must show in its share soon."""
    times = ServiceTimes()
    times.observe("task", 1.0)
    for _ in range(10):
        times.observe("task", 5.0)

    assert 4.5 < times["task"] < 5.0


def test_no_task_counts_as_free() -> None:
    """A tenant of tasks that cost nothing would always go first; and 1 / 0 releases a second."""
    times = ServiceTimes()
    times.observe("noop", 0.0)

    assert SHORTEST_S == times["noop"]


def test_remembered_types_are_bounded() -> None:
    """A stranger's task names must not fill the memory."""
    times = ServiceTimes()
    for number in range(MOST_TYPES + 50):
        times.observe(f"task-{number}", 1.0)

    assert MOST_TYPES == len(times)


def test_a_peak_lasts_for_at_least_a_period() -> None:
    """Blocking that was seen half a minute ago may be seen again."""
    peak = Peak(30.0)
    peak.observe(7.0, 100.0)
    peak.observe(1.0, 129.0)
    peak.observe(1.0, 131.0)

    assert 7.0 == peak.value


def test_a_peak_is_forgotten_after_two_periods() -> None:
    """One slow task in the morning must not count all day."""
    peak = Peak(30.0)
    for now in range(100, 165):
        peak.observe(7.0 if now == 100 else 1.0, float(now))

    assert 1.0 == peak.value
