"""Reports that no ledger could reckon with are refused before they are sent."""

from __future__ import annotations

import pytest

from celery_budget.core.account import MOST, AccountRule, Known, Want
from celery_budget.core.exchange import MOST_LINES, Line, Report
from celery_budget.core.standing import Standing

CAPACITY = AccountRule(10)
HOURLY = AccountRule(10, 3_600_000_000, 0, turns=True)
STEADY = AccountRule(10, 1_000_000, 1)


@pytest.mark.parametrize(
    "line",
    [
        Line("a", HOURLY._replace(limit=MOST), MOST - 5, 5, 5),
        Line("a", HOURLY._replace(limit=MOST - 9, burst=9)),
        Line("a", CAPACITY, 0, MOST, MOST, (Want(0, MOST, MOST, 0, MOST), Want(MOST, 1, 1, MOST))),
        Line("a", STEADY, known=Known(-MOST, MOST, MOST)),
        Line("a", AccountRule(1, 0, 0, turns=True, number=-3)),
        Line("a", CAPACITY, standing=Standing(((0, MOST),), MOST, ((0, MOST), (MOST, MOST)))),
    ],
)
def test_the_largest_numbers_are_accepted(line: Line) -> None:
    """A limit of nine petabytes is one."""
    assert (line,) == Report("w", MOST, "", MOST, (line,)).lines


@pytest.mark.parametrize(
    "line",
    [
        Line("acc", CAPACITY._replace(limit=0)),
        Line("acc", CAPACITY._replace(limit=MOST + 1)),
        Line("acc", CAPACITY._replace(burst=1)),
        Line("acc", HOURLY._replace(burst=-1)),
        Line("acc", HOURLY._replace(limit=MOST, burst=1)),
        Line("acc", STEADY._replace(burst=0)),
        Line("acc", STEADY._replace(window=-1)),
        Line("acc", HOURLY._replace(begins=MOST + 1)),
        Line("acc", HOURLY._replace(number=-MOST - 1)),
        Line("acc", HOURLY._replace(version=-1)),
        Line("acc", HOURLY, spent=-1),
        Line("acc", HOURLY, spent=MOST, held=1),
        Line("acc", HOURLY, held=-1),
        Line("acc", HOURLY, held=1, idle=2),
        Line("acc", HOURLY, idle=-1),
        Line("acc", CAPACITY, spent=1),
        Line("acc", HOURLY, known=Known(-MOST - 1, 0, 0)),
        Line("acc", HOURLY, known=Known(0, -1, 0)),
        Line("acc", HOURLY, known=Known(0, MOST + 1, 0)),
        Line("acc", HOURLY, known=Known(0, 0, -1)),
        Line("acc", HOURLY, wants=(Want(0, 0, 0, 0),)),
        Line("acc", HOURLY, wants=(Want(0, 1, 2, 0),)),
        Line("acc", HOURLY, wants=(Want(0, MOST + 1, 1, 0),)),
        Line("acc", HOURLY, wants=(Want(-1, 1, 1, 0),)),
        Line("acc", HOURLY, wants=(Want(0, 1, 1, -1),)),
        Line("acc", HOURLY, wants=(Want(0, 1, 1, 0, MOST + 1),)),
        Line("acc", HOURLY, wants=(Want(1, 1, 1, 0), Want(0, 1, 1, 0))),
        Line("acc", HOURLY, wants=(Want(1, 1, 1, 0), Want(1, 1, 1, 0))),
        Line("acc", CAPACITY, standing=Standing(claims=((0, 0),))),
        Line("acc", CAPACITY, standing=Standing(claims=((-1, 1),))),
        Line("acc", CAPACITY, standing=Standing(claims=((1, 1), (0, 1)))),
        Line("acc", CAPACITY, standing=Standing(leaving=-1)),
        Line("acc", CAPACITY, standing=Standing(leaving=MOST + 1)),
        Line("acc", CAPACITY, standing=Standing(loose=((0, MOST + 1),))),
        Line("acc", CAPACITY, standing=Standing(loose=((0, 1), (0, 1)))),
    ],
)
def test_what_makes_no_sense_is_refused(line: Line) -> None:
    """On Redis it would spoil the account, or fail for all others in the report."""
    with pytest.raises(ValueError, match=r"^acc: impossible "):
        Report("w", 1, "", 0, (line,))


@pytest.mark.parametrize(
    ("number", "next_us", "lines"),
    [
        (0, 0, ()),
        (MOST + 1, 0, ()),
        (1, -1, ()),
        (1, 0, (Line("a", HOURLY), Line("a", HOURLY))),
        (1, 0, tuple(Line(str(place), HOURLY) for place in range(MOST_LINES + 1))),
    ],
)
def test_a_report_has_its_bounds(number: int, next_us: int, lines: tuple[Line, ...]) -> None:
    """They bound the time for which it keeps the ledger busy."""
    with pytest.raises(ValueError, match=r"report|impossible number"):
        Report("w", number, "", next_us, lines)


@pytest.mark.parametrize("room", [-1, 1_000_001])
def test_impossible_room_is_refused(room: int) -> None:
    """It would be added to what others have."""
    with pytest.raises(ValueError, match="impossible room"):
        Report("w", 1, "", 0, (), room)


@pytest.mark.parametrize(("waiting", "places"), [(-1_000_001, 0), (1_000_001, 0), (0, -1)])
def test_impossible_urgency_is_refused(waiting: int, places: int) -> None:
    """Others would make room for it."""
    with pytest.raises(ValueError, match="impossible waiting"):
        Report("w", 1, "", 0, (), 0, waiting, places)
