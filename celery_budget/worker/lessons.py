"""Lessons: when a worker tells the fleet what its tasks have used, and what becomes of the answer.

They go with the reports of `leases.py`, in its thread. Nothing waits for them: one that is not
heard is given again, and what was seen meanwhile comes with the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery.utils.log import get_logger

from celery_budget.core.lesson import Lesson
from celery_budget.core.sketch import Profile
from celery_budget.errors import LedgerUnavailable

if TYPE_CHECKING:
    from celery_budget.core.accounts import Accounts
    from celery_budget.core.admission import Group
    from celery_budget.stores.protocols import ProfileStore

logger = get_logger(__name__)

#: Between two lessons, unless something is asked: what a task type uses changes with a deploy, and
#: what a worker that is killed has seen since is lost.
LESSON_S = 5.0

#: What became of a lesson.
Heard = dict[str, Profile] | LedgerUnavailable


class Lessons:
    """What one worker and the fleet tell each other of task types.

    Args:
        store: Only the thread of the leases calls it.
        accounts: Of the worker; they know what its tasks used.
        worker: A name that no other process has, nor had.
    """

    def __init__(self, store: ProfileStore, accounts: Accounts, worker: str) -> None:
        self._store = store
        self._accounts = accounts
        self._worker = worker
        self._last = -LESSON_S
        self._told_unheard = False

    def due(self, now: float) -> Lesson | None:
        """Give the lesson that should go with a report, if one should.

        Args:
            now: Seconds, monotonic.
        """
        profiles = self._accounts.profiles
        if not profiles.is_asking and now < self._last + LESSON_S:
            return None
        self._last = now
        return profiles.lesson(self._worker)

    def last(self) -> Lesson | None:
        """Give what is left to tell when the worker ends, as far as one lesson holds it."""
        return self._accounts.profiles.lesson(self._worker)

    def carry(self, lesson: Lesson) -> Heard:
        """Wait for the store; in a thread of its own."""
        try:
            return self._store.learn(lesson)
        except LedgerUnavailable as error:
            return error

    def take_in(self, heard: Heard, *, is_ledger_there: bool) -> list[Group]:
        """Use what the fleet knows, and give the groups that may go on.

        Args:
            heard: What became of the lesson.
            is_ledger_there: Whether the report that it went with was answered.
        """
        if not isinstance(heard, LedgerUnavailable):
            self._told_unheard = False
            return self._accounts.learned(heard)
        # A ledger that is away is told of already.
        if is_ledger_there and not self._told_unheard:
            self._told_unheard = True
            logger.warning("%s. Estimates go by what this worker has seen itself.", heard)
        return []
