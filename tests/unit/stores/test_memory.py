"""What is special about the ledger in memory: that it forgets, and that threads may share it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from celery_budget.core.account import AccountRule, Want
from celery_budget.core.exchange import Line, Report
from celery_budget.stores.memory import REPEATED_US, SET_BACK_US, MemoryLedger

SECOND = 1_000_000
CAPACITY = AccountRule(1_000)


def test_accounts_and_workers_that_are_gone_take_no_memory() -> None:
    """A test of a day of a million tenants must end."""
    now = 0
    ledger = MemoryLedger(lambda: now, 5 * SECOND)
    want = (Want(0, 1, 1, 0),)
    for number in range(1_000):
        line = Line(f"tenant:{number}", CAPACITY, wants=want)
        ledger.exchange(Report(f"w{number}", 1, "", 0, (line,)))
    many = len(ledger._kept), len(ledger._numbers)
    now += REPEATED_US + SET_BACK_US
    for number in range(1_000):
        ledger.exchange(Report("w", number + 1, "", 0, (Line("a", CAPACITY, wants=want),)))

    assert (1_000, 1_000) == many
    assert (1, 1) == (len(ledger._kept), len(ledger._numbers))


def test_an_account_has_one_entry_however_often_it_is_used() -> None:
    """Not one for each exchange."""
    ledger = MemoryLedger(lambda: 0, 5 * SECOND)
    for number in range(100):
        ledger.exchange(
            Report("w", number + 1, "", 0, (Line("a", CAPACITY, wants=(Want(0, 1, 1, 0),)),))
        )

    assert 1 == len(ledger._kept)


def test_threads_may_share_it() -> None:
    """Each worker under test has its own."""
    ledger = MemoryLedger(lambda: 0, 5 * SECOND)

    def take(worker: int) -> int:
        line = Line("a", CAPACITY, wants=(Want(0, 9, 9, 0),))
        (granted,) = ledger.exchange(Report(f"w{worker}", 1, "", 0, (line,))).lines
        return granted.units

    with ThreadPoolExecutor(8) as threads:
        units = sum(threads.map(take, range(200)))

    assert 999 == units
