"""Workers that say what a test tells them to say, and the ledger they say it to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from celery_budget.core.account import AccountRule, Known, Want
from celery_budget.core.exchange import Answer, Granted, Line, Report
from celery_budget.core.standing import NONE, Standing
from celery_budget.stores.protocols import Ledger

MS = 1_000
SECOND = 1_000_000
DAY = 86_400 * SECOND
LEASE_US = 5 * SECOND
#: In the middle of an hour, a day and a month; divisible by a second.
NOON = 1_699_963_200 * SECOND + DAY // 2 + 600 * SECOND

CAPACITY = AccountRule(10)
#: 10 units a second, 100 saved up.
STEADY = AccountRule(10, SECOND, 100)
#: 100 units an hour.
HOURLY = AccountRule(100, 3_600 * SECOND, 0, turns=True)
TODAY = NOON // DAY * DAY


def daily(limit: int, *, version: int = 0, begins: int = TODAY) -> AccountRule:
    """Make the rule of a calendar window."""
    return AccountRule(limit, 0, 0, True, begins // DAY, begins, version)


#: Within what time workers say that they report again, microseconds.
NEXT_US = 200 * MS


class Clock:
    """A clock that the test sets, microseconds."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now

    def pass_s(self, seconds: float) -> None:
        """Go on, or back."""
        self.now += round(seconds * SECOND)


@dataclass
class Fleet:
    """A ledger and what surrounds it.

    Attributes:
        ledger: Under test.
        clock: Its clock.
        lose: Makes it lose everything.
    """

    ledger: Ledger
    clock: Clock
    lose: Callable[[], object]

    def balance(self, account: str) -> int:
        """Look up what an account has now."""
        return self.ledger.accounts([account])[account].balance

    def worker(self, name: str) -> Worker:
        """Add a worker."""
        return Worker(self, name)


class Worker:
    """Speaks for one worker; what it says need not make sense."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet = fleet
        self.name = name
        self.epoch = ""
        self.report = Report(name, 1, "", NEXT_US)
        self._number = 0

    def tell(
        self,
        account: str,
        rule: AccountRule,
        *wants: Want,
        spent: int = 0,
        held: int = 0,
        idle: int = 0,
        known: Known | None = None,
        standing: Standing = NONE,
    ) -> Granted:
        """Report on one account and give the answer to it."""
        line = Line(account, rule, spent, held, idle, wants, known, standing)
        (granted,) = self.send(line).lines
        return granted

    def send(self, *lines: Line, room: int = 0, waiting: int = 0, places: int = 0) -> Answer:
        """Report."""
        self._number += 1
        head = self.name, self._number, self.epoch, NEXT_US
        self.report = Report(*head, lines, room, waiting, places)
        return self.repeat()

    def repeat(self) -> Answer:
        """Send the last report, again if it was sent before."""
        answer = self.fleet.ledger.exchange(self.report)
        self.epoch = answer.epoch
        return answer

    def overtaken(self) -> Answer:
        """Let a copy of the report before the last one arrive."""
        return self.fleet.ledger.exchange(replace(self.report, number=self.report.number - 1))


def want(units: int, least: int = 1, *, rank: int = 0, since: int = NOON, floor: int = 0) -> Want:
    """Want something; the rest as it is for most."""
    return Want(rank, units, least, since, floor)
