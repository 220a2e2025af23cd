"""Who gets how much of an account: by rank, then by age, then in equal parts.

`stores/memory.py` calls it, `stores/redis/lua/share.lua` mirrors it. What an account has is in
`accounting.py`; the reasons for these rules are in docs/explanation/budgets.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, inf

from celery_budget.core.account import AHEAD, MOST, Account, Want


def grant(account: Account, worker: str, wants: tuple[Want, ...], asked_until: int) -> int:
    """Give a worker its share of what there is.

    Args:
        account: With this worker's report; modified.
        worker: Its name.
        wants: By rank, most urgent first; at most one of each rank.
        asked_until: Until when what it does not get now counts beside the wants of others.

    Returns:
        Units granted.
    """
    wants = tuple(_possible(want, account.rule.full) for want in wants)
    holder = account.holders[worker]
    holder.wants = wants
    holder.asked_until = asked_until
    shares = _shares(account, worker)
    account.balance -= sum(shares)
    holder.out = min(holder.out + sum(shares), MOST)
    holder.idle += sum(part for want, part in zip(wants, shares, strict=True) if want.rank >= AHEAD)
    holder.wants = tuple(
        want._replace(units=want.units - part, least=min(want.least, want.units - part))
        for want, part in zip(wants, shares, strict=True)
        if part < want.units
    )
    if not (holder.out or holder.wants):
        del account.holders[worker]
    return sum(shares)


def is_contended(account: Account, worker: str) -> bool:
    """Whether others still want some of it."""
    return any(holder.wants for name, holder in account.holders.items() if name != worker)


def others(account: Account, worker: str, now: int) -> int:
    """Tell how many units other workers hold whose lease has not ended."""
    out = (
        holder.out
        for name, holder in account.holders.items()
        if name != worker and holder.until > now
    )
    return min(sum(out), MOST)


def _possible(want: Want, full: int) -> Want:
    """Ask for no more than there can ever be, so that nobody waits behind it for ever."""
    least = min(want.least, full)
    return want._replace(least=least, floor=min(want.floor, full - least))


def _shares(account: Account, worker: str) -> list[int]:
    """Tell what a worker gets for each of its wants: the most urgent band's first."""
    wants = account.holders[worker].wants
    by_rank: dict[int, list[tuple[str, Want]]] = {}
    for name, holder in account.holders.items():
        for want in holder.wants:
            by_rank.setdefault(want.rank, []).append((name, want))
    shares = {want.rank: 0 for want in wants}
    left = account.balance
    begun = _begun(account)
    for rank in sorted(by_rank):
        asked = by_rank[rank]
        names = [name for name, _ in asked]
        parts = share([want for _, want in asked], left, begun, names)
        for (name, _), part in zip(asked, parts, strict=True):
            left -= part
            if name == worker:
                shares[rank] = part
        if sum(parts) < sum(want.units for _, want in asked):
            break  # what is too little for a more urgent band is kept for it
    return [shares[want.rank] for want in wants]


def _begun(account: Account) -> float:
    """Tell since when nothing has come that could have met a want."""
    rule = account.rule
    if not rule.turns:
        return inf
    if rule.window:
        return account.number * rule.window
    return rule.begins if account.number >= rule.number else 0  # else it has not begun


def share(asked: list[Want], left: int, begun: float, names: Sequence[str] = ()) -> list[int]:
    """Divide what is left among wants of one rank.

    First, by age, everybody gets the least that is of use. Where that is not there, what there is
    is saved up for whoever has waited longest; but in a window that turns nothing comes before the
    next, so there only for those who waited when it began. The rest is divided equally, nobody
    getting more than wanted (max-min fairness), and what cannot be divided so goes by age again.

    Args:
        asked: Of two that are equal the earlier goes first.
        left: Units there are; may be below zero.
        begun: A want is saved up for if it is older than this, microseconds.
        names: Who asks. Of two of one age the same goes first whoever asks last: else each would
            let the other go first for ever.

    Returns:
        Units for each, in the order given.
    """
    shares = [0] * len(asked)
    by_age = sorted(range(len(asked)), key=lambda i: (asked[i].since, names[i] if names else ""))
    for i in by_age:
        want = asked[i]
        if want.least <= left - want.floor:
            shares[i] = want.least
            left -= want.least
        elif want.since < begun:
            return shares
    rest = left - max(want.floor for want in asked)
    if rest <= 0:
        return shares
    order = sorted(range(len(asked)), key=lambda i: asked[i].units - shares[i])
    pot = rest
    for place, i in enumerate(order):
        more = asked[i].units - shares[i]
        part = min(more, floor(pot / (len(order) - place)))
        pot -= part
        part = part if part == more else part - part % asked[i].least
        shares[i] += part
        rest -= part
    for i in by_age:
        more = asked[i].units - shares[i]
        more = more if more <= rest else rest - rest % asked[i].least
        shares[i] += more
        rest -= more
    return shares
