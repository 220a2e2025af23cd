"""What admission says of a ticket, by allowances that the test fills itself."""

from __future__ import annotations

import pytest

from celery_budget.core.account import AccountRule
from celery_budget.core.admission import Group
from celery_budget.core.allowance import Allowance
from celery_budget.core.exchange import Granted
from celery_budget.policy.budget import Action, BudgetRule, Scope, Window
from celery_budget.policy.model import OnLoss

DAY = Window(86_400_000_000, turns=True)


def allowance(
    *actions: tuple[float, Action], name: str = "fleet usd", limit: int = 100, free: int = 0
) -> Allowance:
    """Make an allowance of a budget for a day."""
    path = f"budgets.{name}"
    steps = actions or ((1.0, Action.HOLD),)
    budget = BudgetRule(path, Scope.FLEET, "", "*", "usd", limit, DAY, actions=steps)
    made = Allowance(name, budget, AccountRule(limit, DAY.length_us, 0, turns=True))
    made.free = free
    return made


def group(*allowances: Allowance, rank: int = 0, excused: frozenset[str] = frozenset()) -> Group:
    """Make a group that draws on them."""
    return Group(rank, allowances, OnLoss.LOCAL, excused)


def test_what_is_covered_may_start() -> None:
    """Nothing else is asked."""
    verdict = group(allowance(free=10)).judge((10,))

    assert (None, None, False) == verdict


def test_what_lacks_something_waits_for_that() -> None:
    """The account is named as the reason."""
    full, empty = allowance(name="a", free=10), allowance(name="b", free=9)
    verdict = group(full, empty).judge((10, 10))

    assert (Action.HOLD, empty) == verdict[:2]


@pytest.mark.parametrize("action", [Action.DEGRADE, Action.DEMOTE, Action.SHED])
def test_nothing_happens_before_the_ledger_has_said_that_it_is_used_up(action: Action) -> None:
    """A worker that has just not asked yet must not drop a task."""
    asked = allowance((1.0, action))

    assert Action.HOLD is group(asked).judge((10,)).action
    asked.is_exhausted = True
    if action is Action.DEGRADE:
        assert (None, True) == (group(asked).judge((10,)).action, group(asked).judge((10,))[2])
    else:
        assert action is group(asked).judge((10,)).action


@pytest.mark.parametrize(
    ("level", "action", "is_degraded"),
    [(0.5, None, False), (0.8, None, True), (0.9, Action.DEMOTE, True), (1.0, Action.DEMOTE, True)],
)
def test_steps_begin_at_their_shares(
    level: float, action: Action | None, is_degraded: bool
) -> None:
    """By what the ledger said the account has left."""
    steps = ((0.8, Action.DEGRADE), (0.9, Action.DEMOTE), (1.0, Action.SHED))
    stepped = allowance(*steps, free=10)
    other = allowance((0.1, Action.DEGRADE), name="other", free=10)
    other.heard(Granted(0, 95 if level < 0.8 else 80, 0))
    stepped.heard(Granted(0, round(100 * (1 - level)), 0))
    verdict = group(other, stepped).judge((1, 1))

    assert (action, is_degraded) == (verdict.action, verdict.is_degraded)


@pytest.mark.parametrize("action", [Action.DEGRADE, Action.DEMOTE, Action.SHED])
def test_what_a_worker_holds_of_a_used_up_account_is_used(action: Action) -> None:
    """The account has nothing left because this worker was given the rest of it."""
    last = allowance((1.0, action), free=10)
    last.heard(Granted(10, 0, 0))

    assert (None, None, False) == group(last).judge((10,))
    verdict = group(last).judge((11,))
    assert (verdict.action or Action.DEGRADE, True) == (action, verdict != (None, None, False))


def test_the_graver_of_two_actions_is_taken() -> None:
    """Whoever is dropped need not be demoted first."""
    first, second = allowance((1.0, Action.DEMOTE), name="a"), allowance((1.0, Action.SHED))
    for each in (first, second):
        each.is_exhausted = True
    verdict = group(first, second).judge((1, 1))

    assert (Action.SHED, second) == verdict[:2]


def test_an_excused_lack_does_not_hold_but_others_do() -> None:
    """Who was demoted for one budget has still to keep the others."""
    gone, left = allowance(name="a"), allowance(name="b", free=1)
    demoted = group(gone, left, excused=frozenset({gone.budget.path}))

    assert demoted.judge((1, 1)).action is None
    assert left is demoted.judge((1, 2)).allowance


def test_a_lesser_band_does_not_take_what_a_greater_waits_for() -> None:
    """Small tickets would eat up what a large urgent one is saving for."""
    shared = allowance(free=5)
    group(shared, rank=0).wait(shared, (8,), 1, 0.0)

    assert Action.HOLD is group(shared, rank=1).judge((1,)).action
    assert group(shared, rank=0).judge((1,)).action is None


def test_a_group_that_waits_no_more_leaves_the_line() -> None:
    """Else a group that went would hold up all others."""
    shared = allowance(free=5)
    first, second = group(shared), group(shared)
    first.wait(shared, (8,), 1, 0.0)
    second.wait(shared, (1,), 2, 1.0)
    first.waits_for = None
    waiting = shared.first_waiting()

    assert waiting is not None
    assert second is waiting[3]


def test_what_was_set_aside_is_held_until_it_is_known() -> None:
    """Held is what the ledger must not give to anybody else."""
    spent = allowance(free=30)
    drawing = group(spent)
    drawing.reserve((10,))

    assert (20, 10, 10, 30) == (spent.free, spent.reserved, spent.used, spent.held)


def test_an_overrun_is_debt_here_before_it_is_debt_there() -> None:
    """The next ticket must not start on what has been spent."""
    spent = allowance(free=10)
    drawing = group(spent)
    drawing.reserve((10,))
    drawing.settle((10,), (25,), 0.0)

    assert (-15, 0, 25, 0) == (spent.free, spent.reserved, spent.spent, spent.held)
    assert Action.HOLD is drawing.judge((1,)).action


def test_what_was_not_used_is_free_again() -> None:
    """Without asking the ledger."""
    spent = allowance(free=10)
    drawing = group(spent)
    drawing.reserve((10,))
    drawing.settle((10,), (4,), 0.0)

    assert (6, 4) == (spent.free, spent.spent)
