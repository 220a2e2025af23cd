"""Recall: who is to take back how many units of a capacity from lesser tickets that run.

Units come free when tickets end, and go to the most urgent want then (`granting.py`). An urgent
ticket need not wait for that where lesser ones could leave. `stores/memory.py` calls it,
`stores/redis/lua/recall.lua` mirrors it. Each worker tells what is leaving there already, and what
it was just told to take back counts as leaving until it tells again: so units are called back once,
and what turns out not to come is called back elsewhere. Reasons:
docs/decisions/0028-units-are-called-back.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from celery_budget.core.account import MOST, Account
from celery_budget.core.standing import NONE, Standing


class Owed(NamedTuple):
    """What a worker owes to more urgent tickets than its own.

    Attributes:
        units: That it should take back, beyond what is leaving already.
        rank: Of the most urgent tickets for which it should; only lesser ones may be asked.
    """

    units: int = 0
    rank: int = 0


@dataclass(slots=True)
class _Claim:
    """What is claimed for one rank, and all that is wanted for it."""

    units: int = 0
    least: int = MOST
    floor: int = 0
    wanted: int = 0


@dataclass(slots=True)
class _Part:
    """What one worker's tickets of one rank could give."""

    worker: str
    rank: int
    units: int


def note(account: Account, worker: str, standing: Standing) -> None:
    """Take note of how a worker stands, and forget those who hold and want nothing any more.

    Args:
        account: After this worker was granted what it may have; modified.
        worker: Its name.
        standing: As told.
    """
    standings = {
        name: each
        for name, each in account.standings.items()
        if name != worker and name in account.holders
    }
    if standing != NONE and worker in account.holders:
        standings[worker] = standing
    account.standings = standings


def call(account: Account, worker: str) -> Owed:
    """Tell what a worker owes, and take it for leaving from now on.

    Rank by rank, most urgent first: what is claimed, without what nobody holds or is leaving
    already, is taken from those who could give it. First from the least urgent tickets, of these
    from workers that claim some themselves, where it is sooner there, and then by name: so that
    everybody is told the same, whoever asks first. What is of no use, as even all of it would be
    too little for one ticket, is left where it is.

    Args:
        account: With this worker's standing; modified.
        worker: Its name.
    """
    standings = account.standings
    is_claimed = any(standing.claims for standing in standings.values())
    if not (is_claimed and standings.get(worker, NONE).loose):
        return Owed()
    left = max(account.balance, 0)
    for standing in standings.values():
        left = min(left + standing.leaving, MOST)
    loose = [_Part(name, *part) for name, standing in standings.items() for part in standing.loose]
    loose.sort(key=lambda part: (-part.rank, not standings[part.worker].claims, part.worker))
    for rank, claim in _claims(account):
        usable = [part for part in loose if part.rank > rank]
        there = left
        for part in usable:
            there = min(there + part.units, MOST)
        goal = _whole(claim, there - claim.floor)
        missing = max(goal + claim.floor - left, 0) if goal else 0
        mine = 0
        for part in usable:
            units = min(part.units, missing)
            part.units -= units
            missing -= units
            left += units
            if part.worker == worker:
                mine += units
        if mine:
            left_here = [part for part in loose if part.worker == worker and part.units]
            standings[worker] = standings[worker]._replace(
                leaving=min(standings[worker].leaving + mine, MOST),
                loose=tuple(sorted((part.rank, part.units) for part in left_here)),
            )
            return Owed(mine, rank)
        left = max(left - claim.wanted, 0)
    return Owed()


def _claims(account: Account) -> Iterator[tuple[int, _Claim]]:
    """Add up what is wanted and claimed of an account, by rank, most urgent first."""
    claims: dict[int, _Claim] = {}
    for name, holder in account.holders.items():
        claimed = dict(account.standings.get(name, NONE).claims)
        for want in holder.wants:
            claim = claims.setdefault(want.rank, _Claim())
            claim.wanted = min(claim.wanted + want.units, MOST)
            units = min(claimed.get(want.rank, 0), want.units)
            if units:
                claim.units = min(claim.units + units, MOST)
                claim.least = min(claim.least, want.least)
                claim.floor = max(claim.floor, want.floor)
    yield from sorted(claims.items())


def _whole(claim: _Claim, room: int) -> int:
    """Tell how much of a claim can be met, in parts that are of use."""
    if claim.units <= room:
        return claim.units
    if not claim.units or claim.least > room:
        return 0
    return room - room % claim.least
