"""What one worker counts of arrivals, tells, hears, and makes of it."""

from __future__ import annotations

import pytest

from celery_budget.core.forecast import MOST_SEEN, MOST_UNTOLD, Forecast, slots_of
from celery_budget.core.season import BIN_S, DAY, REST, SEEN, WEEK, WEEKS, Row, Season, begin_of
from celery_budget.core.staffing import needed
from celery_budget.core.tally import MOST_COUNT, MOST_ENTRIES, Entry, Recent, Tally, add

MONDAY = 2_800 * WEEK
NOW = begin_of(MONDAY + 40) + 60.0
BIN = MONDAY + 40


def forecast(*bands: str) -> Forecast:
    """Make one of some bands."""
    return Forecast(bands or ("critical",))


def observe(
    of: Forecast,
    times: int = 1,
    *,
    task: str = "pay",
    band: str = "critical",
    published: float = NOW,
    served_s: float = 0.5,
    is_whole: bool = True,
) -> None:
    """Let executions end now."""
    for _ in range(times):
        of.observe(band, task, published, served_s, NOW, is_whole=is_whole)


def told(of: Forecast, now: float = NOW) -> dict[tuple[str, int], tuple[int, int]]:
    """Write the next tally and say that it was heard; give arrivals and slot time of its tasks."""
    tally = of.tally("w", 2, now, of.seasons)
    assert tally is not None
    of.heard(tally, {})
    return {(e.task, e.bin): (e.arrivals, e.busy_us) for e in tally.entries if e.task != SEEN}


def test_arrivals_count_when_they_were_published() -> None:
    """A backlog that is worked off at noon came in the morning."""
    of = forecast()
    observe(of, 3)
    observe(of, 2, published=NOW - BIN_S)

    assert {("pay", BIN): (3, 1_500_000), ("pay", BIN - 1): (2, 1_000_000)} == told(of)


def test_a_task_that_made_room_counts_once() -> None:
    """It comes back, maybe to another worker; the slot time is that of all its parts."""
    of = forecast()
    observe(of, 2, is_whole=False)
    observe(of)

    assert {("pay", BIN): (1, 1_500_000)} == told(of)


def test_other_clocks_and_times_that_nobody_told_count_as_now() -> None:
    """A sender's clock may be ahead; a message of another kind has no time."""
    of = forecast()
    observe(of, published=NOW + 9 * BIN_S)
    observe(of, published=0.0)
    observe(of, published=NOW - (WEEKS + 2) * WEEK * BIN_S)

    assert {("pay", BIN): (2, 1_000_000)} == told(of)


def test_a_tally_is_told_again_until_it_is_heard() -> None:
    """Its answer was lost, and whether it counted nobody knows."""
    of = forecast()
    observe(of)
    first = of.tally("w", 2, NOW, of.seasons)
    observe(of)
    again = of.tally("w", 2, NOW + 5, of.seasons)
    assert first is not None
    of.heard(first, {})
    second = of.tally("w", 2, NOW + 5, of.seasons)
    assert second is not None

    assert first is again
    assert (1, 2) == (first.number, second.number)
    assert [1, 1] == [entry.arrivals for entry in second.entries]


def test_a_tally_tells_that_somebody_counts() -> None:
    """Else a quiet hour could not be told from one in which nothing ran."""
    of = forecast("critical", "other")
    tally = of.tally("w", 2, NOW, {"critical"})
    assert tally is not None

    assert (Entry("critical", SEEN, BIN, 1, 0),) == tally.entries
    assert ("critical",) == tally.bands
    assert of.needed("other", NOW, 0) == 0


def test_nothing_is_told_where_nothing_is_forecast() -> None:
    """Most workers have no such band."""
    of = Forecast(())

    assert of.tally("w", 2, NOW, ()) is None
    assert forecast().tally("w", 2, NOW, {"other"}) is None
    of.keep(2, NOW, of.seasons)


def test_rare_task_types_share_one_row() -> None:
    """The rows of a band are few."""
    of = forecast()
    observe(of, 40)
    observe(of, task="rare")
    observe(of, 40, task="other")

    assert {("pay", BIN): 40, (REST, BIN): 3, ("other", BIN): 38} == {
        key: arrivals for key, (arrivals, _) in told(of).items()
    }


def test_many_task_types_are_bounded_and_none_is_lost() -> None:
    """Names may be made at run time, and the store may be away for long."""
    of = forecast()
    for number in range(3 * MOST_SEEN):
        observe(of, task=f"task {number}", published=NOW - number % 700 * BIN_S)
    arrivals = 0
    tallies = 0
    while found := told(of):
        tallies += 1
        assert len(found) < MOST_ENTRIES
        arrivals += sum(came for came, _ in found.values())

    assert 3 * MOST_SEEN == arrivals
    assert tallies < MOST_UNTOLD / (MOST_ENTRIES - 1)


def test_what_waits_to_be_told_is_bounded() -> None:
    """It is statistics; memory is not."""
    of = Forecast(f"band {number}" for number in range(8))
    for number in range(2 * MOST_UNTOLD):
        observe(of, band=f"band {number % 8}", published=NOW - number // 8 * BIN_S)

    assert MOST_UNTOLD == len(of._untold)
    assert MOST_COUNT >= 1


def test_a_clock_that_was_set_back_keeps_what_is_later_for_later() -> None:
    """The store takes nothing of the future."""
    of = forecast()
    observe(of)
    early = told(of, NOW - 2 * BIN_S)

    assert {} == early
    assert {("pay", BIN): (1, 500_000)} == told(of)


def test_what_is_too_old_when_the_store_is_back_is_left_out() -> None:
    """It would be of no week that counts."""
    of = forecast()
    observe(of)

    assert {} == told(of, NOW + (WEEKS + 2) * WEEK * BIN_S)


def counted(first: int, counts: list[int], busy_us: int = 0) -> dict[str, Recent]:
    """Answer as a store does."""
    return {"critical": Recent({"w": 2, "v": 2}, first, {"pay": Row(busy_us, counts)})}


def tally(at: int = BIN, number: int = 1) -> Tally:
    """Tell of nothing."""
    return Tally("w", number, 2, begin_of(at), at, ("critical",))


def test_what_the_fleet_has_counted_takes_the_place_of_what_was_known() -> None:
    """Of the last hours; what is older stays."""
    of = forecast()
    of.remember({"critical": {BIN // WEEK: {"pay": Row(5, [9] * 35)}}}, BIN // WEEK)
    of.heard(tally(), counted(MONDAY + 30, [1, 2], busy_us=70))
    of.heard(tally(), counted(MONDAY + 38, [4, 5, 6], busy_us=90))

    row = of.seasons["critical"].weeks[BIN // WEEK]["pay"]
    assert Row(90, [9] * 30 + [1, 2] + [0] * 6 + [4, 5, 6]) == row
    assert {"w": 2, "v": 2} == of.crew("critical")
    assert begin_of(BIN) == of.until


def test_the_need_is_the_most_of_the_time_looked_ahead() -> None:
    """A reserve has to be there when a spike begins."""
    of = forecast()
    rows = {"pay": Row(100 * 900 * 1_000_000, [0] * 41 + [900])}
    spike = BIN + 1
    seen = {SEEN: Row(0, [1] * WEEK)}
    of.remember({"critical": {BIN // WEEK - 1: {**rows, **seen}}}, BIN // WEEK)
    assert of.tally("w", 2, begin_of(BIN), of.seasons)
    of.heard(tally(), {})
    far, near = (of.needed("critical", begin_of(spike) - 60, lead) for lead in (30, 90))

    assert far < near
    assert 100 < near < 130


def test_what_has_not_ended_yet_is_not_missed() -> None:
    """Tasks of half an hour that came since are running, and the last hours look quiet."""
    even = {"pay": Row(WEEK * 100 * 1_800 * 1_000_000, [100] * WEEK), SEEN: Row(0, [1] * WEEK)}
    this = {"pay": Row(3_800 * 1_800 * 1_000_000, [100] * 38), SEEN: Row(0, [1] * 40)}
    season = Season()
    season.remember({BIN // WEEK - 1: even, BIN // WEEK: this}, BIN // WEEK)
    until = begin_of(BIN)
    load_ = 100 * 1_800 / BIN_S

    assert season.factor(until) < 0.8
    assert needed(load_) == pytest.approx(slots_of(season, BIN, until), abs=2)


def test_without_a_store_a_worker_goes_by_its_own_count() -> None:
    """On RabbitMQ without a ledger there is nobody to ask."""
    of = forecast()
    for day in range(3):
        at = begin_of(MONDAY + day * DAY + 36)
        for _ in range(900):
            of.observe("critical", "pay", at, 10.0, at, is_whole=True)
        for number in range(DAY):
            of.keep(4, at + number * BIN_S, of.seasons)
    now = begin_of(MONDAY + 3 * DAY + 35)
    of.keep(4, now, of.seasons)
    quiet, spike = of.needed("critical", now, 30), of.needed("critical", now, BIN_S)

    assert quiet <= 4
    assert 14 <= spike <= 18
    assert {} == of.crew("critical")
    assert now == of.until


def test_its_own_count_is_told_to_its_end() -> None:
    """However many task types there are."""
    of = forecast()
    for number in range(300):
        observe(of, published=NOW - number * BIN_S)
    observe(of, published=NOW + BIN_S)
    of.keep(4, NOW - BIN_S / 2, of.seasons)
    season = of.seasons["critical"]

    assert 299 == sum(season.arrived(BIN - number) for number in range(1, 300))
    of.keep(4, NOW, of.seasons)
    assert 2 == season.arrived(BIN)


def test_bands_may_come_and_go() -> None:
    """An operator applies another policy."""
    of = forecast("critical", "other")
    observe(of)
    observe(of, band="other")
    kept = of.seasons["critical"]
    of.amend(["critical", "third"])
    of.amend(["third", "critical"])

    assert kept is of.seasons["critical"]
    assert ["critical", "third"] == list(of.seasons)
    assert {("pay", BIN): (1, 500_000)} == told(of)


def test_the_weeks_before_are_lacking_until_they_were_read() -> None:
    """Of each band: an operator may have applied a policy while others were read."""
    of = forecast()
    first = of.tally("w", 2, NOW, of.seasons)
    assert first is not None
    lacking = [of.lacks(first)]
    of.amend(["critical", "new"])
    of.remember({"critical": {}}, BIN // WEEK)
    of.heard(first, {})
    second = of.tally("w", 2, NOW, of.seasons)
    assert second is not None
    lacking += [of.lacks(first), of.lacks(second)]
    of.remember({"new": {}}, BIN // WEEK)
    lacking.append(of.lacks(second))
    of.heard(second, {})
    later = of.tally("w", 2, NOW + WEEK * BIN_S, of.seasons)
    assert later is not None

    assert [True, False, True, False, True] == [*lacking, of.lacks(later)]


def test_as_many_bands_as_there_may_be_are_told_of() -> None:
    """That somebody counts must not take all the room."""
    names = [f"band {number}" for number in range(64)]
    of = Forecast(names)
    for band in names:
        observe(of, band=band)

    assert {("pay", BIN): (1, 500_000)} == told(of)
    assert 0 == len(of._untold)


def test_a_pool_without_slots_takes_part() -> None:
    """It is about to grow."""
    of = forecast()
    made = of.tally("w", 0, NOW, of.seasons)

    assert made is not None
    assert 1 == made.slots


@pytest.mark.parametrize("task", [REST, SEEN, "new"])
def test_rows_without_arrivals_have_no_counts(task: str) -> None:
    """A part of an execution alone has only slot time."""
    rows: dict[str, Row] = {}
    add(rows, Entry("critical", task, BIN, 0, 7))

    assert {task: Row(7, [])} == rows
