"""What every ledger promises that has lost everything: it learns again from reports."""

from __future__ import annotations

from celery_budget.core.account import Known
from tests.contracts.fleet import (
    CAPACITY,
    DAY,
    HOURLY,
    LEASE_US,
    NOON,
    STEADY,
    TODAY,
    Fleet,
    daily,
    want,
)


def test_an_emptied_ledger_has_another_epoch(fleet: Fleet) -> None:
    """By that workers see that they must tell what they know."""
    worker = fleet.worker("w")
    worker.send()
    before = worker.epoch
    worker.send()
    same = worker.epoch
    fleet.lose()
    fleet.clock.pass_s(1)
    worker.send()

    assert before == same != worker.epoch


def test_an_emptied_ledger_relearns_balances(fleet: Fleet) -> None:
    """A flush must not be worth a fresh budget."""
    worker = fleet.worker("w")
    granted = worker.tell("a", HOURLY, want(70))
    known = Known(granted.balance, NOON, 70)
    fleet.lose()
    fleet.clock.pass_s(1)

    granted = worker.tell("a", HOURLY, want(100), spent=30, held=40, known=known)

    assert 30 == granted.units
    assert 0 == granted.balance


def test_an_emptied_ledger_relearns_debts_and_windows_since(fleet: Fleet) -> None:
    """What has come in the meantime is reckoned as if nothing had been lost."""
    worker = fleet.worker("w")
    worker.send()
    fleet.clock.pass_s(7_200)
    fleet.lose()
    hourly = worker.tell("hourly", HOURLY, known=Known(-250, NOON, 0)).balance
    steady = worker.tell("steady", STEADY, known=Known(-72_050, NOON, 0)).balance
    fleet.clock.now = TODAY + DAY
    tomorrow = daily(100, begins=TODAY + DAY)
    calendar = worker.tell("daily", tomorrow, known=Known(-30, NOON, 0)).balance

    assert [-50, -50, 70] == [hourly, steady, calendar]


def test_a_server_whose_clock_is_behind_relearns_too(fleet: Fleet) -> None:
    """What was heard a moment before the failover seems to have been heard after it."""
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, want(70))
    fleet.lose()
    fleet.clock.pass_s(-10)

    assert 10 == worker.tell("a", HOURLY, held=70, known=Known(10, NOON, 70)).balance


def test_accounts_are_relearned_by_reports_after_the_first(fleet: Fleet) -> None:
    """A report has only so many lines."""
    worker, other = fleet.worker("w"), fleet.worker("other")
    worker.send()
    fleet.clock.pass_s(1)
    fleet.lose()
    worker.send()
    other.tell("a", HOURLY, want(50))

    worker.tell("a", HOURLY, known=Known(20, NOON, 0))

    assert 20 == fleet.balance("a")


def test_what_a_worker_knows_of_a_ledger_that_lost_nothing_is_not_believed(fleet: Fleet) -> None:
    """Others have given back since; it would be lost again."""
    worker, other = fleet.worker("w"), fleet.worker("other")
    for account, spent in (("used", 10), ("forgotten", 0)):
        other.tell(account, HOURLY, want(100))
        worker.tell(account, HOURLY)
        other.tell(account, HOURLY, spent=spent)

        granted = worker.tell(account, HOURLY, want(100), known=Known(0, NOON, 0))

        assert 100 - spent == granted.units


def test_capacities_are_withheld_for_one_lease_after_a_loss(fleet: Fleet) -> None:
    """Others hold them and have yet to say so."""
    worker, silent, late = fleet.worker("w"), fleet.worker("silent"), fleet.worker("late")
    silent.tell("a", CAPACITY, want(6))
    worker.send()
    late.send()
    fleet.clock.pass_s(1)
    fleet.lose()
    units = [worker.tell("a", CAPACITY, want(10)).units]
    fleet.clock.now += LEASE_US - 1
    units.append(worker.tell("a", CAPACITY, want(10)).units)
    silent.tell("a", CAPACITY, held=6)
    fleet.clock.now += 1
    late.send()

    assert [0, 0] == units
    assert 4 == worker.tell("a", CAPACITY, want(10)).units


def test_capacities_are_withheld_no_longer_when_the_clock_is_set_back(fleet: Fleet) -> None:
    """It might be for hours."""
    worker = fleet.worker("w")
    worker.send()
    fleet.clock.pass_s(1)
    fleet.lose()
    withheld = worker.tell("a", CAPACITY, want(10)).units
    fleet.clock.pass_s(-3_600)

    assert 0 == withheld
    assert 10 == worker.tell("a", CAPACITY, want(10)).units


def test_a_new_fleet_has_its_capacities_at_once(fleet: Fleet) -> None:
    """Nothing was lost."""
    assert 10 == fleet.worker("w").tell("a", CAPACITY, want(10)).units
