"""In which order a worker asks the lanes."""

from __future__ import annotations

from math import inf

from celery_budget.core.turns import HALF_S, MOST_TENANTS, Turns

QUEUES = ["a", "b", "c"]


def run(turns: Turns, queue: str, tenant: str, now: float, seconds: float = 1.0) -> None:
    """Let a task come from a queue."""
    turns.came(queue, now)
    turns.used(tenant, seconds, now, queue)


def test_who_has_waited_for_longest_goes_first() -> None:
    """With nothing known, and among equals, each gets its turn."""
    turns = Turns()
    for queue in QUEUES:
        turns.came(queue, 0.0)
    turns.came("a", 0.0)

    assert ["b", "c", "a"] == turns.order(QUEUES, 0.0)


def test_a_lane_that_one_tenant_fills_goes_after_the_others() -> None:
    """Its tasks use what the others leave: those go as soon as they come."""
    turns = Turns()
    for second in range(20):
        run(turns, "a" if second % 2 else "b", "elephant", float(second))
    run(turns, "c", "mouse", 20.0)

    assert "c" == turns.order(QUEUES, 20.0)[0]


def test_the_latest_message_tells_whose_a_lane_is() -> None:
    """Behind a backlog there may be others."""
    turns = Turns()
    for second in range(4):
        run(turns, "a", "elephant", float(second))
        run(turns, "b", "rabbit", float(second), 0.5)
    run(turns, "a", "mouse", 4.0, 0.1)

    assert ["a", "b"] == turns.order(["b", "a"], 4.0)


def test_what_was_used_long_ago_does_not_count() -> None:
    """Yesterday's backlog is no reason to wait today."""
    turns = Turns()
    run(turns, "a", "elephant", 0.0, 100.0)
    run(turns, "b", "mouse", 20 * HALF_S, 0.1)

    assert ["a", "b"] == turns.order(["b", "a"], 20 * HALF_S)


def test_a_weight_counts() -> None:
    """Who pays for more may use more."""
    turns = Turns({"vip": 4.0, "mouse": 1.0}.__getitem__)
    run(turns, "a", "vip", 0.0, 2.0)
    run(turns, "b", "mouse", 0.0, 1.0)

    assert ["a", "b"] == turns.order(["b", "a"], 0.0)


def test_a_task_that_had_waited_elsewhere_says_nothing_of_a_lane() -> None:
    """It came long ago, with an ETA."""
    turns = Turns()
    run(turns, "a", "mouse", 0.0, 0.1)
    turns.used("elephant", 100.0, 0.0)
    run(turns, "b", "rabbit", 0.0, 1.0)

    assert ["a", "b"] == turns.order(["b", "a"], 0.0)


def test_memory_is_bounded() -> None:
    """Tenants come and go without number."""
    turns = Turns()
    for number in range(2 * MOST_TENANTS):
        run(turns, "a", f"t{number}", float(number))

    assert len(turns._used) == MOST_TENANTS


def test_a_lane_that_is_asked_no_more_is_forgotten() -> None:
    """When it is asked again it is a new one."""
    turns = Turns()
    run(turns, "a", "elephant", 1.0)
    run(turns, "b", "mouse", 1.0, 0.1)
    before = turns.since("a")
    turns.forget("a")

    assert 1.0 == before
    assert -inf == turns.since("a")
    assert ["a", "b"] == turns.order(["b", "a"], 1.0)
