"""What a store can do, whatever it is made of; `tests/contracts` holds every one to it."""

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

#: How long a checkpoint is remembered after it was saved, seconds: a week, so that a task which
#: failed on a Friday can be run again on Monday and go on from there.
KEPT_S = 7 * 86_400


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


class Checkpoint(NamedTuple):
    """Progress of a task, serialized.

    Attributes:
        content_type: Of the body, as kombu's serializers name it.
        encoding: Of the body.
        body: Bytes.
    """

    content_type: str
    encoding: str
    body: bytes


class CheckpointStore(Protocol):
    """The latest checkpoint of each task that has one and has not ended.

    Calls may block for as long as its connection's time-outs allow: tasks make them, and a
    worker's main loop makes none. A checkpoint is kept for `KEPT_S` after it was saved.

    Attributes:
        is_shared: Whether what one process saves can be loaded by another one.
    """

    is_shared: bool

    def save(self, task_id: str, checkpoint: Checkpoint) -> None:
        """Put a checkpoint in the place of the one before.

        Raises:
            StateUnavailable: it cannot be reached, or did not answer in time.
        """
        ...

    def load(self, task_id: str) -> Checkpoint | None:
        """Give the latest checkpoint of a task; None when there is none.

        Raises:
            StateUnavailable: it cannot be reached, or did not answer in time.
        """
        ...

    def forget(self, task_id: str) -> None:
        """Drop the checkpoint of a task, if there is one.

        Raises:
            StateUnavailable: it cannot be reached, or did not answer in time.
        """
        ...


class Stores(NamedTuple):
    """What a fleet remembers, in one place.

    Attributes:
        ledger: Its accounts.
        profiles: What its tasks use.
        arrivals: What came when.
    """

    ledger: Ledger
    profiles: ProfileStore
    arrivals: ArrivalStore
