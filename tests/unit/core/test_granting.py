"""Dividing units among wants: least first by age, then equal parts, then by age again."""

from __future__ import annotations

from math import inf
from random import Random

import pytest

from celery_budget.core.account import MOST, Account, AccountRule, Holder, Want
from celery_budget.core.granting import grant, is_contended, share

LATER = inf


def wants(*asked: tuple[int, int, int]) -> list[Want]:
    """Make wants of units, least and age."""
    return [Want(0, units, least, 1_000 - age) for units, least, age in asked]


@pytest.mark.parametrize(
    ("asked", "left", "shares"),
    [
        (wants((5, 1, 0)), 10, [5]),
        (wants((5, 1, 0)), 3, [3]),
        (wants((5, 1, 0)), 0, [0]),
        (wants((5, 1, 0)), -7, [0]),
        (wants((10, 1, 0), (70, 1, 0), (60, 1, 0)), 100, [10, 45, 45]),
        (wants((10, 1, 0), (10, 1, 9)), 15, [7, 8]),
        (wants((10, 3, 0), (10, 3, 9)), 16, [6, 10]),
        (wants((6, 6, 0), (6, 6, 9)), 11, [0, 6]),
        (wants((1, 1, 0), (9, 9, 9)), 8, [0, 0]),
        (wants((1, 1, 9), (9, 9, 0)), 8, [1, 0]),
        (wants((4, 1, 0), (4, 1, 0), (4, 1, 0)), 2, [1, 1, 0]),
        (wants((MOST, 1, 0), (MOST, 1, 0)), MOST, [MOST // 2, MOST // 2 + 1]),
    ],
)
def test_shares(asked: list[Want], left: int, shares: list[int]) -> None:
    """Each line is a case that somebody may ask about."""
    assert shares == share(asked, left, LATER)


def test_a_floor_is_left() -> None:
    """Of one want, and of all when there is more than the least."""
    asked = [Want(0, 10, 2, 1, 0), Want(0, 10, 2, 2, 5)]

    assert [2, 0] == share(asked, 6, LATER)
    assert [2, 2] == share(asked, 9, LATER)
    assert [4, 4] == share(asked, 13, LATER)


def test_in_a_window_that_turns_only_who_waited_when_it_began_is_saved_up_for() -> None:
    """Nothing comes before the next one."""
    asked = [Want(0, 9, 9, 500), Want(0, 1, 1, 600)]

    assert [0, 1] == share(asked, 8, 400.0)
    assert [0, 0] == share(asked, 8, 501.0)


def test_random_shares_are_neither_too_much_nor_wasted() -> None:
    """Whatever is wanted."""
    random = Random(5)
    for _ in range(2_000):
        asked = []
        for _ in range(random.randrange(1, 6)):
            units = random.randrange(1, 40)
            least = random.choice([1, random.randrange(1, units + 1)])
            asked.append(Want(0, units, least, random.randrange(5), random.choice([0, 0, 6])))
        left = random.randrange(-5, 80)
        shares = share(asked, left, LATER)

        assert sum(shares) <= max(0, left)
        assert all(0 <= part <= want.units for part, want in zip(shares, asked, strict=True))
        assert all(
            part == 0 or want.least <= part for part, want in zip(shares, asked, strict=True)
        )
        oldest = min(asked, key=lambda want: want.since)
        if oldest.least <= left - oldest.floor:
            assert shares[asked.index(oldest)] >= oldest.least
        if sum(want.units for want in asked) <= left - max(want.floor for want in asked):
            assert [want.units for want in asked] == shares


def test_who_holds_and_wants_nothing_is_no_holder() -> None:
    """An account of the whole fleet must not remember each worker there was."""
    account = Account(AccountRule(10), 10, 0, 0, holders={"w": Holder()})

    assert 0 == grant(account, "w", (), 5)
    assert {} == account.holders


def test_others_wants_make_it_contended() -> None:
    """Those of a worker itself do not."""
    wanted = (Want(0, 3, 1, 0),)
    account = Account(AccountRule(10), 0, 0, 0, holders={"w": Holder(wants=wanted)})

    assert not is_contended(account, "w")
    assert is_contended(account, "other")
