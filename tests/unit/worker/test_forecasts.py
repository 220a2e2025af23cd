"""When a worker tells the fleet what has arrived, and when its reserves follow."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import pytest

from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.reporting import IDLE_S
from celery_budget.core.season import BIN_S, SEEN, WEEK, Row, Rows, begin_of, bin_of
from celery_budget.core.tally import Entry, Recent, Tally
from celery_budget.errors import LedgerUnavailable
from celery_budget.policy.model import Band
from celery_budget.stores.memory_arrivals import MemoryArrivals
from celery_budget.worker import forecasts as module
from celery_budget.worker import leases
from celery_budget.worker.forecasts import TALLY_S, Forecasts
from tests.unit.core.worker import NOW, start, ticket
from tests.unit.worker.test_leases import Desk

WEEK_NUMBER = bin_of(NOW) // WEEK


class Deaf(MemoryArrivals):
    """A store that can be out of reach, before or after it has heard."""

    is_away = False
    is_silent = False
    is_unread = False
    looked = 0

    def count(self, tally: Tally) -> dict[str, Recent]:
        """Count unless the tally does not arrive; the answer may be lost."""
        if self.is_away:
            raise LedgerUnavailable("count", "nobody there")
        answer = super().count(tally)
        if self.is_silent:
            raise LedgerUnavailable("count", "no answer")
        return answer

    def weeks(self, band: str, newest: int) -> dict[int, Rows]:
        """Look weeks up unless they cannot be read."""
        self.looked += 1
        if self.is_unread:
            raise LedgerUnavailable("arrivals", "no answer")
        return super().weeks(band, newest)


class Counting(Desk):
    """A worker whose leases carry tallies."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals = Deaf(lambda: int((NOW + self.now) * 1e6))
        bands = [Band("critical", 0, preempts=True, reserve_most=4), Band("other", 1)]
        self.counter = Dispatcher(bands, 8)
        self.bands: Mapping[str, object] = {"critical": None, "other": None}
        self.forecasts = Forecasts(self.arrivals, lambda: self.counter, "w", lambda: self.bands)
        self.leases._forecasts = self.forecasts

    def run(self, times: int = 1) -> None:
        """Run tasks from their start to their end."""
        for _ in range(times):
            held = ticket("critical", published=NOW + self.now)
            self.counter.offer(held, NOW + self.now)
            start(self.counter, NOW + self.now)
            self.counter.ended(held, NOW + self.now + 1)

    @property
    def count(self) -> int:
        """Tell how many arrivals the fleet has counted."""
        weeks = self.arrivals.weeks("critical", WEEK_NUMBER + 1).values()
        return sum(sum(rows["task"].counts) for rows in weeks if "task" in rows)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    """Open a worker whose clock stands still."""
    made = Counting()
    monkeypatch.setattr(leases, "monotonic", lambda: made.now)
    monkeypatch.setattr(leases, "time", lambda: NOW + made.now)
    monkeypatch.setattr(module, "time", lambda: NOW + made.now)
    made.open()
    yield made
    made.leases.close()


def test_what_arrived_is_told_every_few_seconds(desk: Counting) -> None:
    """With each report it would cost the store more than the report does."""
    desk.run()
    desk.exchange(TALLY_S)
    desk.run()
    counts = [desk.count]
    desk.exchange(TALLY_S - 2 * IDLE_S)
    counts.append(desk.count)
    desk.exchange(2 * IDLE_S)

    assert [1, 1, 2] == [*counts, desk.count]


@pytest.mark.parametrize("way", ["is_away", "is_silent", "is_unread"])
def test_a_tally_that_was_not_answered_counts_once(
    desk: Counting, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it was lost or only the answer; and one line of the log tells of it."""
    caplog.set_level(logging.INFO, module.__name__)
    desk.run()
    setattr(desk.arrivals, way, True)
    for _ in range(3):
        desk.exchange(TALLY_S)
    desk.run()
    setattr(desk.arrivals, way, False)
    for _ in range(2):
        desk.exchange(TALLY_S)

    assert 2 == desk.count
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("the ledger is unavailable (")
    assert told.endswith("Forecasts go by what this worker heard before.")


def test_a_ledger_that_is_away_is_told_of_once(
    desk: Counting, caplog: pytest.LogCaptureFixture
) -> None:
    """Reports say it already."""
    caplog.set_level(logging.INFO)
    desk.run()
    desk.ledger.is_away = desk.arrivals.is_away = True
    for _ in range(5):
        desk.exchange(TALLY_S)
    desk.ledger.is_away = desk.arrivals.is_away = False
    for _ in range(3):
        desk.exchange(TALLY_S)

    assert 1 == desk.count
    assert 2 == len(caplog.records)


def test_the_weeks_before_are_read_at_the_start_and_when_a_week_begins(desk: Counting) -> None:
    """Else only the last hours are."""
    for _ in range(3):
        desk.exchange(TALLY_S)
    looked = [desk.arrivals.looked]
    desk.now = begin_of((WEEK_NUMBER + 1) * WEEK) - NOW
    for _ in range(3):
        desk.exchange(TALLY_S)

    assert [1, 2] == [*looked, desk.arrivals.looked]


def history(desk: Counting, at: int, arrivals: int) -> None:
    """Let another worker have counted a spike in the weeks before."""
    entries = [
        Entry("critical", "task", at - back * WEEK, arrivals, arrivals * 1_000_000)
        for back in (1, 2)
    ]
    desk.arrivals.count(Tally("other", 1, 8, 0.0, at, ("critical",), tuple(entries)))


def test_the_reserve_is_there_before_the_spike_without_an_answer(
    desk: Counting, caplog: pytest.LogCaptureFixture
) -> None:
    """Time alone brings it; the log tells an operator why slots are idle."""
    caplog.set_level(logging.INFO, module.__name__)
    spike = bin_of(NOW + desk.now) + 2
    history(desk, spike, 2_000)
    desk.now += 60
    desk.exchange(TALLY_S)
    before = desk.counter.reserve("critical")
    desk.now = begin_of(spike) - NOW - 20
    desk.forecasts.look(desk.now)
    kept = desk.counter.reserve("critical")
    desk.now += 25
    desk.forecasts.look(desk.now)

    assert (0, 4) == (before, kept)
    (told,) = [record.getMessage() for record in caplog.records]
    assert "Slots kept from now on, as the forecast says: 4 for critical." == told


def test_reserves_are_looked_at_every_few_seconds(desk: Counting) -> None:
    """The worker's timer comes each second."""
    spike = bin_of(NOW + desk.now) + 2
    history(desk, spike, 2_000)
    desk.now += 60
    desk.exchange(TALLY_S)
    desk.forecasts.look(desk.now)
    desk.now = begin_of(spike) - NOW
    desk.forecasts.look(desk.now)
    kept = desk.counter.reserve("critical")
    desk.now += BIN_S
    desk.forecasts._looked = desk.now - TALLY_S + 0.1
    desk.forecasts.look(desk.now)

    assert (4, 4) == (kept, desk.counter.reserve("critical"))


def test_a_worker_without_a_ledger_goes_by_its_own_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """On RabbitMQ a policy without budgets needs none."""
    counter = Dispatcher([Band("critical", 0, reserve_most=4), Band("other", 1)], 8)
    alone = Forecasts(None, lambda: counter, "w", lambda: ["critical"])
    spike = WEEK_NUMBER * WEEK + 100
    counter.forecast.remember(
        {
            "critical": {
                WEEK_NUMBER - 1: {
                    "task": Row(2_000_000_000, [0] * 100 + [2_000]),
                    SEEN: Row(0, [1] * WEEK),
                }
            }
        },
        WEEK_NUMBER,
    )
    monkeypatch.setattr(module, "time", lambda: begin_of(spike) - 10)
    alone.look(0.0)

    kept = counter.reserve("critical")
    other = Dispatcher([Band("critical", 0, reserve_most=4), Band("other", 1)], 8)
    other.forecast.seasons = counter.forecast.seasons
    Forecasts(None, lambda: other, "w", lambda: ["other"]).look(0.0)

    assert (4, 0) == (kept, other.reserve("critical"))
    assert {} == counter.forecast.crew("critical")


def test_what_is_left_is_told_at_the_end(desk: Counting) -> None:
    """Also when the last tally was just told."""
    desk.exchange(TALLY_S)
    desk.run(3)
    desk.leases.close()

    assert 3 == desk.count


def test_a_band_whose_queues_this_worker_leaves_out_is_not_told_of(desk: Counting) -> None:
    """It takes no part: `-Q` may leave a band to other workers."""
    desk.bands = {"other": None}
    desk.exchange(TALLY_S)

    assert desk.forecasts.due(desk.now + TALLY_S) is None
    assert 0 == desk.arrivals.looked
