"""Durations, amounts and shares as people write them."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal, localcontext
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_budget.errors import AmountError, DurationError
from celery_budget.units import (
    BUILT_IN,
    LARGEST,
    MAX_SECONDS,
    amount,
    format_amount,
    format_seconds,
    seconds,
    share,
)


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


def test_a_refusal_is_short_whatever_was_written() -> None:
    """What cannot be printed takes ten characters each, and the reason must stay in sight."""
    with pytest.raises(AmountError) as refused:
        amount("runtime", "\U000187f8" * 60)

    assert len(str(refused.value)) < 300


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


class Double(float):
    """A float with another repr, as numpy's are."""

    def __repr__(self) -> str:
        return f"Double({float(self)})"


@pytest.mark.parametrize(
    ("resource", "written", "units"),
    [
        ("cpu", "3s", 3_000_000),
        ("cpu", "1m 0.25s", 60_250_000),
        ("cpu", "0.001ms", 1),
        ("cpu", 1.5, 1_500_000),
        ("runtime", "2", 2_000_000),
        ("runtime", timedelta(minutes=10, microseconds=1), 600_000_001),
        ("runtime", "104249d23h47m34.740991s", LARGEST),
        ("memory", "200MiB", 200 * 1024**2),
        ("memory", "8 GiB", 8 * 1024**3),
        ("memory", "512", 512),
        ("memory", 512, 512),
        ("memory", 1e3, 1_000),
        ("memory", "0.5KiB", 512),
        ("io", "1.5GB", 1_500_000_000),
        ("io", "10kB", 10_000),
        ("io", "7B", 7),
        ("network", "1TB", 10**12),
        ("network", "1PiB", 2**50),
        ("memory", LARGEST, LARGEST),
        ("starts", 50, 50_000_000),
        ("slots", "1.5", 1_500_000),
        ("usd", "5.00", 5_000_000),
        ("usd", " 0.02 ", 20_000),
        ("usd", 0.1, 100_000),
        ("usd", Double(0.1), 100_000),
        ("usd", Decimal("0.000001"), 1),
        ("usd", "1.000000000", 1_000_000),
        ("usd", 1e-6, 1),
        ("usd", 0, 0),
        ("usd", "9007199254.740991", LARGEST),
    ],
)
def test_an_amount_is_read_as_units(resource: str, written: str, units: int) -> None:
    """These are the forms the documentation promises, to the last unit."""
    found = amount(resource, written)

    assert units == found
    assert type(found) is int


@pytest.mark.parametrize(
    ("resource", "written", "problem"),
    [
        ("memory", "5M", "write MiB (1,048,576 bytes) or MB (1,000,000 bytes)"),
        ("memory", "5KB", "write KiB (1,024 bytes) or kB (1,000 bytes)"),
        ("memory", "5gib", "write GiB (1,073,741,824 bytes) or GB"),
        ("memory", "5mb", "write MiB"),
        ("memory", "5s", '"s" is not a unit; use B, kB, MB'),
        ("memory", "5 X", '"X" is not a unit; use B, kB, MB'),
        ("memory", "1_000", 'write for example "200MiB"'),
        ("memory", "lots", 'write for example "200MiB"'),
        ("memory", "0.3", "finer than a byte"),
        ("memory", 1.5, "finer than a byte"),
        ("memory", timedelta(1), 'write for example "200MiB"'),
        ("memory", 2**53, "the largest possible is 9007199254740991"),
        ("memory", "8PiB", "the largest possible is 9007199254740991"),
        ("usd", "", 'it is empty; write for example "5.00"'),
        ("usd", "1_000", 'write a plain number such as "5.00"'),
        ("usd", "1.5M", "write a plain number"),
        ("usd", "5,00", "write a plain number"),
        ("usd", "$5", "write a plain number"),
        ("usd", "1e3", "write a plain number"),
        ("usd", "٣", "write a plain number"),
        ("usd", "0.0000001", "finer than a millionth"),
        ("usd", 0.1 + 0.2, "finer than a millionth"),
        ("usd", 5e-324, "finer than a millionth"),
        ("usd", Decimal("1e-999999999"), "finer than a millionth"),
        ("usd", Decimal("1e999999999"), "the largest possible is 9007199254.740991"),
        ("usd", Decimal("sNaN"), "not a finite number"),
        ("usd", "9007199254.740992", "the largest possible is 9007199254.740991"),
        ("usd", 10**400, "the largest possible"),
        ("usd", "-1", "negative"),
        ("usd", -1, "negative"),
        ("usd", -(10**400), "negative"),
        ("usd", nan, "not a finite number"),
        ("usd", inf, "not a finite number"),
        ("usd", True, 'write for example "5.00"'),
        ("usd", None, 'write for example "5.00"'),
        ("usd", "1" * 65, "longer than 64 characters"),
        ("cpu", "2x", '"x" is not a unit'),
        ("cpu", "0.0001ms", "finer than a millionth"),
        ("cpu", "300000d", "the largest possible is 104249d23h47m34.740991s"),
        ("cpu", timedelta(seconds=-1), "negative"),
        ("cpu", timedelta(days=300_000), "the largest possible"),
        ("cpu", [], 'write for example "3s"'),
    ],
)
def test_a_wrong_amount_is_refused_with_its_reason(
    resource: str, written: object, problem: str
) -> None:
    """A limit that is silently another one is found on the bill."""
    with pytest.raises(AmountError, match=re.escape(problem)) as caught:
        amount(resource, written)  # type: ignore[arg-type]

    assert str(caught.value).startswith(f"{caught.value.value} is not an amount of {resource}: ")


def test_an_amount_is_exact_in_any_decimal_context() -> None:
    """Applications set a precision of their own, and theirs must not round our amounts."""
    with localcontext() as context:
        context.prec = 2

        assert 1_234_567_891 == amount("usd", "1234.567891")
        assert 1_234_567_891 == amount("usd", Decimal("1234.567891"))


@pytest.mark.parametrize(
    ("resource", "units", "text"),
    [
        ("usd", 5_000_000, "5"),
        ("usd", 20_000, "0.02"),
        ("usd", -350_000, "-0.35"),
        ("usd", 0, "0"),
        ("cpu", 0, "0s"),
        ("cpu", 1, "0.001ms"),
        ("cpu", 90_500_000, "1m30.5s"),
        ("cpu", -1_500_000, "-1.5s"),
        ("memory", 0, "0"),
        ("memory", 7, "7"),
        ("memory", 1_000, "1kB"),
        ("memory", 1_024, "1KiB"),
        ("memory", 1_025, "1025"),
        ("memory", 8 * 1024**3, "8GiB"),
        ("memory", 1_500_000_000, "1.5GB"),
        ("memory", -(200 * 1024**2), "-200MiB"),
    ],
)
def test_an_amount_is_written_as_people_write_it(resource: str, units: int, text: str) -> None:
    """Status and reasons show amounts next to those of the policy file."""
    assert text == format_amount(resource, units)


@given(
    st.sampled_from([*BUILT_IN, "usd"]),
    st.integers(0, LARGEST)
    | st.builds(int.__mul__, st.integers(0, 9_000), st.sampled_from([10**9, 2**30, 86_400_000_000]))
    | st.integers(0, 2_000),
)
def test_an_amount_that_is_written_can_be_read_again(resource: str, units: int) -> None:
    """Not one unit may be lost between what is shown and what is pasted."""
    units = min(units, LARGEST)

    assert units == amount(resource, format_amount(resource, units))


@pytest.mark.parametrize(
    ("written", "expected"),
    [("80%", 0.8), (" 7 % ", 0.07), ("12.5%", 0.125), ("100%", 1.0), (1, 1.0), (0.8, 0.8)],
)
def test_a_share_is_read_as_a_part_of_one(written: str | float, expected: float) -> None:
    """Both forms are in use in policies."""
    found = share(written)

    assert expected == found
    assert type(found) is float


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("80", 'write a percentage such as "80%"'),
        ("%", "write a percentage"),
        ("-1%", "write a percentage"),
        ("1" * 70 + "%", "write a percentage"),
        ("0%", "more than 0 and at most 100%"),
        ("101%", "more than 0"),
        (0, "more than 0"),
        (80, "more than 0"),
        (-0.1, "more than 0"),
        (10**400, "more than 0"),
        (nan, "more than 0"),
        (True, 'write for example "80%" or 0.8'),
        (None, 'write for example "80%" or 0.8'),
    ],
)
def test_a_wrong_share_is_refused_with_its_reason(written: object, problem: str) -> None:
    """80 could mean 80 % or eighty times the limit."""
    with pytest.raises(AmountError, match=re.escape(problem)):
        share(written)  # type: ignore[arg-type]
