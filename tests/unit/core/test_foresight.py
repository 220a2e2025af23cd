"""Reserves that follow a forecast: how many, how far ahead, and what they leave to others."""

from __future__ import annotations

import pytest

from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.foresight import LEAST_LEAD_S, LENGTHS
from celery_budget.core.season import BIN_S, SEEN, WEEK, Row, Rows, begin_of
from celery_budget.core.tally import Recent
from celery_budget.policy.load import load
from celery_budget.policy.model import Band
from celery_budget.policy.preemption import Method
from tests.unit.core.worker import run, start, ticket

WEEK_NUMBER = 2_800
#: A spike begins here each week.
SPIKE = WEEK_NUMBER * WEEK + 36
AT = begin_of(SPIKE)

CRITICAL = Band("critical", 0, preempts=True, reserve_most=6)
OPTIONAL = Band("optional", 1)


def week(load_: float) -> Rows:
    """Let so many slots be in use on average in the bin of the spike, and none in others."""
    arrivals = int(BIN_S * load_)
    return {
        "pay": Row(arrivals * 1_000_000, [0] * (SPIKE % WEEK) + [arrivals]),
        SEEN: Row(0, [1] * WEEK),
    }


def informed(
    dispatcher: Dispatcher,
    load_: float = 3.0,
    *,
    crew: dict[str, int] | None = None,
    now: float = AT - 3_600,
    band: str = "critical",
) -> None:
    """Let a worker know what the weeks before have brought."""
    forecast = dispatcher.forecast
    known = {number: week(load_) for number in (WEEK_NUMBER - 2, WEEK_NUMBER - 1)}
    forecast.remember({band: known}, WEEK_NUMBER)
    tally = forecast.tally("w", dispatcher.slots, now, [band])
    assert tally is not None
    crew = {"w": dispatcher.slots} if crew is None else crew
    forecast.heard(tally, {band: Recent(crew, tally.bin, {SEEN: Row(0, [1])})})


def worker(*bands: Band, slots: int = 10) -> Dispatcher:
    """Make one of some bands."""
    return Dispatcher(bands or (CRITICAL, OPTIONAL), slots)


def test_slots_are_kept_before_a_spike_and_given_up_after_it() -> None:
    """A reserve that comes with the spike comes too late, and one that stays is idle."""
    made = worker()
    informed(made)
    kept = []
    for now in (AT - LEAST_LEAD_S - 1, AT - LEAST_LEAD_S + 1, AT + BIN_S - 1, AT + BIN_S + 1):
        made.foresee("w", now)
        kept.append(made.reserve("critical"))

    assert [0, 6, 6, 0] == kept


def test_a_change_is_told_once() -> None:
    """So that the worker looks again what may start, and writes it to its log."""
    made = worker()
    informed(made)

    assert [False, True, False] == [made.foresee("w", now) for now in (AT - 999, AT, AT + 1)]


def test_long_tasks_below_are_looked_ahead_over() -> None:
    """Their slots are free when they have ended, and not before."""
    made = worker()
    informed(made)
    held = ticket("optional")
    begun = AT - 2_000
    made.offer(held, begun)
    start(made, begun)
    made.ended(held, begun + 200)
    before = made.foresee("w", AT - LENGTHS * 200 - 5)
    then = made.foresee("w", AT - LENGTHS * 200 + 5)

    assert (False, True) == (before, then)


def test_what_runs_is_looked_ahead_over_although_others_were_short_of_late() -> None:
    """A long report runs among many letters."""
    made = worker()
    informed(made)
    begun = AT - 2_000
    for length_s, task in ((200, "report"), (1, "letter"), (1, "letter"), (1, "letter")):
        held = ticket("optional", task=task)
        made.offer(held, begun)
        start(made, begun)
        begun += length_s
        made.ended(held, begun)
        begun += 100
    idle = made.foresee("w", AT - LENGTHS * 200 + 5)
    made.offer(ticket("optional", task="report"), AT - 500)
    start(made, AT - 500)

    assert (False, True) == (idle, made.foresee("w", AT - LENGTHS * 200 + 5))


def test_nobody_looks_further_than_a_quarter_of_an_hour() -> None:
    """Slots kept for hours would cost more than the spike does."""
    made = worker()
    informed(made)
    held = ticket("optional")
    made.offer(held, AT - 90_000)
    start(made, AT - 90_000)
    made.ended(held, AT - 4_000)

    assert not made.foresee("w", AT - BIN_S - 5)
    assert made.foresee("w", AT - BIN_S + 5)


def test_the_fleet_shares_what_it_keeps() -> None:
    """Each worker with all of it would keep several times what is needed."""
    kept = {}
    crew = {"a": 10, "b": 5, "w": 10}
    for name, slots in crew.items():
        made = worker(slots=slots)
        informed(made, 6.0, crew=crew)
        made.foresee(name, AT)
        kept[name] = made.reserve("critical")

    assert 11 == sum(kept.values())
    assert kept["b"] < kept["a"]


@pytest.mark.parametrize(
    ("reserve", "most", "kept"), [(0, 4, 4), (2, 4, 4), (2, 2, 2), (0, 0, 0), (5, 9, 8)]
)
def test_the_policy_bounds_what_is_kept(reserve: int, most: int, kept: int) -> None:
    """Its operator knows what the lesser bands can spare."""
    band = Band("critical", 0, preempts=True, reserve=reserve, reserve_most=most)
    made = worker(band, OPTIONAL)
    informed(made, 4.0)
    before = made.reserve("critical")
    made.foresee("w", AT)

    assert (reserve, max(reserve, min(kept, most))) == (before, made.reserve("critical"))


def test_one_slot_stays_shared_and_other_reserves_stay_whole() -> None:
    """What is kept in any case comes first."""
    other = Band("important", 1, reserve=2)
    made = worker(CRITICAL, other, Band("optional", 2), slots=6)
    informed(made, 9.0)
    made.foresee("w", AT)

    assert (3, 2) == (made.reserve("critical"), made.reserve("important"))
    assert not made.capped
    made.resize(3)
    assert (0, 2) == (made.reserve("critical"), made.reserve("important"))


def test_what_is_kept_is_not_used_by_others_and_what_frees_itself_stays_free() -> None:
    """That is what it is for."""
    made = worker(slots=8)
    tickets = [ticket("optional") for _ in range(12)]
    started = [each.ticket for each in run(made, *tickets, now=AT - 100)]  # type: ignore[union-attr]
    full = made.running("optional")
    informed(made, now=AT - 100)
    made.foresee("w", AT)
    for each in started[:7]:
        made.ended(each, AT + 1)
        made.decide(AT + 1)

    assert 8 == full
    assert 2 == made.running("optional")
    assert 6 == made.free


def test_what_is_kept_is_lent_to_what_gives_way() -> None:
    """As a reserve that is always there."""
    made = Dispatcher([CRITICAL, OPTIONAL], 8, ways=frozenset({Method.CHECKPOINT}))
    informed(made)
    made.foresee("w", AT)
    tickets = [ticket("optional") for _ in range(8)]
    for each in tickets:
        each.methods = (Method.CHECKPOINT,)
    run(made, *tickets, now=AT)

    assert 6 == made.reserve("critical")
    assert 8 == made.running("optional")


def test_a_worker_that_gets_no_messages_of_the_band_keeps_none_for_it() -> None:
    """Its slots would wait for what never comes."""
    made = worker()
    informed(made)
    made.forecast.tally("w", 10, AT - 100, [])
    answered = made.forecast.tally("w", 10, AT - 100, [])

    assert answered is None
    assert not made.foresee("w", AT)


def test_another_policy_holds_at_once() -> None:
    """An operator lowers the most, or takes it back."""
    bands = {"critical": {"preempts": True, "reserve_most": 6}, "optional": {}}
    made = Dispatcher(load({"bands": bands, "default_band": "optional"}).bands, 10)
    informed(made)
    made.foresee("w", AT)
    kept = [made.reserve("critical")]
    for urgent in ({"reserve_most": 2}, {}):
        policy = load({"bands": {"critical": urgent, "optional": {}}, "default_band": "optional"})
        made.amend(policy, (), AT)
        kept.append(made.reserve("critical"))

    assert [6, 2, 0] == kept
    assert not made.forecast.seasons


def test_only_what_ends_in_such_a_band_is_counted() -> None:
    """Others cost nothing."""
    made = worker(CRITICAL, OPTIONAL)
    for band in ("critical", "critical", "optional"):
        held = ticket(band, published=AT - 1)
        made.offer(held, AT)
        start(made, AT)
        made.ended(held, AT + 2, ran=band != "optional")
    never = ticket("critical")
    made.offer(never, AT)
    start(made, AT)
    made.ended(never, AT + 2, ran=False)
    tally = made.forecast.tally("w", 10, AT + 5, ["critical"])
    assert tally is not None

    assert [(SEEN, 1, 0), ("task", 2, 4_000_000)] == [
        entry[1:2] + entry[3:] for entry in tally.entries
    ]
