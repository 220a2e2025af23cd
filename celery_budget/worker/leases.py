"""Leases: carries the worker's reports to the ledger and the answers back, off the main loop.

The loop's side writes a report when it is time and takes in the answer; a thread of its own does
nothing but wait for the ledger. One report is under way at a time. One that failed is sent again
as it is, so that nothing it tells counts twice. Now and then a lesson, what task types have used,
goes with a report.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from random import Random
from threading import Event, Thread
from time import monotonic, time
from typing import TYPE_CHECKING, NamedTuple

from celery.utils.log import get_logger

from celery_budget.core.exchange import Answer, Report
from celery_budget.core.lesson import Lesson
from celery_budget.core.reporting import IDLE_S, LATE_US, LEASE_S, LEAST_S, TICK_S, pause_s
from celery_budget.errors import LedgerUnavailable
from celery_budget.policy.live import Live
from celery_budget.worker.forecasts import Asked, Forecasts, Told
from celery_budget.worker.lessons import Heard, Lessons

if TYPE_CHECKING:
    from celery_budget.core.accounts import Accounts
    from celery_budget.core.admission import Group
    from celery_budget.core.dispatcher import Dispatcher
    from celery_budget.stores.protocols import Stores
    from celery_budget.worker.changes import Change, Changes

logger = get_logger(__name__)

#: A worker stops using what it holds this much before its lease ends: clocks drift, and the
#: ledger's lease began when the report arrived, ours when it was sent, which is earlier.
MARGIN_S = 0.25

#: Open bands wait so long for an answer, and not until the lease ends: whoever calls a band open
#: would rather spend too much than wait. 20 times what an exchange takes (docs/explanation/
#: budgets.md), and as short as two ticks.
HEARD_S = 0.1

#: How often leases are renewed while the loop waits for running tasks to end.
RENEWED_S = LEASE_S / 4

#: How long a worker that ends waits for the ledger.
CLOSED_S = 2.0

#: After a failure: wait so long, doubled each time up to the most, and shuffled, so that a fleet
#: does not come back in one moment.
RETRY_S, MOST_RETRY_S = 0.1, 1.0

_MICROS = 1_000_000


#: What comes out of the thread: an answer, or why there is none, or nothing but a change.
_Result = Answer | LedgerUnavailable | None


@dataclass(frozen=True, slots=True)
class _Sent:
    report: Report
    at: float
    lesson: Lesson | None = None
    tally: Asked | None = None


class _Done(NamedTuple):
    sent: _Sent | None
    result: _Result
    change: Change | None
    heard: Heard | None
    told: Told | None = None


class Leases:
    """The exchange of one worker with the ledger.

    Args:
        stores: Only this one's thread calls them.
        accounts: The worker's books.
        worker: A name that no other process has, nor had.
        dispatcher: Gives that of the worker.
        resumed: Called in the loop with groups that may go on.
        changes: Reads what operators have changed.
        changed: Called in the loop with what was read.
        forecasts: Has tallies for the fleet; None where nothing is forecast.
    """

    def __init__(
        self,
        stores: Stores,
        accounts: Accounts,
        worker: str,
        dispatcher: Callable[[], Dispatcher],
        resumed: Callable[[list[Group]], None],
        changes: Changes,
        changed: Callable[[Change], None],
        forecasts: Forecasts | None = None,
    ) -> None:
        self._forecasts = forecasts
        self._changes = changes
        self._changed = changed
        self._live = Live()
        self._is_refreshed = False
        self._unread, self._looked = -1, 0
        self._ledger = stores.ledger
        self._lessons = Lessons(stores.profiles, accounts, worker)
        self._accounts = accounts
        self._worker = worker
        self._dispatcher = dispatcher
        self._resumed = resumed
        self._wake: Callable[[], None] | None = None
        self._number = 0
        self._epoch = ""
        self._tasks: SimpleQueue[_Sent | None] = SimpleQueue()
        self._done: deque[_Done] = deque()
        self._idle = Event()
        self._thread: Thread | None = None
        self._draining: AbstractContextManager[object] | None = None
        self._is_under_way = False
        self._failed: _Sent | None = None
        self._retry_s = RETRY_S
        self._random = Random(worker)  # noqa: S311 - spreads retries, keeps no secret
        self._last = -IDLE_S
        self._asked = monotonic()
        self._trusted_until = monotonic()
        self._offset_us: int | None = None
        self._told_lost = False
        #: Of the fleet, as last heard.
        self.workers = 1

    def open(self, wake: Callable[[], None]) -> None:
        """Begin, or go on after a reconnect.

        Args:
            wake: Makes the loop call `poll`; from any thread.
        """
        self._wake = wake
        self._draining = None
        if self._thread is None:
            self._trusted_until = monotonic() + LEASE_S
            # The thread begins by looking for changes: they hold from the first report on.
            self._is_under_way = True
            self._asked = monotonic()
            self._thread = Thread(target=self._carry, name="celery-budget leases", daemon=True)
            self._thread.start()

    @property
    def has_answers(self) -> bool:
        """Whether `poll` has answers to take in."""
        return bool(self._done)

    @property
    def is_waiting(self) -> bool:
        """Whether `poll` has something to do before the time it told."""
        is_urgent = self._accounts.is_urgent or self._is_refreshed or self._dispatcher().has_news
        return bool(self._done) or (is_urgent and not self._is_under_way)

    def refresh(self) -> None:
        """Ask the ledger at once, because somebody says that operators have changed something."""
        self._is_refreshed = True

    def drain(self, lock: AbstractContextManager[object]) -> None:
        """Go on without the loop, which waits for running tasks to end.

        What they hold must stay theirs, and what the ended ones used must be told.

        Args:
            lock: Held by whoever touches the accounts from now on.
        """
        self._draining = lock

    def close(self) -> None:
        """Tell what is left to tell, and end for good."""
        if self._thread is None:
            return
        self._draining = None
        begun = monotonic()
        self._idle.wait(CLOSED_S)
        self._take_in()
        if not self._is_under_way:
            self._send(monotonic(), is_last=True)
        self._tasks.put(None)
        self._thread.join(timeout=max(0.0, begun + CLOSED_S - monotonic()))
        is_told = bool(self._done) and isinstance(self._done[-1].result, Answer)
        if self._thread.is_alive() or not is_told:
            logger.warning(
                "The ledger has not taken this worker's last report: what it spent last is missing "
                "there, and what it held is free at the end of its lease."
            )
        self._thread = None

    def _carry(self) -> None:
        """Wait for the ledger, in a thread of its own."""
        self._tell(_Done(None, None, self._look(0), None))
        while True:
            try:
                sent = self._tasks.get(timeout=RENEWED_S)
            except Empty:
                draining = self._draining
                if draining is not None:
                    with draining:
                        self.poll()
                continue
            if sent is None:
                return
            # First: what is known of a task type should be here before its first grant is.
            heard = None if sent.lesson is None else self._lessons.carry(sent.lesson)
            told = None
            if sent.tally is not None and self._forecasts is not None:
                told = self._forecasts.carry(sent.tally)
            result: _Result
            change = None
            try:
                result = self._ledger.exchange(sent.report)
            except LedgerUnavailable as error:
                result = error
            else:
                version = result.version
                if version != self._live.version and (version, self._looked) != (
                    self._unread,
                    int(monotonic()),
                ):
                    change = self._look(version)
            self._tell(_Done(sent, result, change, heard, told))

    def _tell(self, done: _Done) -> None:
        """Hand something to the loop."""
        self._done.append(done)
        self._idle.set()
        if self._wake is not None:
            self._wake()

    def _look(self, version: int) -> Change | None:
        """Look for what operators have changed; in the thread.

        A ledger that knows less than this worker has lost it, and is told.

        Args:
            version: Of what the ledger has.
        """
        try:
            if version < self._live.version:
                self._ledger.change(self._live, version)
                return None
            live = self._ledger.live()
        except LedgerUnavailable as error:
            if version != self._unread:
                logger.warning("What operators have changed could not be read: %s.", error)
            # Once a second is often enough to ask again.
            self._unread, self._looked = version, int(monotonic())
            return None
        if live.version <= self._live.version:
            return None
        self._live = live
        return self._changes.read(live)

    def poll(self) -> float:
        """Take in answers and send what is due; tell in how many seconds to ask again."""
        self._take_in()
        now = monotonic()
        if self._accounts.is_trusted and now >= self._trusted_until:
            # Before the ledger gives to others what this worker holds.
            self._resumed(self._accounts.lose())
        if not self._accounts.is_trusted:
            self._resumed(self._accounts.refill(self._ledger_us(now)))
        if self._is_under_way:
            if self._accounts.is_heard and now >= self._asked + HEARD_S:
                self._resumed(self._accounts.miss())
            return TICK_S
        due = self._last + self._pace(now)
        if due > now:
            return due - now
        self._send(now)
        return TICK_S

    def _take_in(self) -> None:
        while self._done:
            sent, result, change, heard, told = self._done.popleft()
            self._is_under_way = False
            if sent is not None and isinstance(result, Answer):
                # First: it may tell that the fleet's profiles were lost.
                self._heard(sent, result)
            elif sent is not None and isinstance(result, LedgerUnavailable):
                self._missed(sent, result)
            if change is not None:
                self._changed(change)
            is_there = isinstance(result, Answer)
            if heard is not None:
                self._resumed(self._lessons.take_in(heard, is_ledger_there=is_there))
            if told is not None and self._forecasts is not None:
                self._forecasts.take_in(told, is_ledger_there=is_there)

    def _pace(self, now: float) -> float:
        """Tell how long after the last report the next one is due, seconds."""
        if self._failed is not None:
            return self._retry_s
        if self._is_refreshed:
            return LEAST_S
        since_s, ledger_us = now - self._last, self._ledger_us(now)
        return pause_s(self._accounts, self._dispatcher(), since_s, ledger_us, time())

    def _send(self, now: float, *, is_last: bool = False) -> None:
        sent = self._failed
        if sent is None:
            dispatcher = self._dispatcher()
            unix = time()
            # Nothing starts any more, and nobody is asked to leave, while what runs ends.
            is_ending = is_last or self._draining is not None
            standings = {} if is_ending else dispatcher.standings(unix)
            lines = self._accounts.lines(unix, self._ledger_us(now), dispatcher.slots, standings)
            self._number += 1
            urgency = (0, 0, 0) if is_last else dispatcher.urgency(time())
            report = Report(self._worker, self._number, self._epoch, LATE_US, lines, *urgency)
            lesson = self._lessons.last() if is_last else self._lessons.due(now)
            tally = None
            if self._forecasts is not None:
                tally = self._forecasts.due(now, is_last=is_last)
            sent = _Sent(report, now, lesson, tally)
        else:
            sent = _Sent(sent.report, now)
        self._failed = None
        self._is_refreshed = False
        self._is_under_way = True
        self._idle.clear()
        self._last = self._asked = now
        self._tasks.put(sent)

    def _heard(self, sent: _Sent, answer: Answer) -> None:
        self._offset_us = answer.now - int(sent.at * _MICROS)
        self._epoch = answer.epoch
        self.workers = answer.workers
        dispatcher = self._dispatcher()
        dispatcher.room_elsewhere = answer.room
        dispatcher.expect(answer.waiting, answer.workers, time())
        self._trusted_until = sent.at + LEASE_S - MARGIN_S
        self._retry_s = RETRY_S
        if self._told_lost:
            self._told_lost = False
            logger.info("The ledger answers again: what was spent meanwhile has been told.")
        self._resumed(self._accounts.heard(sent.report.lines, answer, time()))

    def _missed(self, sent: _Sent, error: LedgerUnavailable) -> None:
        self._failed = sent
        self._dispatcher().room_elsewhere = 0
        self._resumed(self._accounts.miss())
        most = min(MOST_RETRY_S, 2 * self._retry_s)
        self._retry_s = most * self._random.uniform(0.5, 1.0)
        if not self._told_lost:
            self._told_lost = True
            logger.warning(
                "%s. Tasks go on as the policy says (on_ledger_loss), and what they spend is "
                "told when the ledger is back.",
                error,
            )

    def _ledger_us(self, now: float) -> int:
        """Tell what the ledger's clock shows about now."""
        if self._offset_us is None:
            return int(time() * _MICROS)
        return int(now * _MICROS) + self._offset_us
