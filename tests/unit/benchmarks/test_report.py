"""The arithmetic that turns measurements into the published tables."""

from __future__ import annotations

import json
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.report import (
    Report,
    Spread,
    differences,
    document,
    percentile,
    ratios,
    spread,
    tabulate,
)


@pytest.mark.parametrize(
    ("part", "expected"), [(0.01, 1), (0.07, 7), (0.5, 50), (0.95, 95), (0.99, 99), (1, 100)]
)
def test_percentile_is_the_nearest_rank(part, expected):
    """0.07 * 100 is above 7 in binary: unrounded it would give the 8th value."""
    values = list(range(100, 0, -1))

    assert expected == percentile(values, part)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.001, 1))
def test_percentile_is_a_measured_value_that_covers_its_part(values, part):
    """A number between two measurements would claim a wait that nobody had."""
    found = percentile(values, part)

    assert found in values
    assert sum(value <= found for value in values) >= part * len(values) - 1e-6


def test_tasks_that_never_started_raise_the_high_percentiles():
    """Leaving them out would make the worst scheduler look like the best."""
    waits = [0.1] * 90 + [inf] * 10

    assert 0.1 == percentile(waits, 0.9)
    assert inf == percentile(waits, 0.95)


@pytest.mark.parametrize("part", [0, -0.5, 1.01, 99])
def test_percentile_refuses_a_part_out_of_range(part):
    """99 for p99 is the likely slip and would read past the end."""
    with pytest.raises(ValueError, match=r"0\.99 for p99"):
        percentile([1.0], part)


def test_empty_measurements_are_refused():
    """A median of nothing must not turn into a zero in a table."""
    with pytest.raises(ValueError, match="at least one measurement"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="at least one round"):
        spread([])


def test_ratio_is_the_median_of_rounds_and_not_of_medians():
    """A machine that slows down from round to round must not move the ratio."""
    ours, stock = [99.0, 50.0, 10.0], [100.0, 40.0, 20.0]

    assert Spread(median=0.99, low=0.5, high=1.25) == ratios(ours, stock)


def test_rounds_of_unequal_number_are_refused():
    """Pairs that do not belong together would be compared."""
    with pytest.raises(ValueError, match=r"shorter|longer"):
        ratios([1.0, 2.0], [1.0])


def test_difference_keeps_its_sign():
    """Less memory than stock must not read as more."""
    assert Spread(median=-1.0, low=-2.0, high=3.0) == differences([4.0, 1.0, 9.0], [5.0, 3.0, 6.0])


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([0.9912, 0.9704, 1.0049], "0.991 (0.970-1.00)"),
        ([1234.4], "1,234"),
        ([0.0, 0.0], "0"),
        ([-2.345, -2.345], "-2.35"),
        ([3.0, inf, inf], "never (3.00-never)"),
    ],
)
def test_spread_reads_with_three_digits(numbers, expected):
    """More digits than the noise allows would be read as precision."""
    assert expected == str(spread(numbers))


def test_table_shows_every_column_and_cell(capsys):
    """A dropped column would go unseen in a pasted table."""
    from rich.console import Console

    row = {"variant": "ours", "ratio": spread([0.5, 1.0]), "plain": 2.0, "count": 3, "none": None}
    Console(width=100).print(tabulate(Report("Title", [row])))

    shown = capsys.readouterr().out
    words = ["Title", *row, "ours", "0.750 (0.500-1.00)", "2.00", "3", "-"]
    assert [] == [word for word in words if word not in shown]


def test_document_is_strict_json():
    """inf is no JSON: other languages would refuse the whole file."""
    report = Report("Title", [{"wait": spread([inf])}], [{"waits": (1.0, inf)}])
    text = json.dumps(document([report], {"cores": 2}), allow_nan=False)

    never = {"median": None, "low": None, "high": None}
    expected = {"title": "Title", "rows": [{"wait": never}], "raw": [{"waits": [1.0, None]}]}
    assert {"machine": {"cores": 2}, "reports": [expected]} == json.loads(text)
