"""A season: what a bin is expected to bring, from weeks, days, the mean, and the last hours."""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf

import pytest

from celery_budget.core.season import (
    BIN_S,
    DAY,
    FADE,
    HOUR,
    LASTS,
    MOST,
    REST,
    SEEN,
    WEEK,
    WEEKS,
    Row,
    Season,
    begin_of,
    bin_of,
)

THIS = 2_800
MONDAY = THIS * WEEK


def season(counts: dict[int, int], *, seen: range | None = None, task: str = "pay") -> Season:
    """Make one of counts by bin, in which somebody counted all the time before this week's end."""
    made = Season()
    for number, count in counts.items():
        row = made.weeks.setdefault(number // WEEK, {}).setdefault(task, Row())
        place = number % WEEK
        row.counts.extend([0] * (place + 1 - len(row.counts)))
        row.counts[place] = count
    first = min(counts, default=MONDAY)
    for number in range(first, MONDAY + WEEK) if seen is None else seen:
        row = made.weeks.setdefault(number // WEEK, {}).setdefault(SEEN, Row())
        row.counts.extend([0] * (number % WEEK + 1 - len(row.counts)))
        row.counts[number % WEEK] = 1
    made.changed()
    return made


def even(count: int, begin: int, end: int) -> dict[int, int]:
    """Let the same come in each bin."""
    return dict.fromkeys(range(begin, end), count)


def test_weeks_begin_on_monday_in_utc() -> None:
    """Operators read these times, wherever they are; and bins are the same for all workers."""
    begun = datetime.fromtimestamp(begin_of(MONDAY), UTC)

    assert (0, 0, 0) == (begun.weekday(), begun.hour, begun.minute)
    assert MONDAY == bin_of(begin_of(MONDAY)) == bin_of(begin_of(MONDAY + 1) - 0.001)
    assert MONDAY - 1 == bin_of(begin_of(MONDAY) - 0.001)
    assert -4 * DAY == bin_of(0.0)


def test_nothing_known_is_nothing_expected() -> None:
    """Reserves for what nobody has seen would be guesses."""
    made = Season()

    assert (0.0, 0.0) == (made.expected(MONDAY), made.forecast(MONDAY, begin_of(MONDAY)))
    assert (0.0, 1.0) == (made.service_s(MONDAY), made.factor(begin_of(MONDAY)))


def test_on_the_first_day_the_mean_is_expected() -> None:
    """It is all there is."""
    made = season(even(40, MONDAY, MONDAY + 2 * HOUR))

    assert 40 == made.expected(MONDAY + 2 * HOUR)


def test_on_the_second_day_the_same_hour_is_expected() -> None:
    """A nightly batch shows after one night."""
    made = season(even(10, MONDAY, MONDAY + DAY) | {MONDAY + 36: 500})

    assert 450 < made.expected(MONDAY + DAY + 36) < 500
    assert 10 == pytest.approx(made.expected(MONDAY + DAY + 40), rel=0.2)


def test_in_the_second_week_the_same_hour_of_the_week_is_expected() -> None:
    """A quiet Sunday is no working day."""
    counts = even(100, MONDAY - WEEK, MONDAY - 2 * DAY) | even(5, MONDAY - 2 * DAY, MONDAY)
    made = season(counts)
    saturday = MONDAY + 5 * DAY

    assert 100 == pytest.approx(made.expected(MONDAY + 4), rel=0.03)
    assert made.expected(saturday + 4) < 10


def test_newer_weeks_count_for_more() -> None:
    """Habits change."""
    counts = {MONDAY - back * WEEK: 1_000 if back > 1 else 0 for back in range(1, WEEKS + 1)}
    made = season(counts)
    weights = [FADE ** (back - 1) for back in range(1, WEEKS + 1)]

    assert 1_000 * sum(weights[1:]) / sum(weights) == pytest.approx(made.expected(MONDAY), rel=0.05)


def test_a_time_in_which_nobody_counted_means_nothing() -> None:
    """All workers were down; that does not make the next Tuesday a quiet one."""
    counts = even(50, MONDAY - WEEK, MONDAY - WEEK + DAY) | even(50, MONDAY - DAY, MONDAY)
    gap = season(counts, seen=range(0))
    quiet = season(counts)

    tuesday = MONDAY + DAY + 10
    assert 50 == pytest.approx(gap.expected(tuesday), rel=0.05)
    assert quiet.expected(tuesday) < 10


def test_a_forecast_looks_at_nothing_that_comes_later() -> None:
    """Else its error would not be one."""
    counts = even(20, MONDAY - WEEK, MONDAY + 50)
    now = MONDAY + 50
    before = season(counts).forecast(now, begin_of(now))
    later = season(counts | even(9_999, now, now + 40)).forecast(now, begin_of(now))

    assert before == later == pytest.approx(20, rel=0.05)


def test_the_last_hours_correct_what_comes_next_and_less_what_comes_later() -> None:
    """Today is twice as busy as other Mondays."""
    counts = even(100, MONDAY - WEEK, MONDAY) | even(200, MONDAY, MONDAY + 40)
    made = season(counts)
    now = MONDAY + 40
    until = begin_of(now)
    ahead = [made.forecast(now + number, until) for number in (0, HOUR, 8 * HOUR)]

    assert 180 < ahead[0] < 210
    assert ahead[0] > ahead[1] > ahead[2]
    assert ahead[2] == pytest.approx(made.expected(now + 8 * HOUR) * (1 + LASTS**32), rel=0.1)


def test_the_quarter_of_an_hour_that_has_begun_counts_by_its_part() -> None:
    """It is the newest that is known."""
    calm = even(1_000, MONDAY - WEEK, MONDAY + 10)
    now = MONDAY + 10
    half = begin_of(now) + BIN_S / 2
    as_usual = season(calm | {now: 500}).factor(half)
    twice = season(calm | {now: 1_000}).factor(half)

    assert 1 == pytest.approx(as_usual, rel=0.02)
    assert 1.05 < twice < 1.2


def test_a_spike_may_begin_late() -> None:
    """What is kept for it is kept until the quarter of an hour is over."""
    calm = even(100, MONDAY - WEEK, MONDAY + 10)
    spike = MONDAY + 10
    made = season(calm | {spike - WEEK: 5_000, spike: 0})
    late = made.factor(begin_of(spike) + 0.9 * BIN_S)
    over = made.factor(begin_of(spike + 1))

    assert 1 == pytest.approx(late, rel=0.05)
    assert over < 0.5


def test_what_was_not_heard_yet_corrects_nothing() -> None:
    """The ledger was away: that nothing is known of the last hours does not make them quiet."""
    made = season(even(100, MONDAY - WEEK, MONDAY + 10), seen=range(MONDAY - WEEK, MONDAY + 10))
    until = begin_of(MONDAY + 10)

    assert made.factor(until) == made.factor(until + BIN_S * 6) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("times", [0, 100])
def test_a_correction_is_bounded(times: int) -> None:
    """A holiday, or a flood, is no reason to forget the season."""
    counts = even(100, MONDAY - WEEK, MONDAY) | even(100 * times, MONDAY, MONDAY + 50)
    factor = season(counts).factor(begin_of(MONDAY + 50))

    assert 1 / MOST <= factor <= MOST
    assert factor in {1 / MOST, MOST} or 1 / MOST < factor < 0.5


def test_service_times_go_by_the_mixture_of_the_hour() -> None:
    """At night other tasks of the band come than by day."""
    made = Season()
    day, night = MONDAY - WEEK + 10, MONDAY - WEEK + 60
    made.weeks[THIS - 1] = {
        "short": Row(100 * 100_000, [0] * 10 + [100]),
        "long": Row(100 * 9_000_000, [0] * 60 + [100]),
        REST: Row(5_000_000),
        SEEN: Row(0, [1] * WEEK),
    }
    made.changed()

    assert made.service_s(day + WEEK) < 1.0
    assert made.service_s(night + WEEK) > 8.0
    assert ["", "long", "short"] == made.tasks


def test_service_times_of_newer_weeks_count_for_more() -> None:
    """A deploy made the task slower."""
    made = Season()
    for back, mean_us in ((2, 1_000_000), (1, 4_000_000)):
        made.weeks[THIS - back] = {"pay": Row(100 * mean_us, [0] * 10 + [100])}
    made.changed()

    assert (0.5 * 1 + 4) / 1.5 == pytest.approx(made.service_s(MONDAY + 10))


def test_weeks_that_are_too_old_are_dropped() -> None:
    """Memory stays what it is, also when the clock was far ahead for a while."""
    made = Season()
    made.remember({week: {"pay": Row(1, [1])} for week in range(THIS - 9, THIS + 9)}, THIS)

    assert list(range(THIS - WEEKS, THIS + 2)) == sorted(made.weeks)


def test_what_is_expected_follows_the_bin_and_not_each_arrival() -> None:
    """It is reckoned anew when the next quarter of an hour begins."""
    made = season(even(10, MONDAY, MONDAY + DAY))
    before = made.expected(MONDAY + DAY)
    made.weeks[THIS]["pay"].counts[0] = 500
    made.changed(is_next=False)
    same = made.expected(MONDAY + DAY)
    made.changed()

    assert before == same < made.expected(MONDAY + DAY) < inf
