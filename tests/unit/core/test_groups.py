"""Which accounts a ticket draws on, by the policy's scopes and patterns."""

from __future__ import annotations

from typing import Any

import pytest

from celery_budget.core.accounts import Accounts
from celery_budget.core.calendar import CalendarWindow
from celery_budget.core.groups import FORGOTTEN_S
from celery_budget.core.ticket import Ticket
from celery_budget.policy.budget import Scope
from celery_budget.policy.load import load
from tests.unit.core.worker import NOW, ticket

PLACE = {Scope.WORKER: "one@host", Scope.NODE: "host", Scope.REGION: ""}


def accounts(budgets: dict[str, Any], **policy: Any) -> Accounts:
    """Make the books of a worker."""
    return Accounts(
        load({"default_band": "a", "bands": {"a": {}, "b": {}}, "budgets": budgets, **policy}),
        PLACE,
        lambda _window, _now: CalendarWindow(0, 0, 0),
        lease_s=5,
    )


def names(books: Accounts, held: Ticket) -> list[str]:
    """Name the accounts of a ticket, in the order in which they are asked for."""
    group = books.groups.of(held, NOW)
    return [] if group is None else [allowance.name for allowance in group.allowances]


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        ("fleet", "fleet usd"),
        ("node:*", "node:host usd"),
        ("worker:*", "worker:one@host usd"),
        ("band:*", "band:a usd"),
        ("queue:*", "queue:celery usd"),
        ("task:*", "task:shop.pay usd"),
        ("tenant:*", "tenant:acme usd"),
        ("header:x-team:*", "header:x-team:blue usd"),
    ],
)
def test_each_scope_has_its_account(scope: str, name: str) -> None:
    """The names are what operators see in the ledger."""
    held = ticket("a", task="shop.pay", tenant="acme")
    held.queue, held.values = "celery", ("blue",)

    assert [name] == names(accounts({scope: {"usd": "1/1d"}}), held)


@pytest.mark.parametrize("scope", ["tenant:*", "queue:*", "region:*", "header:x-team:*"])
def test_what_belongs_to_nobody_is_in_nobodys_budget(scope: str) -> None:
    """All tasks without a tenant are not one tenant."""
    held = ticket("a")
    held.values = ("",)
    books = accounts({scope: {"usd": "1/1d"}})

    assert [] == names(books, held)
    assert {} == books.allowances


def test_several_scopes_hold_at_once_in_one_order() -> None:
    """All workers ask in the same order, or two would wait for each other."""
    books = accounts({"tenant:*": {"usd": "1/1d"}, "fleet": {"slots": 3, "usd": "9/1d"}})

    assert ["fleet slots", "fleet usd", "tenant:acme usd"] == names(
        books, ticket("a", tenant="acme")
    )


def test_the_most_specific_pattern_decides_alone() -> None:
    """An exact name may be given more than the rest."""
    books = accounts({"tenant:*": {"usd": "1/1d"}, "tenant:acme": {"usd": "50/1d"}})
    names(books, ticket("a", tenant="acme"))

    assert 50_000_000 == books.allowances["tenant:acme usd"].rule.limit


def test_tickets_that_draw_on_the_same_share_a_group() -> None:
    """Groups are what is blocked and woken: few of them make that cheap."""
    books = accounts({"fleet": {"usd": "1/1d"}})
    one, two = (ticket("a", task=str(n), tenant=str(n)) for n in range(2))

    assert books.groups.of(one, NOW) is books.groups.of(two, NOW)
    assert books.groups.of(one, NOW) is not books.groups.of(ticket("b"), NOW)


def test_groups_without_tickets_are_forgotten() -> None:
    """Tenants are without number."""
    books = accounts({"tenant:*": {"usd": "1/1d"}})
    for number in range(3_000):
        books.groups.of(ticket("a", tenant=f"tenant-{number}"), NOW + number / 1_000)
    at = NOW + FORGOTTEN_S + 1
    kept = books.groups.of(ticket("a", tenant="tenant-0"), at)
    alone = [each for _ in range(20) for each in books.groups.sweep(at + 2)]

    assert 1 == len(books.groups)
    assert 2_999 == len(alone)
    assert kept is books.groups.of(ticket("a", tenant="tenant-0"), at)


def test_a_ticket_that_was_demoted_is_excused_from_one_budget_only() -> None:
    """It waits in the lower band without the money of the first, and no budget else."""
    books = accounts({"tenant:*": {"usd": "1/1d"}, "fleet": {"usd": "9/1d"}})
    held = ticket("b", tenant="acme")
    held.excused = frozenset({'budgets."tenant:*".usd'})
    group = books.groups.of(held, NOW)

    assert group is not None
    assert (False, True) == group.excused
