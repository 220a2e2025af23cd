"""Where a task is: one value for programs, with one sentence for people.

Pure values. Made by the client; printed by the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from celery_budget.core.decisions import Reason
from celery_budget.units import format_seconds


class State(StrEnum):
    """How far a task has come."""

    QUEUED = "queued"  # in the broker: no worker has it
    HELD = "held"  # a worker has it and has not started it
    RUNNING = "running"
    DONE = "done"  # ended well
    DEAD = "dead"  # ended otherwise, and will not run again by itself
    UNKNOWN = "unknown"  # nobody who was asked knows it


#: Why a held task waits, in words: the dispatcher's reasons, and what keeps a task from it.
WHY: Mapping[str, str] = {
    Reason.NO_SLOT: "every slot is busy",
    Reason.RESERVE_KEPT: "the free slots are kept for other bands",
    Reason.THROTTLED: "slots are left free for bands above, whose tasks have waited too long",
    Reason.BEHIND: "others go first",
    Reason.MEMORY: "its worker's node has too little memory left for it",
    Reason.CPU: "more urgent tasks need the processors of its worker's node",
    Reason.PRESSURE: "its worker's node is under pressure, and is to give it back to the broker",
    Reason.BUDGET: "a budget is used up",
    Reason.PAUSED: "an operator has paused it",
    Reason.GATHER: "a slot has just become free, and messages that go first may arrive",
    "eta": "its time has not come",
    "rate_limit": "of its rate limit",
    "fetched": "it was fetched early, and that worker has no policy to order it by",
    "unanswered": (
        "it was fetched by a worker that does not answer; "
        "if that worker is gone, the broker hands it out again after the visibility time-out"
    ),
}


@dataclass(frozen=True, slots=True)
class Status:
    """Where a task is, as far as those who answered know.

    Attributes:
        task_id: The id that was asked for.
        state: How far it has come.
        is_certain: False where the state is the likeliest one only: a queue could not be
            searched (RabbitMQ), or not to its end.
        task: Task name, where it is known.
        worker: Node name of the worker that holds or runs it.
        queue: Broker queue it waits in.
        band: Band it waits or runs in.
        reason: Why it is held: a `Reason`, or `eta`, `rate_limit`, `fetched`, `unanswered`.
        ahead: Tickets of its band that its worker holds before it.
        for_s: Seconds since it started (running) or was published (queued, held).
        until: Unix seconds of its ETA, if that is what it waits for.
        account: The account that is used up, if that is what it waits for.
        pause: What is paused, if that is why it waits.
        outcome: Celery's result state, for `done` and `dead`.
        asked: Who answered: workers, queues, the result backend.
    """

    task_id: str
    state: State
    is_certain: bool = True
    task: str | None = None
    worker: str | None = None
    queue: str | None = None
    band: str | None = None
    reason: str | None = None
    ahead: int | None = None
    for_s: float | None = None
    until: float | None = None
    account: str | None = None
    pause: str | None = None
    outcome: str | None = None
    asked: tuple[str, ...] = ()

    @property
    def explanation(self) -> str:
        """One sentence that says where the task is and why."""
        match self.state:
            case State.QUEUED:
                return self._queued()
            case State.HELD:
                return self._held()
            case State.RUNNING:
                lasting = "" if self.for_s is None else f", for {format_seconds(self.for_s)} so far"
                return f"It runs on {self.worker}{self._in_band()}{lasting}."
            case State.DONE:
                return f"It ended well ({self.outcome})."
            case State.DEAD:
                cause = ": cancelled, or expired before it could start"
                return f"It ended as {self.outcome}{cause if self.outcome == 'REVOKED' else ''}."
            case State.UNKNOWN:
                return self._unknown()

    def _in_band(self) -> str:
        return f" in band {self.band}" if self.band else ""

    def _queued(self) -> str:
        if self.queue is None:
            return (
                "No worker has it and no result of it is stored: it waits in a queue, "
                "if it was published at all (the queues could not be searched to their end)."
            )
        return f"It waits in queue {self.queue}{self._in_band()}; no worker has asked for it yet."

    def _held(self) -> str:
        where = f"{self.worker} holds it" if self.worker else "It is held"
        why = f" because {WHY.get(self.reason, self.reason)}" if self.reason else ""
        if self.account is not None or self.pause is not None:
            why += f": {self.account or self.pause}"
        if self.until is not None:
            why += f" (due {datetime.fromtimestamp(self.until, UTC):%Y-%m-%d %H:%M:%S} UTC)"
        before = ""
        if self.ahead is not None:
            before = f"; {self.ahead or 'none'} of its band came there before it"
        return f"{where}{self._in_band()}{why}{before}."

    def _unknown(self) -> str:
        if not self.asked:
            return "Nobody answered: no worker, no queue, no result backend."
        return (
            f"Not known to {', '.join(self.asked)}. It was never published here, or it ended "
            "and left no result that is still stored."
        )
