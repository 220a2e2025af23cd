"""Reporting: when a worker tells the ledger what it has spent, holds and wants.

Used by the worker's thread for the ledger and by the simulated one, so that both report alike.
"""

from __future__ import annotations

from celery_budget.core.accounts import Accounts
from celery_budget.core.member import Member

#: Length of a lease, seconds: for how long a worker may use what it was granted without hearing
#: from the ledger, and after which what a dead one held is free. Longer than a restart of Redis or
#: a pause of either side, short enough to wait for.
LEASE_S = 5.0

#: Between two reports while something is spent or waited for, also by urgent tickets of others for
#: which this worker could make room, and while nothing is, seconds.
TICK_S = 0.05
IDLE_S = 1.0

#: Between two reports at least, however urgent, seconds. With ticks this bounds the ledger's work
#: to 100 calls a second and worker, which only the first use of ever new accounts reaches.
LEAST_S = 0.01

_MICROS = 1_000_000

#: A report's wants count for three ticks, microseconds: the next may come late from a busy worker.
LATE_US = int(3 * TICK_S * _MICROS)


def pause_s(
    accounts: Accounts, member: Member, since_s: float, ledger_us: int, now: float
) -> float:
    """Tell how long after the last report the next one is due, seconds.

    Args:
        accounts: The worker's books.
        member: What it has for others, and they for it.
        since_s: How long ago the last one was, seconds.
        ledger_us: What the ledger's clock shows about now, microseconds.
        now: Unix seconds.
    """
    if accounts.is_urgent or member.has_news:
        return LEAST_S
    if accounts.is_moving or member.is_watching(now):
        return TICK_S
    free_s = (accounts.next_us() - ledger_us) / _MICROS
    return max(LEAST_S, min(since_s + free_s, IDLE_S))
