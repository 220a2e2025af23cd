"""What every ledger promises: reports, leases, loss, time and forgetting."""

from __future__ import annotations

import pytest

from celery_budget.core.accounting import GONE_KEPT_US, MOST_GONE, AccountRule, Known
from celery_budget.core.exchange import Line
from tests.contracts.fleet import DAY, LEASE_US, NOON, SECOND, Fleet, want

CAPACITY = AccountRule(10)
#: 10 units a second, 100 saved up.
STEADY = AccountRule(10, SECOND, 100)
#: 100 units an hour.
HOURLY = AccountRule(100, 3_600 * SECOND, 0, turns=True)
TODAY = NOON // DAY * DAY


def daily(limit: int, *, version: int = 0, begins: int = TODAY) -> AccountRule:
    """Make the rule of a calendar window."""
    return AccountRule(limit, 0, 0, True, begins // DAY, begins, version)


def balance(fleet: Fleet, account: str) -> int:
    """Look up what an account has now."""
    return fleet.ledger.accounts([account])[account].balance


# Reports


def test_a_new_account_is_full(fleet: Fleet) -> None:
    """Whoever has not used it has saved up what can be saved up."""
    worker = fleet.worker("w")

    assert 10 == worker.tell("a", CAPACITY, want(99)).units
    assert 100 == worker.tell("b", STEADY, want(999)).units
    assert 130 == worker.tell("c", HOURLY._replace(burst=30), want(999)).units


def test_what_is_granted_counts_as_spent_until_it_comes_back(fleet: Fleet) -> None:
    """Two workers must not be given the same units."""
    first, second = fleet.worker("1"), fleet.worker("2")
    first.tell("a", HOURLY, want(70))

    assert 30 == second.tell("a", HOURLY, want(70)).units
    first.tell("a", HOURLY, spent=10)
    assert 40 == second.tell("a", HOURLY, want(40, rank=0), held=30).units


def test_a_repeated_report_does_not_count_twice(fleet: Fleet) -> None:
    """An answer that was lost says nothing of whether the report arrived."""
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, want(50))
    worker.tell("a", HOURLY, spent=20, held=30)
    worker.repeat()
    worker.repeat()

    assert 50 == balance(fleet, "a")
    assert 20 == fleet.ledger.accounts(["a"])["a"].spent


def test_a_lost_answers_grant_comes_back(fleet: Fleet) -> None:
    """The worker does not know that it has it."""
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, want(60))

    (granted,) = worker.repeat().lines

    assert 60 == granted.units
    assert 40 == balance(fleet, "a")
    worker.tell("a", HOURLY, held=0)
    assert 100 == fleet.worker("other").tell("a", HOURLY, want(100)).units


def test_a_repeated_report_relearns_only_once(fleet: Fleet) -> None:
    """What the first copy told of a lost account must not be paid back by the second."""
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, want(50))
    fleet.lose()
    fleet.clock.pass_s(1)
    worker.tell("a", HOURLY, spent=10, known=Known(50, NOON, 10))
    before = balance(fleet, "a")
    worker.repeat()

    assert 50 == before == balance(fleet, "a")


def test_a_report_that_was_overtaken_changes_nothing(fleet: Fleet) -> None:
    """A broken connection may deliver what it held, after a later report."""
    worker = fleet.worker("w")
    worker.tell("a", CAPACITY, want(10))
    worker.tell("a", CAPACITY, want(5), held=5)

    assert () == worker.overtaken().lines
    assert 10 == fleet.ledger.accounts(["a"])["a"].leased


def test_an_overrun_becomes_debt_and_is_paid_first(fleet: Fleet) -> None:
    """Forgiving it would let a team overspend once a window for free."""
    worker = fleet.worker("w")
    worker.tell("a", STEADY, want(100))
    worker.tell("a", STEADY, spent=150)

    assert -50 == balance(fleet, "a")
    fleet.clock.pass_s(5.05)
    granted = worker.tell("a", STEADY, want(10, 10))
    assert 0 == granted.units
    assert 0 == granted.balance
    assert granted.free_at == NOON + 6 * SECOND
    fleet.clock.pass_s(0.95)
    assert 10 == worker.tell("a", STEADY, want(10, 10)).units


@pytest.mark.parametrize("rule", [HOURLY, daily(100)])
def test_a_debt_survives_the_turn_of_a_window(fleet: Fleet, rule: AccountRule) -> None:
    """Else the last minute of a window is without a limit."""
    worker = fleet.worker("w")
    worker.tell("a", rule, want(100))
    worker.tell("a", rule, spent=130)
    fleet.clock.now = TODAY + DAY if rule.is_calendar else NOON + 3_600 * SECOND
    later = daily(100, begins=TODAY + DAY) if rule.is_calendar else rule

    assert 70 == worker.tell("a", later, want(100)).units


def test_unspent_units_of_a_turning_window_are_lost_beyond_the_burst(fleet: Fleet) -> None:
    """A limit per day is not a limit on average."""
    worker = fleet.worker("w")
    for burst in (0, 30):
        account = f"burst {burst}"
        rule = HOURLY._replace(burst=burst)
        worker.tell(account, rule, want(20), spent=30)
        worker.tell(account, rule, spent=20)
        fleet.clock.pass_s(3_600)

        assert 100 + burst == worker.tell(account, rule, want(999)).units


def test_idle_units_in_the_hands_of_workers_are_not_saved_up_twice(fleet: Fleet) -> None:
    """Else every worker carries a burst of its own."""
    worker = fleet.worker("w")
    worker.tell("a", STEADY, want(100))
    fleet.clock.pass_s(60)
    fleet.worker("other").tell("a", STEADY)

    worker.tell("a", STEADY, held=100, idle=100)

    assert 0 == fleet.worker("other").tell("a", STEADY, want(100)).units


def test_spent_is_told_since_the_account_was_opened(fleet: Fleet) -> None:
    """Status pages show it."""
    worker = fleet.worker("w")
    for _ in range(3):
        worker.tell("a", STEADY, spent=7)

    assert 21 == fleet.ledger.accounts(["a"])["a"].spent


# Leases


def test_a_dead_workers_capacity_is_free_after_its_lease(fleet: Fleet) -> None:
    """Not a moment sooner: until then it may run what it holds."""
    dead, other = fleet.worker("dead"), fleet.worker("other")
    dead.tell("a", CAPACITY, want(10))
    fleet.clock.now += LEASE_US - 1
    early = other.tell("a", CAPACITY, want(10)).units
    fleet.clock.now += 1

    assert 0 == early
    assert 10 == other.tell("a", CAPACITY, want(10)).units


def test_each_report_renews_the_lease_of_what_it_names(fleet: Fleet) -> None:
    """A worker that runs something for hours keeps its slot."""
    worker, other = fleet.worker("w"), fleet.worker("other")
    worker.tell("a", CAPACITY, want(10))
    for _ in range(10):
        fleet.clock.now += LEASE_US - 1
        worker.tell("a", CAPACITY, held=10)

    assert 0 == other.tell("a", CAPACITY, want(10)).units


def test_a_dead_workers_window_grants_count_as_spent(fleet: Fleet) -> None:
    """Nobody knows what it did with them."""
    fleet.worker("dead").tell("a", HOURLY, want(60))
    fleet.clock.now += 2 * LEASE_US

    assert 40 == fleet.worker("other").tell("a", HOURLY, want(100)).units


def test_a_worker_that_was_cut_off_gives_back_what_it_did_not_spend(fleet: Fleet) -> None:
    """It counted as spent only because nobody knew better."""
    cut_off = fleet.worker("cut off")
    cut_off.tell("a", HOURLY, want(60))
    fleet.clock.now += LEASE_US + GONE_KEPT_US - SECOND
    cut_off.tell("a", HOURLY, spent=10)

    assert 90 == balance(fleet, "a")


def test_workers_that_come_and_go_leave_nothing_behind(fleet: Fleet) -> None:
    """An account shared by the whole fleet must not grow with every restart."""
    for number in range(50):
        worker = fleet.worker(f"w{number}")
        worker.tell("a", HOURLY, want(1))
        worker.tell("a", HOURLY, spent=1)

    assert {} == fleet.ledger.accounts(["a"])["a"].holders


def test_who_only_wanted_and_is_gone_is_forgotten(fleet: Fleet) -> None:
    """There is nothing to set its next report against."""
    fleet.worker("holder").tell("a", HOURLY, spent=100)
    fleet.worker("gone").tell("a", HOURLY, want(1))
    fleet.clock.now += LEASE_US

    assert {} == fleet.ledger.accounts(["a"])["a"].holders


def test_few_of_those_that_crashed_are_remembered(fleet: Fleet) -> None:
    """A fleet that crashes all day must not make exchanges slow."""
    rule = HOURLY._replace(limit=2 * MOST_GONE)
    for number in range(2 * MOST_GONE):
        fleet.worker(f"w{number}").tell("a", rule, want(1))
        fleet.clock.now += LEASE_US // 4
    fleet.clock.now += LEASE_US

    holders = fleet.ledger.accounts(["a"])["a"].holders
    assert [f"w{number}" for number in range(MOST_GONE, 2 * MOST_GONE)] == list(holders)


# Loss


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

    assert 20 == balance(fleet, "a")


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


# Changed rules


def test_a_higher_limit_adds_what_it_is_higher(fleet: Fleet) -> None:
    """What has been spent in this window counts against the new limit."""
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, spent=130)

    assert 20 == worker.tell("a", HOURLY._replace(limit=150), want(150)).units


def test_a_lower_limit_makes_no_debt(fleet: Fleet) -> None:
    """It was not known when the units were spent."""
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, spent=80)
    lower = HOURLY._replace(limit=50)

    assert 0 == worker.tell("a", lower, want(50)).balance
    fleet.clock.pass_s(3_600)
    assert 50 == worker.tell("a", lower, want(50)).units


def test_a_debt_stays_what_it_is_when_the_limit_is_lowered(fleet: Fleet) -> None:
    """Neither forgiven nor multiplied."""
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, spent=130)

    assert -30 == worker.tell("a", HOURLY._replace(limit=50)).balance


def test_two_rules_by_turns_gain_nothing(fleet: Fleet) -> None:
    """So it is while half of a fleet has been deployed."""
    lower = HOURLY._replace(limit=50)
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, spent=80)
    for _ in range(10):
        worker.tell("a", lower)
        worker.tell("a", HOURLY)

    assert 20 == balance(fleet, "a")


def test_what_a_lower_limit_took_is_forgotten_with_the_window(fleet: Fleet) -> None:
    """Else a higher one tomorrow would add too little."""
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, spent=130)
    worker.tell("a", HOURLY._replace(limit=50))
    fleet.clock.pass_s(3_600)

    assert 20 == worker.tell("a", HOURLY._replace(limit=50)).balance
    assert 70 == worker.tell("a", HOURLY).balance


def test_what_comes_back_under_a_lower_limit_is_not_spent_again(fleet: Fleet) -> None:
    """60 are out and 50 allowed: the first 10 that come back are none too many."""
    lower = HOURLY._replace(limit=50)
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, want(60))
    worker.tell("a", lower, held=60)

    assert 10 == worker.tell("a", lower, spent=40).balance


def test_a_lower_rate_keeps_what_still_fits(fleet: Fleet) -> None:
    """Savings are bounded by the new burst."""
    worker = fleet.worker("w")
    worker.tell("a", STEADY, spent=30)

    assert 20 == worker.tell("a", STEADY._replace(burst=20)).balance


def test_a_lower_capacity_waits_until_enough_is_back(fleet: Fleet) -> None:
    """What runs is not stopped."""
    worker = fleet.worker("w")
    worker.tell("a", CAPACITY, want(8))
    lower = AccountRule(5)

    assert -3 == worker.tell("a", lower, want(1), held=8).balance
    assert 1 == worker.tell("a", lower, want(1), held=4).units


def test_an_older_policy_does_not_win(fleet: Fleet) -> None:
    """While a fleet is deployed both are told by turns."""
    worker = fleet.worker("w")
    worker.tell("a", AccountRule(20, version=2), want(1))

    assert 19 == worker.tell("a", AccountRule(10, version=1), want(99), held=1).units


# Time


def test_a_window_that_turns_is_filled_when_it_begins(fleet: Fleet) -> None:
    """Not an hour after somebody used it first."""
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, spent=100)
    begins = (NOON // (3_600 * SECOND) + 1) * 3_600 * SECOND
    fleet.clock.now = begins - 1
    granted = worker.tell("a", HOURLY, want(100))
    fleet.clock.now = begins

    assert (0, begins) == (granted.units, granted.free_at)
    assert 100 == worker.tell("a", HOURLY, want(100)).units


def test_a_calendar_window_is_filled_by_whoever_tells_of_it_first(fleet: Fleet) -> None:
    """And by nobody else: some clocks are behind."""
    worker, behind = fleet.worker("w"), fleet.worker("behind")
    worker.tell("a", daily(100), spent=100)
    fleet.clock.now = TODAY + DAY
    tomorrow = daily(100, begins=TODAY + DAY)
    granted = [behind.tell("a", daily(100), want(10)).units]
    granted += [worker.tell("a", tomorrow, want(70)).units]
    for _ in range(3):
        behind.tell("a", daily(100))
        behind.tell("a", daily(100))
        granted.append(worker.tell("a", tomorrow, want(100), spent=sum(granted)).units)

    assert [0, 70, 30, 0, 0] == granted


def test_a_caller_whose_clock_is_ahead_is_not_believed(fleet: Fleet) -> None:
    """Nor does it keep others from telling when the next window does begin."""
    worker, ahead = fleet.worker("w"), fleet.worker("ahead")
    ahead.tell("a", daily(100, begins=TODAY + DAY), spent=100)
    ahead.tell("a", daily(100, begins=TODAY + 300 * DAY))
    today = worker.tell("a", daily(100), want(100)).units
    fleet.clock.now = TODAY + DAY

    assert 0 == today
    assert 100 == worker.tell("a", daily(100, begins=TODAY + DAY), want(100)).units


def test_a_caller_far_ahead_that_comes_first_stops_no_window(fleet: Fleet) -> None:
    """Its window would begin in a year."""
    worker, ahead = fleet.worker("w"), fleet.worker("ahead")
    ahead.tell("a", daily(100, begins=TODAY + 300 * DAY), spent=100)
    today = worker.tell("a", daily(100), want(100)).units
    fleet.clock.now = TODAY + DAY

    assert 0 == today
    assert 100 == worker.tell("a", daily(100, begins=TODAY + DAY), want(100)).units


def test_a_new_policy_told_by_a_clock_that_is_behind_fills_nothing_twice(fleet: Fleet) -> None:
    """It still tells of the last window."""
    worker, behind = fleet.worker("w"), fleet.worker("behind")
    fleet.clock.now = TODAY + DAY
    worker.tell("a", daily(100, begins=TODAY + DAY), spent=100)
    behind.tell("a", daily(100, version=1))

    assert 0 == worker.tell("a", daily(100, version=1, begins=TODAY + DAY), want(1)).units


def test_a_new_policy_told_after_midnight_fills_the_new_window(fleet: Fleet) -> None:
    """Else a deployment at night costs a day."""
    worker = fleet.worker("w")
    worker.tell("a", daily(100), spent=100)
    fleet.clock.now = TODAY + DAY

    assert 50 == worker.tell("a", daily(50, version=1, begins=TODAY + DAY), want(99)).units


@pytest.mark.parametrize("limit", [100, 3_000])
def test_days_instead_of_months_forgive_no_debt(fleet: Fleet, limit: int) -> None:
    """Numbers of days and of months have nothing to do with each other."""
    worker = fleet.worker("w")
    month = AccountRule(3_000, 0, 0, True, 646, TODAY - 13 * DAY)
    worker.tell("a", month, spent=9_000)

    days = worker.tell("a", daily(limit, version=1)).balance
    months = worker.tell("a", month._replace(version=2)).balance

    assert [-6_000, -6_000] == [days, months]


def test_a_clock_set_back_across_a_turn_does_not_fill_twice(fleet: Fleet) -> None:
    """A failover to a server whose clock is behind is no second budget."""
    worker = fleet.worker("w")
    begins = (NOON // (3_600 * SECOND) + 1) * 3_600 * SECOND
    for account, rule in (("hourly", HOURLY), ("daily", daily(100))):
        fleet.clock.now = begins
        worker.tell(account, rule, spent=100)
        for _ in range(3):
            fleet.clock.now = begins - 1
            worker.tell(account, rule)
            fleet.clock.now = begins
            worker.tell(account, rule)

        assert 0 == balance(fleet, account)


def test_a_clock_set_back_by_hours_does_not_stop_the_filling(fleet: Fleet) -> None:
    """It goes on from there."""
    worker = fleet.worker("w")
    worker.tell("steady", STEADY, spent=100)
    worker.tell("hourly", HOURLY, spent=100)
    fleet.clock.pass_s(-6 * 3_600)
    worker.tell("steady", STEADY)
    worker.tell("hourly", HOURLY)
    fleet.clock.pass_s(3_600)

    assert 100 == worker.tell("steady", STEADY, want(100)).units
    assert 100 == worker.tell("hourly", HOURLY, want(100)).units


def test_a_clock_set_forward_fills_at_most_what_can_be_saved_up(fleet: Fleet) -> None:
    """It cannot be told from a long rest."""
    worker = fleet.worker("w")
    for account, rule in (("steady", STEADY), ("hourly", HOURLY)):
        worker.tell(account, rule, spent=100)
        fleet.clock.pass_s(400 * 86_400)

        assert rule.full == worker.tell(account, rule, want(9_999)).units


def test_parts_of_a_unit_are_not_lost_however_often_one_asks(fleet: Fleet) -> None:
    """At three units a second and a report each 50 ms none would ever come."""
    rule = AccountRule(3, SECOND, 10)
    worker = fleet.worker("w")
    worker.tell("a", rule, spent=10)
    units = 0
    for _ in range(20 * 60):
        fleet.clock.pass_s(0.05)
        granted = worker.tell("a", rule, want(10)).units
        worker.tell("a", rule, spent=granted)
        units += granted

    # Rounding up loses a microsecond for each.
    assert 3 * 60 - 1 <= units <= 3 * 60


# Forgetting and names


def test_an_account_that_a_fresh_one_could_replace_is_forgotten(fleet: Fleet) -> None:
    """There may be a million tenants."""
    worker = fleet.worker("w")
    worker.tell("full", STEADY)
    worker.tell("full capacity", CAPACITY)
    worker.tell("used", STEADY, spent=10)
    worker.tell("debt", STEADY, spent=200)
    worker.tell("held", CAPACITY, want(1))
    names = ["full", "full capacity", "used", "debt", "held"]
    seen = [list(fleet.ledger.accounts(names))]
    fleet.clock.pass_s(2)
    seen.append(list(fleet.ledger.accounts(names)))
    fleet.clock.now += LEASE_US
    seen.append(list(fleet.ledger.accounts(names)))
    fleet.clock.pass_s(60)

    assert [["used", "debt", "held"], ["debt", "held"], ["debt"]] == seen
    assert {} == fleet.ledger.accounts(names)


def test_the_accounts_remembered_longest_are_listed(fleet: Fleet) -> None:
    """A page shows some of many."""
    worker = fleet.worker("w")
    worker.send(*(Line(f"a{number}", STEADY, 10_000 * number) for number in range(10)))

    assert {"a7", "a8", "a9"} == set(fleet.ledger.accounts(most=3))
    assert {"a2"} == set(fleet.ledger.accounts(["a2", "a3", "unknown"], most=1))
    assert {} == fleet.ledger.accounts([])


def test_looking_changes_nothing(fleet: Fleet) -> None:
    """It lets time pass for what it shows, not for what is kept."""
    worker = fleet.worker("w")
    worker.tell("a", STEADY, spent=90)
    fleet.clock.pass_s(3)
    fleet.ledger.accounts(["a"])["a"].balance = 7
    seen = fleet.ledger.accounts(["a"])
    fleet.clock.pass_s(-3)

    assert 40 == seen["a"].balance
    assert 10 == fleet.ledger.accounts(["a"])["a"].balance


@pytest.mark.parametrize("name", ["wörker-дом-工", "w" * 300, "a b\n", "{x}", ""])
def test_any_text_is_a_name(fleet: Fleet, name: str) -> None:
    """Host names and tenants come from users."""
    worker = fleet.worker(name)
    worker.tell(f"tenant:{name} usd", HOURLY, want(10))
    account = fleet.ledger.accounts([f"tenant:{name} usd"])[f"tenant:{name} usd"]

    assert [name] == list(account.holders)
    assert 90 == worker.tell(f"tenant:{name} usd", HOURLY, want(999), held=10).units


def test_an_answer_counts_the_workers_that_report(fleet: Fleet) -> None:
    """While the ledger is away, each takes its part of what all may use."""
    first, second = fleet.worker("1"), fleet.worker("2")

    assert 1 == first.send().workers
    assert 2 == second.send().workers
    fleet.clock.pass_s(5)
    assert 1 == first.send().workers
