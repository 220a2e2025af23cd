"""The closed vocabulary of decisions: what the dispatcher may answer, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from celery_budget.core.ticket import Ticket


class Reason(StrEnum):
    """Why a decision was made; also the event field, the metric label and the docs row."""

    # Why a ticket starts.
    RANK = "rank"  # its band preempts and is the most urgent one waiting
    SHARE = "share"  # it was its band's weighted turn
    MIN_SHARE = "min_share"  # its band was owed its minimum share
    RESERVED = "reserved"  # only a slot reserved for its band was free
    # Why a ticket waits.
    NO_SLOT = "no_slot"  # every slot of the worker is busy
    RESERVE_KEPT = "reserve_kept"  # the free slots are kept for other bands
    THROTTLED = "throttled"  # a slot is left free for bands above, whose tickets wait too long
    BEHIND = "behind"  # a slot is free, and others go first
    BUDGET = "budget"  # an account it draws on is used up, or was not asked yet
    MEMORY = "memory"  # it needs more memory than its worker's node has left
    CPU = "cpu"  # more urgent tasks keep the processors of its worker's node busy
    PRESSURE = "pressure"  # the node is short of memory or io, and leaves it to other workers
    PAUSED = "paused"  # an operator has paused what it is one of
    GATHER = "gather"  # a slot has just become free, and messages that go first may arrive
    # Why a ticket will never start.
    EXPIRED = "expired"  # its hard expiry passed while it waited
    SHED = "shed"  # an account it draws on is used up, and the policy drops what comes then


# One of these is made for each execution; frozen ones take 0.6 us more.
@dataclass(slots=True)
class Start:
    """Give the ticket a slot now; the dispatcher counts it as running from here on.

    Attributes:
        ticket: No longer held.
        reason: Why it is its turn.
        is_degraded: Whether it is asked to do less, by a budget or because others wait.
    """

    ticket: Ticket
    reason: Reason
    is_degraded: bool = False


@dataclass(frozen=True, slots=True)
class Freeze:
    """Stop a running ticket where it is. `Dispatcher.failed` if it cannot be.

    Attributes:
        ticket: Keeps its place, and uses no slot until it goes on; or keeps its slot.
        cause: The ticket that needs the slot, the next to start; None where urgent ones that run
            need the processor.
    """

    ticket: Ticket
    cause: Ticket | None = None


@dataclass(frozen=True, slots=True)
class Thaw:
    """Let a frozen ticket go on."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Yield:
    """Ask a running ticket to leave its slot, soon. `Dispatcher.failed` if it cannot be asked.

    Attributes:
        ticket: Keeps its slot until it leaves.
        cause: The ticket that needs the slot; None where the node needs the memory, others what it
            has of an account, or the ticket is not here yet.
        account: The name of that account; "" otherwise.
        is_for_guest: Whether it is for an urgent ticket of another worker.
    """

    ticket: Ticket
    cause: Ticket | None = None
    account: str = ""
    is_for_guest: bool = False


@dataclass(frozen=True, slots=True)
class Evict:
    """End a running ticket, which may be run again. `Dispatcher.failed` if it cannot be told to.

    Attributes:
        ticket: Keeps its slot until it has ended.
        cause: The ticket that needs the slot; None where the node needs the memory, others what it
            has of an account, or the ticket is not here yet.
        account: The name of that account; "" otherwise.
        is_for_guest: Whether it is for an urgent ticket of another worker.
    """

    ticket: Ticket
    cause: Ticket | None = None
    account: str = ""
    is_for_guest: bool = False


@dataclass(frozen=True, slots=True)
class Stay:
    """Ask a ticket no longer to leave; it may have left all the same."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Refuse:
    """Never start the ticket: its sender gets `BudgetRefused` for a result.

    Attributes:
        ticket: No longer held.
        account: The one that is used up.
        budget: Place of its budget in the policy.
    """

    ticket: Ticket
    account: str
    budget: str
    reason: Reason = Reason.SHED


@dataclass(frozen=True, slots=True)
class Return:
    """Give the ticket back to the broker: a worker on another node may start it.

    Attributes:
        ticket: No longer held.
        reason: Why it does not start here.
    """

    ticket: Ticket
    reason: Reason


@dataclass(frozen=True, slots=True)
class Expire:
    """Never start the ticket: account for it as expired."""

    ticket: Ticket
    reason: Reason = Reason.EXPIRED


@dataclass(frozen=True, slots=True)
class Wait:
    """The ticket stays held.

    Attributes:
        reason: What blocks it now.
        until: Unix seconds when that may change by itself; inf: until something ends.
        ahead: Tickets of its band that are held before it, by arrival.
        account: The one that is used up, if that is the reason.
        pause: What is paused, if that is the reason.
    """

    reason: Reason
    until: float
    ahead: int
    account: str = ""
    pause: str = ""


Decision = Start | Freeze | Thaw | Yield | Evict | Stay | Return | Expire | Refuse | Wait
