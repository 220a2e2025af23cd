"""How one worker's tickets stand to the capacities that they share with the fleet.

Told to the ledger with each report (`standing.py`), which tells in return what is to be given back
(`recall.py`). Used by the dispatcher alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from celery_budget.core.account import MOST
from celery_budget.core.admission import Group
from celery_budget.core.allowance import Allowance
from celery_budget.core.standing import ByRank, Standing

Units = dict[Allowance, dict[int, int]]


def standings(
    claims: Units, stock: Mapping[Allowance, tuple[int, dict[int, int]]]
) -> dict[Allowance, Standing]:
    """Put together what is claimed, what is leaving and what could be given back.

    Args:
        claims: As `claims_of` gives it.
        stock: As `Relief.stock` gives it.
    """
    found: dict[Allowance, Standing] = {}
    for allowance in {**claims, **stock}:
        leaving, loose = stock.get(allowance, (0, {}))
        claimed = claims.get(allowance, {})
        found[allowance] = Standing(_told(claimed), min(leaving, MOST), _told(loose))
    return found


def _told(units: Mapping[int, int]) -> ByRank:
    """Write units as a report can carry them."""
    return tuple((rank, min(each, MOST)) for rank, each in sorted(units.items()))


def claims_of(groups: Iterable[Group], rooms: Mapping[int, int], now: float) -> Units:
    """Tell what waiting tickets of bands that preempt could start with, of capacities they lack.

    Nothing is claimed for tickets for which there would be no slot, nor for those that lack a
    window budget too: others would leave in vain.

    Args:
        groups: That wait.
        rooms: For how many more tickets there is room, by rank of the bands that preempt.
        now: Unix seconds.
    """
    claims: Units = {}
    taken = 0
    for group in sorted((each for each in groups if each.rank in rooms), key=_rank):
        lacking = group.waits_for
        count = min(group.live, rooms[group.rank] - taken)
        if lacking is None or not lacking.is_capacity or count <= 0:
            continue
        needs = dict(zip(group.allowances, group.needs, strict=True))
        if needs[lacking] and not any(
            other.free < units and _is_short(other, now) for other, units in needs.items()
        ):
            taken += count
            ranks = claims.setdefault(lacking, {})
            ranks[group.rank] = ranks.get(group.rank, 0) + needs[lacking] * count
    return claims


def _is_short(allowance: Allowance, now: float) -> bool:
    """Tell whether a window budget has too little, as far as is known, or was never asked."""
    if allowance.is_capacity:
        return False
    if not allowance.is_exhausted:
        return not allowance.asked_us
    return not allowance.free_at or now < allowance.free_at / 1e6


def _rank(group: Group) -> int:
    return group.rank
