"""Who gets how much, on every ledger: ranks, floors, equal parts, age, and whose wants count."""

from __future__ import annotations

from celery_budget.core.account import AHEAD, AccountRule
from celery_budget.core.exchange import Line
from tests.contracts.fleet import (
    CAPACITY,
    HOURLY,
    LEASE_US,
    MS,
    NOON,
    SECOND,
    STEADY,
    Fleet,
    Worker,
    want,
)


def used_up(fleet: Fleet, rule: AccountRule, account: str = "a") -> Worker:
    """Give all there is to one worker."""
    worker = fleet.worker(f"has all of {account}")
    worker.tell(account, rule, want(rule.full))
    return worker


def test_an_urgent_band_comes_first(fleet: Fleet) -> None:
    """What is too little for it is kept for it."""
    holder = used_up(fleet, CAPACITY)
    urgent, lesser = fleet.worker("urgent"), fleet.worker("lesser")
    urgent.tell("a", CAPACITY, want(8, 8, rank=0))
    holder.tell("a", CAPACITY, held=4)

    assert 0 == lesser.tell("a", CAPACITY, want(6, rank=1)).units
    holder.tell("a", CAPACITY)
    assert 2 == lesser.tell("a", CAPACITY, want(6, rank=1)).units
    assert 8 == urgent.tell("a", CAPACITY, want(8, 8, rank=0)).units


def test_every_need_comes_before_having_something_at_hand(fleet: Fleet) -> None:
    """Else an urgent band's stock keeps lesser work waiting."""
    holder = used_up(fleet, CAPACITY)
    lesser = fleet.worker("lesser")
    lesser.tell("a", CAPACITY, want(7, rank=63))
    holder.tell("a", CAPACITY)

    assert 3 == fleet.worker("urgent").tell("a", CAPACITY, want(10, rank=AHEAD)).units


def test_a_worker_may_want_for_several_bands(fleet: Fleet) -> None:
    """In one line."""
    worker = fleet.worker("w")

    granted = worker.tell("a", CAPACITY, want(4, rank=0), want(9, rank=2, floor=1))

    assert 4 + 5 == granted.units


def test_what_is_reserved_for_urgent_bands_is_left(fleet: Fleet) -> None:
    """They need not wait until lesser work is done."""
    lesser, urgent = fleet.worker("lesser"), fleet.worker("urgent")

    assert 7 == lesser.tell("a", CAPACITY, want(10, rank=1, floor=3)).units
    assert 3 == urgent.tell("a", CAPACITY, want(10, rank=0)).units


def test_what_is_reserved_is_left_by_all_together(fleet: Fleet) -> None:
    """Also where there would be enough without it."""
    worker, other = fleet.worker("w"), fleet.worker("other")
    holder = used_up(fleet, CAPACITY)
    other.tell("a", CAPACITY, want(5, rank=1, floor=3))
    holder.tell("a", CAPACITY)

    assert 4 == worker.tell("a", CAPACITY, want(5, rank=1, floor=3)).units


def test_what_is_scarce_is_shared_max_min(fleet: Fleet) -> None:
    """Whoever wants less than an equal part gets it, the others get the same."""
    holder = used_up(fleet, HOURLY)
    wants = {"1": 10, "2": 70, "3": 60}
    workers = {name: fleet.worker(name) for name in wants}
    for name, units in wants.items():
        workers[name].tell("a", HOURLY, want(units))
    holder.tell("a", HOURLY)

    units = [workers[name].tell("a", HOURLY, want(wants[name])).units for name in ("1", "2")]

    assert [10, 45] == units


def test_of_equally_old_wants_one_is_met_whoever_asks(fleet: Fleet) -> None:
    """Or each would let the other go first, whenever it asks, and neither got anything."""
    one, other = fleet.worker("one"), fleet.worker("other")
    holder = used_up(fleet, CAPACITY)
    for worker in (one, other):
        worker.tell("a", CAPACITY, want(10, 10, since=NOON))
    holder.tell("a", CAPACITY)

    got = [worker.tell("a", CAPACITY, want(10, 10, since=NOON)).units for worker in (other, one)]
    assert [0, 10] == got


def test_what_is_too_little_to_share_goes_to_the_oldest(fleet: Fleet) -> None:
    """A part that starts nothing is of no use."""
    holder = used_up(fleet, CAPACITY)
    young, old = fleet.worker("young"), fleet.worker("old")
    young.tell("a", CAPACITY, want(12, 6, since=NOON))
    old.tell("a", CAPACITY, want(12, 6, since=NOON - 1))
    holder.tell("a", CAPACITY, held=2)

    assert 0 == young.tell("a", CAPACITY, want(12, 6, since=NOON)).units
    assert 6 == old.tell("a", CAPACITY, want(12, 6, since=NOON - 1)).units


def test_parts_are_multiples_of_what_is_of_use(fleet: Fleet) -> None:
    """Half a start starts nothing."""
    holder = used_up(fleet, HOURLY)
    workers = [fleet.worker(name) for name in "123"]
    for worker in workers:
        worker.tell("a", HOURLY, want(80, 8))
    holder.tell("a", HOURLY)

    units = [worker.tell("a", HOURLY, want(80, 8)).units for worker in workers]

    assert 32 == units[0]
    assert [0, 0, 0] == [part % 8 for part in units]


def test_little_things_do_not_starve_a_large_one(fleet: Fleet) -> None:
    """What comes is saved up for whoever has waited longest."""
    large, small = fleet.worker("large"), fleet.worker("small")
    used_up(fleet, STEADY)
    granted = 0
    for _ in range(200):
        fleet.clock.pass_s(0.1)
        small.tell("a", STEADY, want(1, since=fleet.clock.now))
        granted += large.tell("a", STEADY, want(90, 90)).units
        if granted:
            break

    assert 90 == granted
    assert fleet.clock.now <= NOON + 9.2 * SECOND


def test_in_a_turning_window_others_may_use_what_is_too_little(fleet: Fleet) -> None:
    """Nothing more comes before the next; but then the large one is first."""
    large, small = fleet.worker("large"), fleet.worker("small")
    fleet.worker("other").tell("a", HOURLY, spent=40)
    rest = [large.tell("a", HOURLY, want(80, 80)).units, small.tell("a", HOURLY, want(50)).units]
    fleet.clock.now = (NOON // (3_600 * SECOND) + 1) * 3_600 * SECOND - SECOND
    large.tell("a", HOURLY, want(80, 80))
    fleet.clock.pass_s(1)
    early = small.tell("a", HOURLY, want(100, since=fleet.clock.now)).units

    assert [0, 50] == rest
    assert 20 == early
    assert 80 == large.tell("a", HOURLY, want(80, 80)).units


def test_who_waited_through_a_turn_is_saved_up_for(fleet: Fleet) -> None:
    """Else a debt at each turn makes it wait for ever."""
    large, small = fleet.worker("large"), fleet.worker("small")
    fleet.worker("other").tell("a", HOURLY, spent=130)
    large.tell("a", HOURLY, want(100, 100))
    fleet.clock.pass_s(3_600)

    assert 0 == large.tell("a", HOURLY, want(100, 100)).units
    assert 0 == small.tell("a", HOURLY, want(1)).units
    fleet.clock.pass_s(3_600)
    assert 100 == large.tell("a", HOURLY, want(100, 100)).units


def test_more_than_there_can_be_is_met_with_all_there_is(fleet: Fleet) -> None:
    """It would block whoever comes behind, for ever."""
    worker = fleet.worker("w")

    assert 10 == worker.tell("a", CAPACITY, want(25, 20)).units
    assert 100 == worker.tell("b", STEADY, want(250, 101)).units


def test_a_floor_that_leaves_nothing_gives_way(fleet: Fleet) -> None:
    """A reserve of the limit may be more than a burst; it must not close the account."""
    worker = fleet.worker("w")

    assert 10 == worker.tell("a", CAPACITY, want(10, 10, floor=5)).units
    assert 40 == worker.tell("b", STEADY, want(100, 40, floor=500)).units


def test_wants_of_a_silent_worker_lapse(fleet: Fleet) -> None:
    """It may have crashed, or need nothing any more."""
    holder = used_up(fleet, CAPACITY)
    silent, other = fleet.worker("silent"), fleet.worker("other")
    silent.tell("a", CAPACITY, want(10, rank=0))
    holder.tell("a", CAPACITY)
    fleet.clock.now += 200 * MS - 1
    early = other.tell("a", CAPACITY, want(10, rank=1)).units
    fleet.clock.now += 1

    assert 0 == early
    assert 10 == other.tell("a", CAPACITY, want(10, rank=1)).units


def test_wants_count_until_the_time_that_was_told(fleet: Fleet) -> None:
    """Whoever comes back then, as it was told, must not find everything taken."""
    used_up(fleet, STEADY)
    patient, other = fleet.worker("patient"), fleet.worker("other")
    free_at = patient.tell("a", STEADY, want(30, 30)).free_at
    fleet.clock.now = free_at

    assert NOON + 3 * SECOND == free_at
    assert 0 == other.tell("a", STEADY, want(30, since=free_at)).units
    assert 30 == patient.tell("a", STEADY, want(30, 30)).units


def test_no_want_counts_longer_than_its_workers_lease(fleet: Fleet) -> None:
    """A dead worker would keep others waiting until a time that was told."""
    used_up(fleet, STEADY)
    fleet.worker("dead").tell("a", STEADY, want(100, 100))
    fleet.clock.now += LEASE_US

    assert 50 == fleet.worker("other").tell("a", STEADY, want(50)).units


def test_a_want_that_is_withdrawn_counts_no_more(fleet: Fleet) -> None:
    """Each report says all that its worker wants of an account."""
    holder = used_up(fleet, CAPACITY)
    worker, other = fleet.worker("w"), fleet.worker("other")
    worker.tell("a", CAPACITY, want(10))
    worker.tell("a", CAPACITY)
    holder.tell("a", CAPACITY)

    assert 10 == other.tell("a", CAPACITY, want(10, rank=1)).units


def test_it_is_told_whether_others_want_some(fleet: Fleet) -> None:
    """Whoever has some gives it back then, instead of using it again."""
    holder = used_up(fleet, CAPACITY)
    alone = holder.tell("a", CAPACITY, want(5), held=10)
    fleet.worker("other").tell("a", CAPACITY, want(1))

    assert not alone.is_contended
    assert holder.tell("a", CAPACITY, held=10).is_contended


def test_each_account_is_shared_by_itself(fleet: Fleet) -> None:
    """Answers come in the order of the lines."""
    answer = fleet.worker("w").send(
        Line("a", CAPACITY, wants=(want(3),)),
        Line("b", CAPACITY),
        Line("c", HOURLY, wants=(want(500),)),
    )

    assert [3, 0, 100] == [granted.units for granted in answer.lines]
