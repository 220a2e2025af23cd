"""What every ledger promises of the changes that operators make."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_budget.policy.budget import Scope
from celery_budget.policy.live import Live, Pause
from tests.contracts.fleet import NOON, Fleet

PAUSE = Pause(Scope.TASK, "reports.*", until=1.5, by="ada@host", reason='"no" - ünï')


def test_in_the_beginning_nothing_was_changed(fleet: Fleet) -> None:
    """Workers go by their own policy then."""
    assert Live() == fleet.ledger.live()
    assert 0 == fleet.worker("w").send().version


def test_a_change_is_read_as_it_was_made_and_told_in_every_answer(fleet: Fleet) -> None:
    """Its version is the time of the ledger, which is the only clock."""
    made = Live(base="f", policy='{"a": 1}', pauses=(PAUSE,), by="ada", reason="ü")
    changed = fleet.ledger.change(made, 0)

    assert replace(made, version=NOON) == changed == fleet.ledger.live()
    assert NOON == fleet.worker("w").send().version


def test_who_has_not_seen_the_last_change_makes_none(fleet: Fleet) -> None:
    """Two operators at once must not undo each other."""
    first = fleet.ledger.change(Live(policy="1"), 0)
    assert first is not None

    assert fleet.ledger.change(Live(policy="2"), 0) is None
    assert "1" == fleet.ledger.live().policy
    second = fleet.ledger.change(Live(policy="2"), first.version)
    assert second is not None
    assert second.version == first.version + 1  # the clock stands still


def test_a_ledger_that_was_lost_takes_the_change_back_as_it_was(fleet: Fleet) -> None:
    """From the first worker that asks; the others are told the same."""
    changed = fleet.ledger.change(Live(pauses=(PAUSE,)), 0)
    assert changed is not None
    fleet.lose()
    fleet.clock.pass_s(60)

    assert changed == fleet.ledger.change(changed, 0)
    assert fleet.ledger.change(changed, 0) is None
    assert changed == fleet.ledger.live()


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["new", "stale", "again", "lose"]), st.integers(-9, 9)),
        max_size=12,
    )
)
def test_versions_only_grow_and_all_ledgers_agree(
    memory_fleet: Fleet, redis_fleet: Fleet, steps: list[tuple[str, int]]
) -> None:
    """Whatever is tried in whatever order, with a clock that goes back."""
    fleets = (memory_fleet, redis_fleet)
    for fleet in fleets:
        fleet.lose()
    known: list[Live] = []
    for kind, seconds in steps:
        memory_fleet.clock.pass_s(seconds)  # the fixtures share one clock
        if kind == "lose":
            for fleet in fleets:
                fleet.lose()
            continue
        current = memory_fleet.ledger.live()
        live, instead_of = Live(reason=str(seconds)), current.version
        if kind == "stale":
            instead_of += 1
        elif kind == "again" and known:
            live = known[-1]
        results = [fleet.ledger.change(live, instead_of) for fleet in fleets]

        assert results[0] == results[1]
        assert memory_fleet.ledger.live() == redis_fleet.ledger.live()
        if results[0] is not None:
            known.append(results[0])
            assert kind == "again" or results[0].version > current.version
