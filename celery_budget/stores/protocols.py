"""What a ledger can do, whatever it is made of; `tests/contracts` holds every one to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from celery_budget.core.account import Account
from celery_budget.core.exchange import Answer, Report
from celery_budget.core.lesson import Lesson
from celery_budget.core.season import Rows
from celery_budget.core.sketch import Profile
from celery_budget.core.tally import Recent, Tally
from celery_budget.policy.live import Live


class Ledger(Protocol):
    """The accounts of a fleet and who holds how much of each.

    It has the only clock that counts. Calls may block for as long as its connection's time-outs
    allow, so a worker's main loop makes none.
    """

    def exchange(self, report: Report) -> Answer:
        """Take note of what a worker has spent and holds, and give it what it may have.

        A report of the same number as the worker's last one is a repeated one, within an hour.
        All of it or nothing: an error means that it may or may not have happened, and that the
        same report may be sent again.

        Raises:
            LedgerUnavailable: it cannot be reached, or did not answer in time.
        """
        ...

    def accounts(self, names: Sequence[str] | None = None, most: int = 1_000) -> dict[str, Account]:
        """Look accounts up as they are now, changing nothing.

        Args:
            names: Which; None: those that will be remembered longest.
            most: No more than so many.

        Raises:
            LedgerUnavailable: it cannot be reached, or did not answer in time.
        """
        ...

    def live(self) -> Live:
        """Read what operators have changed; its version is also in every answer.

        Raises:
            LedgerUnavailable: it cannot be reached, or did not answer in time.
        """
        ...

    def change(self, live: Live, instead_of: int) -> Live | None:
        """Put another change in the place of one.

        Args:
            live: Of version 0 it is new, and gets a version: the ledger's clock, and always more
                than the one before. Of another version it is one that this ledger has lost.
            instead_of: Version of the one that it was made from.

        Returns:
            As it holds now; None when somebody else has changed something meanwhile.

        Raises:
            LedgerUnavailable: it cannot be reached, or did not answer in time.
        """
        ...


class ProfileStore(Protocol):
    """What the workers of a fleet have learned of task types.

    Calls may block for as long as its connection's time-outs allow, so a worker's main loop makes
    none.
    """

    def learn(self, lesson: Lesson) -> dict[str, Profile]:
        """Add what a worker has seen, and give it all that is known of the tasks it names.

        A lesson whose number is not above that of the worker's last one was heard before, within
        an hour, and adds nothing. All of it or nothing: an error means that it may or may not have
        happened, and that the same lesson may be given again.

        Raises:
            LedgerUnavailable: it cannot be reached, or did not answer in time.
        """
        ...

    def profiles(self, names: Sequence[str] | None = None, most: int = 1_000) -> dict[str, Profile]:
        """Look profiles up, changing nothing.

        Args:
            names: Of which tasks; None: those that were learned of last, to the day.
            most: No more than so many.

        Raises:
            LedgerUnavailable: it cannot be reached, or did not answer in time.
        """
        ...


class ArrivalStore(Protocol):
    """What the workers of a fleet have counted of arrivals.

    Calls may block for as long as its connection's time-outs allow, so a worker's main loop makes
    none. A week is kept until 8 weeks after something of it was counted last.
    """

    def count(self, tally: Tally) -> dict[str, Recent]:
        """Add what a worker has counted, and give it what all have counted of late, by band.

        A tally whose number is not above that of the worker's last one was heard before, within
        an hour, and adds nothing. All of it or nothing: an error means that it may or may not have
        happened, and that the same tally may be given again.

        Raises:
            LedgerUnavailable: it cannot be reached, or did not answer in time.
        """
        ...

    def weeks(self, band: str, newest: int) -> dict[int, Rows]:
        """Look up what was counted of a band, by number of the week.

        Args:
            band: Its name.
            newest: Number of the last week to look at; as many as a season looks back come before.

        Raises:
            LedgerUnavailable: it cannot be reached, or did not answer in time.
        """
        ...


class Stores(NamedTuple):
    """What a fleet keeps in its ledger, in one place.

    Attributes:
        ledger: Its accounts.
        profiles: What its tasks use.
        arrivals: What came when.
    """

    ledger: Ledger
    profiles: ProfileStore
    arrivals: ArrivalStore
