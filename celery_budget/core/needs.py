"""What a worker needs of each account, and so what it asks of the ledger.

Used by `accounts.py` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf, log

from celery_budget.core.account import AHEAD, Want
from celery_budget.core.admission import Group
from celery_budget.core.allowance import Allowance
from celery_budget.core.standing import NONE, Standing

#: One execution started, one slot in use.
ONE = 1_000_000

#: Resources of which half a unit is of no use to anybody.
COUNTED = frozenset({"starts", "slots"})

#: Starts of so many seconds are kept at hand: of the 50 ms to the next report, and of as much again
#: for one that comes late.
AHEAD_S = 0.1

#: How long it takes without a start for half of what is kept at hand to go back, seconds. Long
#: enough that ten starts a second find something at hand, and one or two alone leave nothing there
#: that had to be given back: of many tenants most come once.
HALVED_S = 0.2

#: What each unit adds to the pace, so that steady starts are told at the pace that they have.
LEARNED = log(2) / HALVED_S

#: Waiting tickets of a group that are asked for at once, for each slot: with no-op tasks 16 last
#: for some 10 ms, the least time between two reports.
ASKED_PER_SLOT = 16

#: Nothing is kept for a ticket that lacks something else for longer than this, microseconds.
PATIENCE_US = 1_000_000

#: Nor for longer than this where that was claimed from lesser tickets: a second until their worker
#: hears of it, and five in which whoever is asked to leave does (`DEAF_S`, `evict_grace`).
CLAIMED_US = 6_000_000

#: Units, the least of them that is of any use, and since when they are needed (Unix seconds), by
#: rank.
Needs = dict[int, tuple[int, int, float]]


def add_up(
    groups: Iterable[Group],
    now: float,
    ledger_us: int,
    slots: int,
    standings: Mapping[Allowance, Standing],
) -> dict[Allowance, Needs]:
    """Add up what waiting groups need of each allowance.

    They take allowances in one order on all workers: what comes before the one that a group
    lacks is kept for it, what comes after is given back, so that no two workers wait for
    each other. And nothing is kept for long.

    Args:
        groups: That wait.
        now: Unix seconds.
        ledger_us: What the ledger's clock shows about now, microseconds.
        slots: Of the worker.
        standings: How tickets here stand to capacities.
    """
    needs: dict[Allowance, Needs] = {}
    for group in groups:
        lacking = group.waits_for
        if lacking is None:
            continue
        if lacking.free_at:
            is_long = lacking.free_at > ledger_us + PATIENCE_US
        else:
            is_claimed = group.rank in dict(standings.get(lacking, NONE).claims)
            patience_us = CLAIMED_US if is_claimed else PATIENCE_US
            is_long = lacking.is_exhausted and now > group.since + patience_us / 1e6
        group.keeps = group.keeps and not is_long
        is_before = True
        for allowance, units in zip(group.allowances, group.needs, strict=True):
            if allowance is lacking:
                is_before = False
            elif is_long or (lacking.is_exhausted and not is_before):
                continue
            most = slots if allowance.is_capacity else ASKED_PER_SLOT * slots
            _add(needs, group, allowance, units, min(group.live, most))
    return needs


def keep(needs: dict[Allowance, Needs], group: Group, count: int) -> None:
    """Add what tickets of a group need that wait for a slot only.

    Args:
        needs: Modified.
        group: Its `needs` are those of the first of its tickets.
        count: How many tickets.
    """
    for allowance, units in zip(group.allowances, group.needs, strict=True):
        _add(needs, group, allowance, units, count)


def _add(
    needs: dict[Allowance, Needs], group: Group, allowance: Allowance, units: int, count: int
) -> None:
    """Add what so many tickets of a group need of one allowance."""
    known = needs.setdefault(allowance, {})
    total, least, since = known.get(group.rank, (0, units, group.since))
    full = allowance.full
    if allowance.resource in COUNTED:
        full = full // ONE * ONE
    known[group.rank] = (min(total + units * count, full), least, min(since, group.since))


def look_ahead(allowance: Allowance, now: float) -> int:
    """Tell how many units to keep at hand for starts to come, and follow their pace.

    Args:
        allowance: Its pace is modified.
        now: Unix seconds.
    """
    if allowance.is_capacity:
        return allowance.used
    if allowance.is_contended or allowance.ends < inf:
        return 0  # what is kept here is missing elsewhere
    elapsed = max(now - allowance.looked, 0.0)
    allowance.looked = now
    allowance.pace = allowance.pace * 0.5 ** (elapsed / HALVED_S) + allowance.used * LEARNED
    # In whole starts: what goes back bit by bit has to be told as often.
    return round(allowance.pace * AHEAD_S / allowance.step) * allowance.step


def wants_of(allowance: Allowance, needs: Needs, ahead: int, ledger_us: int) -> tuple[Want, ...]:
    """Write what to ask of the ledger, beyond what is at hand.

    Args:
        allowance: Of which.
        needs: Of waiting groups.
        ahead: Units to keep at hand.
        ledger_us: What the ledger's clock shows about now, microseconds.

    Returns:
        By rank, most urgent first.
    """
    full, free = allowance.full, allowance.free
    wants = []
    for rank in sorted(needs):
        units, least, since = needs[rank]
        covered = max(0, min(free, units))
        free -= covered
        missing = units - covered
        floor = _floor(allowance, rank)
        most = full - floor
        if missing > 0 and most > 0:
            missing = min(missing, most)
            least = min(max(1, least - covered), missing)
            wants.append(Want(rank, missing, least, int(since * 1e6), floor))
    if free < ahead and not allowance.is_capacity:
        floor = _floor(allowance, allowance.rank)
        least = allowance.step
        missing = min(ahead - free, full - floor) // least * least
        if missing > 0:
            wants.append(Want(AHEAD + allowance.rank, missing, least, ledger_us, floor))
    return tuple(wants)


def _floor(allowance: Allowance, rank: int) -> int:
    """Tell how much of an account must be left for bands above a rank."""
    return sum(units for other, units in allowance.reserves if other < rank)
