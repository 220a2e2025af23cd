"""Forecasts: slots are kept before spikes, and only then; and how far they are off."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_budget.core.forecast import Forecast, slots_of
from celery_budget.core.outlook import error_of, outlook
from celery_budget.core.season import BIN_S, DAY, MOST, SEEN, WEEK, Row, Rows, Season, begin_of
from celery_budget.core.tally import MOST_TYPES, Entry, Tally, add
from celery_budget.stores.memory_arrivals import MemoryArrivals
from tests.properties.spikes import ORDINARY, Scene

WEEK_NUMBER = 2_800
MONDAY = WEEK_NUMBER * WEEK


def test_a_week_with_daily_spikes() -> None:
    """Slots are there before the spikes, the error is told, and lesser work loses nothing."""
    scene = Scene(1, 6, days=7)
    in_place, spikes = scene.in_place()

    assert spikes == 15
    assert in_place >= 0.9 * spikes
    assert scene.error() < 0.2
    assert max(scene.left) <= 2


@pytest.mark.parametrize("seed", [2, 3])
def test_spikes_begin_without_waiting(seed: int) -> None:
    """In the first two minutes most start at once that had to wait for reports to end."""
    scene, without = (Scene(seed, most, days=2) for most in (6, None))
    in_place, spikes = scene.in_place()
    waits, others = scene.waits(120), without.waits(120)

    assert spikes == 6 == in_place
    assert scene.error() < 0.2
    assert len(waits) == len(others) > 500
    assert waits[int(0.9 * len(waits))] < 0.5 * others[int(0.9 * len(others))]
    assert sum(waits) < 0.5 * sum(others)
    assert scene.done("optional") == pytest.approx(without.done("optional"), rel=0.01)


def test_days_that_differ_are_followed() -> None:
    """Some days bring half as much again, on others there is a third less."""
    scene = Scene(4, 6, days=3, load_=replace(ORDINARY, noise=0.3))
    in_place, spikes = scene.in_place()

    assert in_place >= 0.9 * spikes
    assert scene.error() < 0.2


def test_with_nothing_but_counting_no_slot_is_kept() -> None:
    """That is how one begins: look first, and see how good forecasts are."""
    scene = Scene(5, 0, days=1, load_=replace(ORDINARY, reports_per_s=0.01))

    assert {0} == {*scene.kept, *scene.left}
    assert scene.error() < 0.2


counts = st.one_of(st.integers(0, 5), st.integers(0, 100_000))


@st.composite
def seasons(draw: st.DrawFn) -> Season:
    """Invent what some weeks brought, with gaps."""
    chance = Random(draw(st.integers(0, 2**32)))
    made = Season()
    weeks: dict[int, Rows] = {}
    for back in draw(st.lists(st.integers(0, 6), unique=True, max_size=4)):
        rows = weeks[WEEK_NUMBER - back] = {}
        for task in draw(st.lists(st.sampled_from(["", " ", "a", "b"]), unique=True, max_size=4)):
            most = draw(counts)
            length = draw(st.integers(0, WEEK))
            busy_us = draw(st.integers(0, 2**53))
            rows[task] = Row(busy_us, [chance.randint(0, most) for _ in range(length)])
    made.remember(weeks, WEEK_NUMBER)
    return made


@given(season=seasons(), at=st.floats(begin_of(MONDAY - WEEK), begin_of(MONDAY + 2 * WEEK)))
def test_nothing_that_is_expected_is_impossible(season: Season, at: float) -> None:
    """Whatever was counted, and wherever the clock is: at a week's border as well."""
    found = outlook("critical", season, at, at)

    assert DAY == len(found.bins)
    assert found.bins[0].at <= at < found.bins[1].at == found.bins[0].at + BIN_S
    assert found.error is None or found.error >= 0
    assert 1 / MOST <= found.factor <= MOST
    most = max((season.arrived(n) for n in range(MONDAY - 7 * WEEK, MONDAY + 3 * WEEK)), default=0)
    for ahead in found.bins:
        assert 0 <= ahead.per_s <= MOST * (most + 1) / BIN_S
        assert ahead.slots >= 0
    assert found.mean_per_s >= 0 <= found.service_s


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Invent what a worker has counted."""
    task = draw(st.sampled_from(["", *(f"task {number}" for number in range(12))]))
    back = draw(st.sampled_from([0, 1, 2, WEEK]))
    return Entry("b", task, MONDAY + 5 - back, draw(st.integers(0, 9)), draw(st.integers(0, 9)))


@given(told=st.lists(entries(), max_size=40), seed=st.integers(0, 1_000))
def test_the_order_in_which_workers_tell_does_not_matter(told: list[Entry], seed: int) -> None:
    """None of them waits for another: all that came is there, and so is the time it took."""
    orders = [told, Random(seed).sample(told, len(told))]
    found = []
    for order in orders:
        weeks: dict[int, Rows] = {}
        for entry in order:
            add(weeks.setdefault(entry.bin // WEEK, {}), entry)
        season = Season()
        season.remember(weeks, WEEK_NUMBER)
        sums = {week: sum(row.busy_us for row in rows.values()) for week, rows in weeks.items()}
        arrived = [season.arrived(MONDAY + 5 - back) for back in (0, 1, 2, WEEK)]
        found.append((sums, arrived, [season.expected(MONDAY + 5 + n) for n in (0, 9)]))
        if len({entry.task for entry in told} - {""}) <= MOST_TYPES:
            found[-1] = (*found[-1], weeks)  # type: ignore[assignment]

    assert found[0] == found[1]


@given(
    lost=st.lists(st.sampled_from(["heard", "unheard", "repeated"]), min_size=1, max_size=30),
    busy=st.lists(st.integers(0, 3), min_size=1, max_size=30),
)
def test_what_is_told_twice_counts_once(lost: list[str], busy: list[int]) -> None:
    """Answers are lost; tallies are not, nor are they doubled."""
    now = begin_of(MONDAY)
    store = MemoryArrivals(lambda: 0)
    forecast = Forecast(["b"])
    came = 0
    for number in range(max(len(lost), len(busy))):
        for _ in range(busy[number % len(busy)]):
            forecast.observe("b", "pay", now, 0.5, now, is_whole=True)
            came += 1
        tally = forecast.tally("w", 2, now, ["b"])
        assert tally is not None
        how = lost[number % len(lost)]
        answer = store.count(tally)
        if how == "repeated":
            answer = store.count(tally)
        if how != "unheard":
            forecast.heard(tally, answer)
        now += 5
    for _ in range(3):
        tally = forecast.tally("w", 2, now, ["b"])
        assert isinstance(tally, Tally)
        forecast.heard(tally, store.count(tally))

    season = forecast.seasons["b"]
    assert came == sum(season.arrived(MONDAY + number) for number in range(3))
    rows = store.weeks("b", WEEK_NUMBER)[WEEK_NUMBER]
    assert came * 500_000 == rows.get("pay", Row()).busy_us + rows.get("", Row()).busy_us


@pytest.mark.parametrize("mean", [10, 100, 1_000])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_error_of_chance_alone_is_what_chance_makes(mean: int, seed: int) -> None:
    """Nothing can foretell how a Poisson variable falls; forecasts are off by little more."""
    chance = Random(seed)
    season = Season()
    for week in range(WEEK_NUMBER - 3, WEEK_NUMBER + 1):
        drawn = [max(0, round(chance.gauss(mean, mean**0.5))) for _ in range(WEEK)]
        season.weeks[week] = {"pay": Row(0, drawn), SEEN: Row(0, [1] * WEEK)}
    season.changed()
    off = error_of(season, list(range(MONDAY, MONDAY + WEEK)))
    least = 0.8 / mean**0.5

    assert off is not None
    assert least < off < 1.5 * least
    assert 0 == slots_of(season, MONDAY + WEEK, begin_of(MONDAY + WEEK))
