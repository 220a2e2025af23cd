"""The ledger in memory: the reference that the others are compared with, and for tests.

One process only. Nothing here decides; `core/accounting.py`, `granting.py` and `recall.py` do.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from heapq import nlargest
from threading import Lock

from celery_budget.core import accounting, granting, recall
from celery_budget.core.account import Account
from celery_budget.core.exchange import Answer, Granted, Line, Report
from celery_budget.core.guests import part
from celery_budget.policy.live import Live

#: What may be forgotten is kept for this long, for a clock that is set back by less.
SET_BACK_US = 600_000_000

#: So long after a worker's last report it may still be repeated.
REPEATED_US = 3_600_000_000


@dataclass(slots=True)
class _Kept:
    account: Account
    forget: int


@dataclass(slots=True)
class _Exchange:
    """What the lines of one report have in common."""

    report: Report
    now: int
    until: int
    epoch: str
    is_repeated: bool
    is_relearning: bool
    has_other_epoch: bool


class MemoryLedger:
    """Accounts in a dict, each exchange under a lock.

    Args:
        clock: Gives microseconds; the ledger's only clock.
        lease_us: For how long a worker keeps what it was granted without an exchange.
    """

    def __init__(self, clock: Callable[[], int], lease_us: int) -> None:
        self._clock = clock
        self._lease_us = lease_us
        self._lock = Lock()
        self.clear()

    def clear(self) -> None:
        """Lose everything, as a server does that keeps nothing on disk."""
        self._epoch = ""
        self._was_lost = False
        self._live = Live()
        #: The number of each worker's last report and when it came, in the order of these times.
        self._numbers: OrderedDict[str, tuple[int, int]] = OrderedDict()
        #: When each worker reported, within a lease.
        self._alive: dict[str, int] = {}
        #: For how many urgent tickets each of them has room.
        self._rooms: dict[str, int] = {}
        #: How many wait at each of them, less those that could start there or were promised room;
        #: and until when that counts. Nobody is to leave for a worker that was killed.
        self._waiting: dict[str, tuple[int, int]] = {}
        #: In the order in which they were last looked at.
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def exchange(self, report: Report) -> Answer:
        """Settle a report; see `Ledger.exchange`."""
        with self._lock:
            now = self._clock()
            until = now + self._lease_us
            self._epoch = self._epoch or str(now)
            last, _ = self._numbers.get(report.worker, (0, 0))
            if report.number < last:
                return Answer(self._epoch, now, until, self._live.version, ())
            self._numbers[report.worker] = report.number, now
            self._numbers.move_to_end(report.worker)
            # Others that knew the ledger before have yet to tell what they hold. What they hold
            # longer than a lease after it was lost, they hold no more.
            has_other_epoch = report.epoch not in {"", self._epoch}
            self._was_lost = self._was_lost or has_other_epoch
            created = int(self._epoch)
            is_relearning = self._was_lost and created <= now < created + self._lease_us
            is_repeated = report.number == last
            common = _Exchange(
                report, now, until, self._epoch, is_repeated, is_relearning, has_other_epoch
            )
            lines = tuple(self._settle(line, common) for line in report.lines)
            self._forget(now, 2 * len(report.lines) + 1)
            self._alive[report.worker] = now
            self._rooms[report.worker] = report.room
            for worker, seen in list(self._alive.items()):
                if seen <= now - self._lease_us:
                    del self._alive[worker]
                    del self._rooms[worker]
            version, workers = self._live.version, len(self._alive)
            room = sum(self._rooms.values()) - report.room
            waiting = self._make_room(report, workers, now)
            return Answer(self._epoch, now, until, version, lines, workers, room, waiting)

    def _make_room(self, report: Report, workers: int, now: int) -> int:
        """Tell for how many urgent tickets of others a worker is to make room; see `part`."""
        self._note_waiting(report, report.waiting, now)
        self._waiting = {name: each for name, each in self._waiting.items() if each[1] > now}
        left = sum(count for count, _ in self._waiting.values())
        waiting = part(left, report.waiting, report.places, workers)
        if waiting > 0:
            self._note_waiting(report, report.waiting - waiting, now)
        return waiting

    def _note_waiting(self, report: Report, count: int, now: int) -> None:
        counts_us = report.next_us if count > 0 else self._lease_us
        self._waiting[report.worker] = count, now + counts_us

    def _settle(self, line: Line, common: _Exchange) -> Granted:
        report, now = common.report, common.now
        kept = self._kept.get(line.account)
        if kept is None or kept.forget <= now:
            account = accounting.opened(line.rule, now)
        else:
            account = kept.account
        accounting.advance(account, line.rule, now)
        accounting.amend(account, line.rule, now)
        known = line.known
        is_unknown = not common.is_repeated and report.worker not in account.holders
        # Of an account that was not lost, others have reported since.
        if (
            known is not None
            and is_unknown
            and (common.has_other_epoch or known.at < int(common.epoch))
        ):
            accounting.relearn(account, report.worker, known, now)
        spent = 0 if common.is_repeated else line.spent
        accounting.report(account, report.worker, spent, line.held, line.idle, common.until)
        wants = line.wants
        if common.is_relearning and account.rule.is_capacity:
            wants = ()
        units = granting.grant(account, report.worker, wants, now + report.next_us)
        free_at = 0
        holder = account.holders.get(report.worker)
        if holder is not None and holder.wants:
            want = holder.wants[0]
            free_at = accounting.free_at(account, want.least + want.floor, now)
            holder.asked_until = max(holder.asked_until, free_at + report.next_us)
        owed = recall.Owed()
        if account.rule.is_capacity:
            recall.note(account, report.worker, line.standing)
            owed = recall.call(account, report.worker)
        forget = accounting.forgotten_at(account, now)
        if forget > now:
            self._kept[line.account] = _Kept(account, forget)
        else:
            self._kept.pop(line.account, None)
        is_contended = granting.is_contended(account, report.worker)
        others = granting.others(account, report.worker, now)
        return Granted(units, account.balance, free_at, is_contended, others, *owed)

    def _forget(self, now: int, most: int) -> None:
        """Drop what nobody needs; each time more is looked at than can have come."""
        for _ in range(min(most, len(self._kept))):
            name, kept = self._kept.popitem(last=False)
            if kept.forget > now - SET_BACK_US:
                self._kept[name] = kept
        while next(iter(self._numbers.values()))[1] <= now - REPEATED_US:
            self._numbers.popitem(last=False)

    def accounts(self, names: Sequence[str] | None = None, most: int = 1_000) -> dict[str, Account]:
        """Look accounts up; see `Ledger.accounts`."""
        with self._lock:
            now = self._clock()
            if names is None:
                names = nlargest(most, self._kept, key=lambda name: self._kept[name].forget)
            found: dict[str, Account] = {}
            for name in names[:most]:
                kept = self._kept.get(name)
                if kept is not None and kept.forget > now:
                    account = found[name] = deepcopy(kept.account)
                    accounting.advance(account, account.rule, now)
            return found

    def live(self) -> Live:
        """Read what operators have changed; see `Ledger.live`."""
        with self._lock:
            return self._live

    def change(self, live: Live, instead_of: int) -> Live | None:
        """Put another change in the place of one; see `Ledger.change`."""
        with self._lock:
            current = self._live.version
            if current != instead_of:
                return None
            version = live.version or max(self._clock(), current + 1)
            self._live = replace(live, version=version)
            return self._live
