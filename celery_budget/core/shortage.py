"""Shortages: what bands with a target lack on one worker, and what tells it.

A shortage is told by tickets that waited to start, by messages that still lie in the broker, and by
tickets that wait for a budget of which lesser ones use some. Pure; used by `throttling.py` alone,
which follows the worst. Rules: docs/explanation/throttling.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from math import log2
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from celery_budget.core.throttle import ENOUGH, GOAL
from celery_budget.core.waits import Waits

if TYPE_CHECKING:
    from celery_budget.core.allowance import Allowance
    from celery_budget.core.bands import BandState
    from celery_budget.core.ticket import Ticket

#: The part of the waits of a period that is to be within the target.
WITHIN = 0.95

#: What was seen in the broker counts for so long, seconds: a few looks, so that one that comes late
#: is not taken for an empty queue, and a broker that is away soon tells nothing.
FRESH_S = 5.0

#: So many looks in a row have to find a shortage. What is gone by the next one has started, and
#: its wait counts then: docs/decisions/0029-two-looks-at-the-queue.md has what single ones did.
LOOKS = 2

#: Accounts for which a band's waits are counted in one period.
MOST_LACKS = 64

#: Tenants of a group that are looked at for the one that waits longest.
MOST_TENANTS = 64


class Cause(StrEnum):
    """What tells a shortage, as status shows it."""

    WAIT = "wait"  # tickets of a band above waited for a slot
    QUEUE = "queue"  # messages of a band above lie in the broker
    LEDGER = "ledger"  # tickets of a band above wait for a budget that the band draws on too
    NODE = "node"  # the node is near a limit


class Shortage(NamedTuple):
    """One shortage.

    Attributes:
        size: The wait as a multiple of the target, or another need by its limit; >= 0.
        evidence: How many waits or messages tell it; 0: nothing does.
        cause: What tells it.
    """

    size: float
    evidence: int
    cause: Cause

    @property
    def force(self) -> tuple[float, float, int]:
        """How far it takes a share down, for comparing; without any, how far it lets it rise."""
        part = min(1.0, self.evidence / ENOUGH)
        down = min(1.0, log2(self.size / GOAL)) * part if self.size > GOAL else 0.0
        return down, self.size, self.evidence


class Queued(NamedTuple):
    """What waits in the broker for one band, as one look found it.

    Attributes:
        messages: In the band's queues.
        age_s: How long the oldest of them had waited, seconds; 0.0 where that is not known.
        seen: When, Unix seconds.
        workers: How many share them; 0 where nobody knows.
    """

    messages: int
    age_s: float
    seen: float
    workers: int


def worst(shortages: Iterable[Shortage]) -> Shortage:
    """Give the shortage that takes a share down farthest; there must be one."""
    return max(shortages, key=attrgetter("force"))


def of_band(state: BandState, slots: int, free: int, now: float) -> Shortage:
    """Tell the shortage of a band with a target, and begin another period of its waits.

    Args:
        state: The band.
        slots: Of the worker.
        free: Of these, without a ticket.
        now: Unix seconds.
    """
    waits = state.waits
    assert waits is not None
    return worst((_of_waits(state, waits, free, now), _of_queue(state, waits.target_s, slots, now)))


def note_wait(state: BandState, waits: Waits, ticket: Ticket, now: float) -> None:
    """Count how long a ticket has waited: for a slot, or for a budget.

    Not if it was paused, or has run before and left its slot. Who waited for a budget is counted
    apart: more free slots would not have helped it.
    """
    if _is_for_slot(state, ticket):
        waits.add(now - ticket.published)
        return
    group = ticket.group
    if (
        group is not None
        and group.lacked is not None
        and max(state.resumed, ticket.since) < ticket.published
    ):
        _lack(state, group.lacked, waits.target_s).add(group.since - ticket.published)


def _is_for_slot(state: BandState, ticket: Ticket) -> bool:
    """Tell whether a ticket has waited for nothing but a slot since it was published."""
    group = ticket.group
    since = max(state.resumed, ticket.since, 0.0 if group is None else group.since)
    return since < ticket.published


def _lack(state: BandState, allowance: Allowance, target_s: float) -> Waits:
    """Give the waits of a band for an account, to count one more; beyond the most, in vain."""
    waits = state.lacks.get(allowance)
    if waits is None:
        waits = Waits(target_s)
        if len(state.lacks) < MOST_LACKS:
            state.lacks[allowance] = waits
    return waits


def _of_waits(state: BandState, waits: Waits, free: int, now: float) -> Shortage:
    head = state.queue.head() if state.queue.length else None
    if head is not None and now - head.published > waits.target_s and _is_for_slot(state, head):
        waits.add(now - head.published)
    if not waits.count:
        # Without any that started, only a free slot tells that none had to wait.
        return Shortage(0.0, ENOUGH if free > 0 else 0, Cause.WAIT)
    found = Shortage(waits.quantile(WITHIN), waits.count, Cause.WAIT)
    waits.clear()
    return found


def _of_queue(state: BandState, target_s: float, slots: int, now: float) -> Shortage:
    """Tell the shortage by what lies in the broker.

    A short queue tells nothing: those that wait for other reasons lie in it for a moment as well.
    """
    nothing = Shortage(0.0, 0, Cause.QUEUE)
    looks = state.looks
    if len(looks) < LOOKS or not looks[0].seen <= now < looks[0].seen + FRESH_S:
        return nothing
    if state.is_paused or state.is_closed:
        return nothing
    if state.queue.blocked > state.running + state.queue.length:
        return nothing  # most of it waits for a budget, and so may what is in the broker
    size = min(_queued_s(state, queued, slots) for queued in looks) / target_s
    messages = min(queued.messages for queued in looks)
    return Shortage(size, messages, Cause.QUEUE) if size > GOAL else nothing


def _queued_s(state: BandState, queued: Queued, slots: int) -> float:
    """Tell for how long messages of one look wait: the oldest did, or the last is going to."""
    if not queued.messages:
        return 0.0
    wait_s = 0.0
    if queued.seen - queued.age_s > state.resumed:
        wait_s = queued.age_s
    if queued.workers and state.is_known:
        waiting = queued.messages / queued.workers + state.queue.length
        wait_s = max(wait_s, waiting * state.expected / slots)
    return wait_s


def of_ledger(
    running: Mapping[Ticket, tuple[BandState, *tuple[object, ...]]],
    bands: Sequence[BandState],
    now: float,
) -> dict[str, Shortage]:
    """Tell which bands run what uses a budget that more urgent tickets wait for.

    Where nothing of a band draws on that account now, holding it back would give nobody anything.
    Begins another period of those waits; to be called before `of_band`, for what did not wait.

    Args:
        running: Tickets in slots, and first their bands.
        bands: By rank.
        now: Unix seconds.

    Returns:
        The worst shortage above a band, by its name.
    """
    # Not sets, whose order differs from run to run.
    drawn = {
        (allowance, state): None
        for group, state in {ticket.group: run[0] for ticket, run in running.items()}.items()
        if group is not None
        for allowance in group.allowances
    }
    for allowance in {allowance: None for allowance, _ in drawn if allowance.is_exhausted}:
        _note_first(allowance, bands, now)
    found: dict[str, Shortage] = {}
    for above in bands:
        for allowance, waits in above.lacks.items():
            if above.waits is not None:
                waits.add(0.0, above.waits.count)  # who had what it needed did not wait for it
            shortage = Shortage(waits.quantile(WITHIN), waits.count, Cause.LEDGER)
            for state in bands[above.rule.rank + 1 :]:
                if (allowance, state) in drawn:
                    known = found.get(state.name, shortage)
                    found[state.name] = worst((known, shortage))
        above.lacks.clear()
    return found


def _note_first(allowance: Allowance, bands: Sequence[BandState], now: float) -> None:
    """Count those that wait for an account for too long already, of the most urgent group."""
    first = allowance.first_waiting()
    if first is None:
        return
    rank, group = first[0], first[3]
    state = bands[rank]
    if state.waits is None:
        return
    target_s = state.waits.target_s
    heads: Iterable[Ticket] = (
        line.head()[5]
        for tenant in islice(group.tenants, MOST_TENANTS)
        for line in tenant.closed
        if line.group is group
    )
    waits = (now - max(head.published, head.since, state.resumed) for head in heads)
    wait_s = max(waits, default=0.0)
    if wait_s > target_s:
        _lack(state, allowance, target_s).add(wait_s, group.live)
