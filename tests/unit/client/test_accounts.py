"""What people are told of an account, and how a table shows it."""

from __future__ import annotations

from rich.console import Console

from celery_budget.cli.fleet import tabulate
from celery_budget.client.accounts import describe
from celery_budget.client.fleet import Fleet
from celery_budget.core.account import Account, AccountRule, Holder, Want
from celery_budget.core.accounting import opened

DOLLAR = 1_000_000
DAILY = AccountRule(5 * DOLLAR, 86_400_000_000, turns=True)


def held(rule: AccountRule, balance: int, **holders: Holder) -> Account:
    """Make an account that workers hold some of; their names end in process and start."""
    account = opened(rule, 0)
    account.balance = balance
    account.holders = {f"{name}@h:1:2": holder for name, holder in holders.items()}
    return account


def test_a_window_tells_what_is_spent_leased_and_left() -> None:
    """The three add up to the limit."""
    found = describe("fleet usd", held(DAILY, 2 * DOLLAR, a=Holder(out=DOLLAR, until=9)))

    assert (2 * DOLLAR, DOLLAR, 2 * DOLLAR, 0) == (
        found.used,
        found.leased,
        found.free,
        found.debt,
    )
    assert ("usd", "each 1d") == (found.resource, found.window)
    assert {"a@h": DOLLAR} == found.holders


def test_a_debt_is_no_negative_rest() -> None:
    """Whoever reads "free: -2" asks what that means."""
    found = describe("fleet usd", held(DAILY, -2 * DOLLAR))

    assert (7 * DOLLAR, 0, 2 * DOLLAR) == (found.used, found.free, found.debt)


def test_a_capacity_is_used_while_it_is_held() -> None:
    """Nothing of it is ever spent."""
    slots = AccountRule(3 * DOLLAR)
    wants = (Want(0, DOLLAR, DOLLAR, 0),)
    account = held(slots, 0, a=Holder(out=3 * DOLLAR, until=9), b=Holder(until=9, wants=wants))
    found = describe("fleet slots", account)

    assert (3 * DOLLAR, 0, "at once") == (found.used, found.free, found.window)
    assert {"b@h": DOLLAR} == found.waiting


def test_the_table_shows_who_has_it_and_who_waits() -> None:
    """At night that is the first question."""
    slots = AccountRule(3 * DOLLAR)
    wants = (Want(0, DOLLAR, DOLLAR, 0),)
    account = held(slots, 0, a=Holder(out=3 * DOLLAR, until=9), b=Holder(until=9, wants=wants))
    console = Console(width=200)
    with console.capture() as shown:
        console.print(tabulate(Fleet((), {}, {}, {}), [describe("fleet slots", account)]))

    row = next(line for line in shown.get().splitlines() if "fleet slots" in line)
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    assert ["fleet slots", "3 at once", "3", "3", "-", "-", "a@h 3", "b@h 1"] == cells
