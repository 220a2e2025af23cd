"""What every ledger promises: reports, leases, forgetting and names."""

from __future__ import annotations

import pytest

from celery_budget.core.account import AccountRule, Known
from celery_budget.core.accounting import GONE_KEPT_US, MOST_GONE
from celery_budget.core.exchange import Line
from tests.contracts.fleet import (
    CAPACITY,
    DAY,
    HOURLY,
    LEASE_US,
    NEXT_US,
    NOON,
    SECOND,
    STEADY,
    TODAY,
    Fleet,
    daily,
    want,
)


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

    assert 50 == fleet.balance("a")
    assert 20 == fleet.ledger.accounts(["a"])["a"].spent


def test_a_lost_answers_grant_comes_back(fleet: Fleet) -> None:
    """The worker does not know that it has it."""
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, want(60))

    (granted,) = worker.repeat().lines

    assert 60 == granted.units
    assert 40 == fleet.balance("a")
    worker.tell("a", HOURLY, held=0)
    assert 100 == fleet.worker("other").tell("a", HOURLY, want(100)).units


def test_a_repeated_report_relearns_only_once(fleet: Fleet) -> None:
    """What the first copy told of a lost account must not be paid back by the second."""
    worker = fleet.worker("w")
    worker.tell("a", HOURLY, want(50))
    fleet.lose()
    fleet.clock.pass_s(1)
    worker.tell("a", HOURLY, spent=10, known=Known(50, NOON, 10))
    before = fleet.balance("a")
    worker.repeat()

    assert 50 == before == fleet.balance("a")


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

    assert -50 == fleet.balance("a")
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

    assert 90 == fleet.balance("a")


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


def test_workers_hear_for_how_many_urgent_tasks_others_have_room(fleet: Fleet) -> None:
    """What each said last, and not its own."""
    first, second, third = (fleet.worker(name) for name in ("1", "2", "3"))
    assert 0 == first.send(room=2).room
    assert 2 == second.send(room=3).room
    assert 5 == third.send().room
    assert 3 == first.send(room=7).room
    assert 7 == second.send(room=0).room


def test_the_room_of_a_worker_that_is_gone_is_no_room(fleet: Fleet) -> None:
    """From the end of its lease on; it has some again when it is back."""
    gone, other = fleet.worker("gone"), fleet.worker("other")
    gone.send(room=4)
    other.send(room=1)
    fleet.clock.pass_s(LEASE_US / SECOND - 0.001)
    assert 4 == other.send(room=1).room
    fleet.clock.pass_s(0.001)
    assert 0 == other.send(room=1).room
    assert 1 == gone.send(room=4).room
    assert 4 == other.send(room=1).room


def test_a_repeated_report_has_its_room_once(fleet: Fleet) -> None:
    """As all that it tells."""
    first, second = fleet.worker("1"), fleet.worker("2")
    first.send(room=3)
    first.repeat()
    assert 3 == second.send().room
    fleet.lose()
    assert 0 == second.send().room


def test_room_is_made_for_no_more_urgent_tasks_than_wait(fleet: Fleet) -> None:
    """Workers that hear of the same ones would empty many slots for each of them."""
    stuck, *others = (fleet.worker(name) for name in ("stuck", "1", "2", "3"))
    for each in others:
        each.send()
    assert 0 == stuck.send(waiting=4).waiting
    asked = [each.send(places=9).waiting for each in others]
    assert [2, 1, 1] == asked
    assert [0, 0, 0] == [
        each.send(waiting=-had, places=9).waiting for each, had in zip(others, asked, strict=True)
    ]


def test_nobody_makes_room_where_slots_are_free(fleet: Fleet) -> None:
    """Whoever could start them at once gets them; it is promised only once."""
    stuck, able, free = (fleet.worker(name) for name in ("stuck", "able", "free"))
    free.send(waiting=-1)
    stuck.send(waiting=1)
    assert 0 == able.send(places=1).waiting
    stuck.send(waiting=2)
    assert 1 == able.send(places=1).waiting
    assert 0 == fleet.worker("late").send(places=1).waiting


def test_nobody_makes_room_who_cannot(fleet: Fleet) -> None:
    """The next one is asked for the rest."""
    stuck, first, second = (fleet.worker(name) for name in ("stuck", "first", "second"))
    stuck.send(waiting=3)
    assert 0 == first.send().waiting
    assert 1 == first.send(places=1).waiting
    assert 1 == second.send(places=5).waiting


def test_what_waits_on_a_worker_that_is_gone_does_not_wait(fleet: Fleet) -> None:
    """From when on it should have told again: nobody is to leave for it."""
    stuck, able = fleet.worker("stuck"), fleet.worker("able")
    able.send()
    stuck.send(waiting=1)
    fleet.clock.pass_s((NEXT_US - 1) / SECOND)
    assert 1 == able.send(places=1).waiting
    able.send()
    fleet.clock.pass_s(1 / SECOND)
    assert 0 == able.send(places=1).waiting
    stuck.send(waiting=1)
    assert 1 == able.send(places=1).waiting


def test_room_on_a_worker_that_is_gone_is_none(fleet: Fleet) -> None:
    """From the end of its lease on."""
    stuck, gone, other = (fleet.worker(name) for name in ("stuck", "gone", "other"))
    stuck.send(waiting=1)
    assert 1 == gone.send(places=1).waiting
    assert 0 == other.send(places=1).waiting
    fleet.clock.pass_s(LEASE_US / SECOND - 0.001)
    stuck.send(waiting=1)
    assert 0 == other.send(places=1).waiting
    fleet.clock.pass_s(0.001)
    assert 1 == other.send(places=1).waiting
    fleet.clock.pass_s(LEASE_US / SECOND)
    assert 0 == gone.send(places=1).waiting


def test_a_repeated_report_has_its_urgent_tasks_once(fleet: Fleet) -> None:
    """Whoever heard no answer makes no room, and is asked again."""
    stuck, able = fleet.worker("stuck"), fleet.worker("able")
    able.send()
    stuck.send(waiting=2)
    stuck.repeat()
    assert 2 == able.send(places=3).waiting
    assert 2 == able.repeat().waiting
    assert 0 == able.overtaken().waiting
    fleet.lose()
    assert 0 == able.send(places=3).waiting
