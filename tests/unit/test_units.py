"""Durations as people write them."""

from __future__ import annotations

import re
from datetime import timedelta
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_budget.errors import DurationError
from celery_budget.units import MAX_SECONDS, format_seconds, seconds


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("250ms", 0.25),
        ("2s", 2.0),
        ("10m", 600.0),
        ("1h30m", 5_400.0),
        ("1d", 86_400.0),
        ("1d 2h 3m 4s 5ms", 93_784.005),
        (" 1.5h ", 5_400.0),
        ("7", 7.0),
        ("0.5", 0.5),
        ("0s", 0.0),
        (3, 3.0),
        (0.25, 0.25),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_a_duration_is_read_as_seconds(written: str | float | timedelta, expected: float) -> None:
    """These are the forms the documentation promises."""
    assert pytest.approx(expected) == seconds(written)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("2x", '"x" is not a unit'),
        ("5M", '"M" is not a unit'),
        ("fast", "a number was expected at 'fast'"),
        ("1h30", "the unit after 30 is missing"),
        ("1 2", "the unit after 1 is missing"),
        ("30m1h", "largest first"),
        ("1h1h", "each unit once"),
        ("-2s", "negative"),
        (-1, "negative"),
        (timedelta(seconds=-1), "negative"),
        (nan, "finite"),
        (inf, "longer than 100 years"),
        (-inf, "negative"),
        (10**400, "longer than 100 years"),
        (-(10**400), "negative"),
        ("250000d", "longer than 100 years"),
        ("1" * 65, "longer than 64 characters"),
        ("٣s", "a number was expected"),
        (True, 'such as "2s"'),
        (None, 'such as "2s"'),
        (["2s"], 'such as "2s"'),
    ],
)
def test_a_wrong_duration_is_refused_with_its_reason(written: object, problem: str) -> None:
    """An operator must be able to mend the value from the message alone."""
    with pytest.raises(DurationError, match=re.escape(problem)):
        seconds(written)  # type: ignore[arg-type]


def test_the_longest_duration_is_allowed() -> None:
    """The bound itself is a legal value, or the message about it would mislead."""
    assert MAX_SECONDS == seconds(MAX_SECONDS)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (0.0005, "0.5ms"),
        (1, "1s"),
        (62.5, "1m2.5s"),
        (5_400, "1h30m"),
        (86_400, "1d"),
        (90_061, "1d1h1m1s"),
        (-2, "-2s"),
        (1e-9, "0s"),
        (0.9999999, "1s"),
        (inf, "never"),
        (nan, "never"),
    ],
)
def test_seconds_are_written_as_people_write_them(value: float, expected: str) -> None:
    """The check command shows durations in the form that the file takes."""
    assert expected == format_seconds(value)


@given(st.floats(min_value=0, max_value=1e8))
def test_what_is_written_can_be_read_again(value: float) -> None:
    """A shown duration may be pasted into a policy file."""
    assert pytest.approx(value, abs=1e-6) == seconds(format_seconds(value))
