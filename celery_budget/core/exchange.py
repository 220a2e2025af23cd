"""What a worker and the ledger tell each other, once a tick: values only.

One exchange carries all that a worker has to say of all accounts. It can be repeated: a report
whose answer was lost is sent again under its number, and does not count twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from celery_budget.core.account import MOST, AccountRule, Known, Want
from celery_budget.core.standing import NONE, Standing, problem_of

#: Bounds the time for which one exchange keeps the ledger busy. On Redis an account costs 30 us,
#: and 3 us more for each other worker that holds some of it: some 4 ms in all, of the 5 that others
#: may have to wait (tests/benchmarks/tenants.py, two shared cores, 2026-11; 256 took 7.5 ms).
MOST_LINES = 128


#: Urgent tickets for which a worker may say that it has room, or that wait there; far more than any
#: has slots.
MOST_ROOM = 1_000_000


class Line(NamedTuple):
    """One account in a report.

    Attributes:
        account: Its name, e.g. `"tenant:acme usd"`.
        rule: By which the worker's policy has it kept.
        spent: Units spent since the last report that was answered; 0 for a capacity.
        held: Units the worker has, those of running tasks among them.
        idle: Those of them for which it has no use.
        wants: What it needs more, by rank, most urgent first.
        known: What it last heard of the account, for a ledger that has lost it; None otherwise.
        standing: What of a capacity urgent tickets claim here, and lesser ones could give back.
    """

    account: str
    rule: AccountRule
    spent: int = 0
    held: int = 0
    idle: int = 0
    wants: tuple[Want, ...] = ()
    known: Known | None = None
    standing: Standing = NONE


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker tells the ledger.

    Raises:
        ValueError: An account is there twice, there are too many, or a number is not what it may
            be: beyond `MOST` a double, which is what Lua reckons with, is not exact.

    Attributes:
        worker: A name that no other process has, nor had.
        number: 1 for its first report; the same again when it is repeated, unchanged.
        epoch: Of the ledger that answered last; "" before.
        next_us: Within what time it will report again, microseconds. Its wants count as long, or
            as long after the time that it was told they may be met, but not longer than its lease.
        lines: At most `MOST_LINES`, each account once.
        room: How many urgent tickets could start there that it does not hold yet.
        waiting: How many urgent tickets wait there that have no slot on its way; below zero: so
            many more could start at once, or it makes room for so many of others.
        places: For how many more of others it could make room.
    """

    worker: str
    number: int
    epoch: str
    next_us: int
    lines: tuple[Line, ...] = ()
    room: int = 0
    waiting: int = 0
    places: int = 0

    def __post_init__(self) -> None:
        if len(self.lines) > MOST_LINES:
            raise ValueError(f"a report has at most {MOST_LINES} lines, not {len(self.lines)}")
        if len({line.account for line in self.lines}) < len(self.lines):
            raise ValueError("a report names each account once")
        if not (0 < self.number <= MOST and 0 <= self.next_us <= MOST):
            raise ValueError(f"impossible number {self.number} or next_us {self.next_us}")
        if not 0 <= self.room <= MOST_ROOM:
            raise ValueError(f"impossible room {self.room}")
        if not (abs(self.waiting) <= MOST_ROOM and 0 <= self.places <= MOST_ROOM):
            raise ValueError(f"impossible waiting {self.waiting} or places {self.places}")
        for line in self.lines:
            problem = _problem(line)
            if problem:
                raise ValueError(f"{line.account}: impossible {problem}")


def _problem(line: Line) -> str:
    """Name what no account can reckon with; "" when all is well."""
    is_sum = 0 <= line.idle <= line.held <= MOST - line.spent and line.spent >= 0
    if not is_sum or (line.rule.is_capacity and line.spent):
        return f"spent {line.spent}, held {line.held} or idle {line.idle}"
    known = line.known
    if known and not (abs(known.balance) <= MOST and 0 <= known.at <= MOST >= known.out >= 0):
        return str(known)
    problem = _rule_problem(line.rule) or _wants_problem(line.wants)
    return problem or problem_of(line.standing, MOST)


def _rule_problem(rule: AccountRule) -> str:
    limit, window, burst, turns, number, begins, version = rule
    has_burst = burst == 0 if rule.is_capacity else burst >= (0 if turns else 1)
    if not (has_burst and 0 < limit <= MOST - burst):
        return f"limit or burst in {rule}"
    times = (window, begins, version, abs(number))
    return f"time or number in {rule}" if min(times) < 0 or max(times) > MOST else ""


def _wants_problem(wants: tuple[Want, ...]) -> str:
    for want in wants:
        others = (want.rank, want.since, want.floor)
        if not (0 < want.least <= want.units <= MOST and min(others) >= 0 and max(others) <= MOST):
            return str(want)
    if any(early.rank >= late.rank for early, late in pairwise(wants)):
        return "order of wants: most urgent first, each rank once"
    return ""


class Granted(NamedTuple):
    """The answer to one line.

    Attributes:
        units: Granted now.
        balance: What the account has left; below zero: debt.
        free_at: When the least of the most urgent want that was not met can be there,
            microseconds; 0 when it was met or nobody can tell.
        is_contended: Whether other workers want some of it as well.
        others: Units that other workers hold.
        owed: Of a capacity: units that this worker should take back from running tickets, for more
            urgent ones, beyond what is leaving already.
        owed_to: Rank of these more urgent ones, here or at other workers; 0 when nothing is owed.
    """

    units: int
    balance: int
    free_at: int
    is_contended: bool = False
    others: int = 0
    owed: int = 0
    owed_to: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the ledger tells a worker.

    Attributes:
        epoch: Another one than before: the ledger has lost what it knew.
        now: The ledger's clock, microseconds.
        until: When the worker's lease ends, by that clock.
        version: Of what operators changed at run time; 0: nothing.
        lines: In the order of the report's; none for a report older than the worker's last, which
            has been overtaken and changes nothing.
        workers: How many have reported within a lease, this one among them.
        room: How many urgent tickets could start at the others that they do not hold yet.
        waiting: For how many urgent tickets that wait at the others this one is to make room.
            Nobody else was told of the same ones. Below zero: so many of its own have a slot at
            another one, or will have.
    """

    epoch: str
    now: int
    until: int
    version: int
    lines: tuple[Granted, ...]
    workers: int = 1
    room: int = 0
    waiting: int = 0
