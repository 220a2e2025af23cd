"""A line gives its entries in order and forgets those that were taken out."""

from __future__ import annotations

from random import Random

from celery_budget.core.line import MOST_DEAD, Entry, Line
from tests.unit.core.worker import ticket


def entry(number: int, order: int | None = None) -> Entry:
    """Make an entry with a place in the order."""
    return [order if order is not None else number, 0.0, "task", 0, number, ticket("band")]


def take(line: Line) -> int:
    """Take the head; tell its place in the order."""
    head = line.head()
    head[5] = None
    line.take()
    return head[0]


def test_entries_come_out_in_order_however_they_came_in() -> None:
    """The list for those in order and the heap for the others are one line."""
    rng = Random(1)
    line = Line(None)
    places = [rng.randrange(1_000) for _ in range(500)]
    for number, place in enumerate(places):
        line.add(entry(number, place))

    assert sorted(places) == [take(line) for _ in places]
    assert 0 == line.live


def test_one_who_comes_late_with_an_earlier_place_goes_first() -> None:
    """Also when others have been taken before."""
    line = Line(None)
    for number in range(10):
        line.add(entry(number, 10 + number))
    first = take(line)
    line.add(entry(99, 3))

    assert [10, 3, 11] == [first, take(line), take(line)]


def test_what_was_taken_out_is_passed_over() -> None:
    """It expired, was withdrawn or moved."""
    rng = Random(2)
    line = Line(None)
    entries = [entry(number, rng.randrange(1_000)) for number in range(200)]
    for each in entries:
        line.add(each)
    for each in rng.sample(entries, 150):
        each[5] = None
        line.take()
    left = sorted(each[0] for each in entries if each[5] is not None)

    assert left == [take(line) for _ in left]


def test_what_was_taken_out_takes_no_memory() -> None:
    """A few that wait for months must not keep millions of dead ones."""
    line = Line(None)
    line.add(entry(0))
    for number in range(1, 20_000):
        gone = entry(number, number if number % 2 else -number)
        line.add(gone)
        gone[5] = None
        line.take()

    assert 1 == line.live
    assert len(line._entries) + len(line.early) <= 2 + 2 * MOST_DEAD


def test_a_line_that_is_served_forgets_what_went() -> None:
    """It may never be empty."""
    line = Line(None)
    for number in range(20_000):
        line.add(entry(number))
        if number > 5:
            take(line)

    assert len(line._entries) <= 6 + 2 * MOST_DEAD
