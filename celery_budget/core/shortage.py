"""Shortages: what bands with a target lack on one worker, and what tells it.

A shortage is told by tickets that waited to start, and by messages that still lie in the broker.
Pure; used by `throttling.py` alone, which follows the worst. Rules: docs/explanation/throttling.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from math import log2
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from celery_budget.core.throttle import ENOUGH, GOAL
from celery_budget.core.waits import Waits

if TYPE_CHECKING:
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


class Cause(StrEnum):
    """What tells a shortage, as status shows it."""

    WAIT = "wait"  # tickets of a band above waited for a slot
    QUEUE = "queue"  # messages of a band above lie in the broker
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
    """Count how long a ticket has waited, if it was for a slot.

    Not if it waited for a budget or was paused, or has run before and left its slot: more free
    slots would not have helped it.
    """
    group = ticket.group
    since = max(state.resumed, ticket.since, 0.0 if group is None else group.since)
    if since < ticket.published:
        waits.add(now - ticket.published)


def _of_waits(state: BandState, waits: Waits, free: int, now: float) -> Shortage:
    head = state.queue.head() if state.queue.length else None
    if head is not None and now - head.published > waits.target_s:
        note_wait(state, waits, head, now)
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
