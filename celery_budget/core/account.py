"""One account of the ledger: what it has, and who holds how much of it.

An account is a scope and a resource, for example `tenant:acme usd`. It is a window budget, which
fills again with time and may go below zero, or a capacity, of which a part is held while something
runs. What happens to it is in `accounting.py`.

All amounts are integers (units of `units.py`) and all times microseconds of the ledger's clock,
none beyond `MOST`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from celery_budget.core.standing import Standing

#: Most units of anything, and the latest time: the integers that a double holds exactly.
MOST = 2**53 - 1

#: Behind every need, whatever its rank, come wishes to have something at hand.
AHEAD = 1_000_000


class AccountRule(NamedTuple):
    """How much an account has, and when it has it again.

    Attributes:
        limit: Units a window, or units held at once; > 0, and with `burst` at most `MOST`.
        window: Length, microseconds; 0 for a capacity and for a calendar window.
        burst: Units that may be saved up: all that there can be at once, > 0, of a window that
            fills steadily; what may be carried over into a window that turns; 0 for a capacity.
        turns: The whole limit comes when a window begins, instead of steadily.
        number: Of the calendar window that the caller believes to be in, counted from any
            fixed one; 0 unless it is a calendar window.
        begins: When that window began; 0 unless it is a calendar window.
        version: Of the policy that says so; of two rules the later one holds.

    Two calendar windows in a row have numbers in a row.
    """

    limit: int
    window: int = 0
    burst: int = 0
    turns: bool = False
    number: int = 0
    begins: int = 0
    version: int = 0

    @property
    def is_capacity(self) -> bool:
        """Whether it is held and given back, instead of spent."""
        return self.window == 0 and not self.turns

    @property
    def is_calendar(self) -> bool:
        """Whether only callers know when its windows begin."""
        return self.window == 0 and self.turns

    @property
    def fresh(self) -> int:
        """Units that there are when nobody has used any, without what a window carried over."""
        return self.limit if self.turns else self.full

    @property
    def full(self) -> int:
        """Most units that nobody holds."""
        if self.is_capacity:
            return self.limit
        return self.limit + self.burst if self.turns else self.burst


class Known(NamedTuple):
    """A window budget as a worker last heard of it.

    Attributes:
        balance: Units that nobody held, after what it was granted then.
        at: When, microseconds of the ledger's clock.
        out: What this worker held then, the grant included.
    """

    balance: int
    at: int
    out: int


class Want(NamedTuple):
    """What a worker asks of one account for one band.

    Attributes:
        rank: Of the band; `AHEAD` more when it is only to have something at hand.
        units: In all; >= 1.
        least: Fewest units that are of any use; 1 <= least <= units.
        since: Since when the oldest ticket behind it waits.
        floor: Units that must be left for more urgent bands.
    """

    rank: int
    units: int
    least: int
    since: int
    floor: int = 0


@dataclass(slots=True)
class Holder:
    """One worker's part in an account.

    Attributes:
        out: Units granted to it and neither spent nor given back, as far as it told.
        idle: Those of them that it had no use for when it told.
        until: When its lease ends.
        wants: What it asked for and did not get.
        asked_until: Until when that counts.
    """

    out: int = 0
    idle: int = 0
    until: int = 0
    wants: tuple[Want, ...] = ()
    asked_until: int = 0


@dataclass(slots=True)
class Account:
    """The state of one account.

    Attributes:
        rule: By which it is kept.
        balance: Units that nobody holds; below zero: debt.
        at: Until when it has been filled, for windows that fill steadily.
        number: Of the latest window that it was filled for, for those that turn.
        cut: Units of this window that had been spent when its limit was lowered below them; they
            are no debt, and raising the limit brings them back first.
        spent: Units spent since it was opened, or since this number had reached `MOST`.
        holders: By worker; whoever reported last is last.
        standings: Of a capacity, by worker, where there is something to tell; see `recall.py`.
    """

    rule: AccountRule
    balance: int
    at: int
    number: int
    cut: int = 0
    spent: int = 0
    holders: dict[str, Holder] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)

    @property
    def leased(self) -> int:
        """Units in the hands of workers."""
        return sum(holder.out for holder in self.holders.values())
