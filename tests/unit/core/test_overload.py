"""When too much waits, and when it may be less."""

from __future__ import annotations

import pytest

from celery_budget.core.overload import LEAST_S, MOST_S, Overload


def followed(*depths: int, most: int = 100, sent: int = 0) -> Overload:
    """Look once a second, and send so many after the last look."""
    overload = Overload(most)
    for second, depth in enumerate(depths):
        overload.look(depth, float(second))
    for _ in range(sent):
        overload.sent()
    return overload


def test_before_the_first_look_there_is_room() -> None:
    """Nobody knows better."""
    assert 0.0 == Overload(1).retry_after_s


@pytest.mark.parametrize(("depth", "is_full"), [(99, False), (100, True), (5_000, True)])
def test_there_is_room_for_as_many_as_may_wait(depth: int, is_full: bool) -> None:
    """And for none more."""
    assert is_full == bool(followed(depth).retry_after_s)


def test_what_it_sends_itself_counts_at_once() -> None:
    """Before the next look."""
    assert not followed(50, sent=49).retry_after_s
    assert followed(50, sent=50).retry_after_s


def test_it_takes_as_long_as_the_queues_take_to_empty() -> None:
    """Within bounds; ten a second here."""
    falling = [1_000 - 10 * second for second in range(60)]
    last = falling[-1]

    assert pytest.approx(10.1, rel=0.01) == followed(*falling, most=last - 100).retry_after_s
    assert LEAST_S == followed(*falling, most=last).retry_after_s
    slow = [1_000 - second for second in range(60)]
    assert MOST_S == followed(*slow).retry_after_s
    assert MOST_S == followed(*reversed(falling)).retry_after_s


def test_what_it_sent_is_not_taken_for_slow_workers() -> None:
    """They took ten a second, and it sent as many."""
    overload = Overload(100)
    for second in range(30):
        overload.look(150, float(second))
        for _ in range(10):
            overload.sent()
    assert pytest.approx(61 / 10, rel=0.02) == overload.retry_after_s
