"""A job: a ticket that knows what it is going to take, and the record of each of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from celery_budget.core.decisions import Reason
from celery_budget.core.ticket import Ticket


@dataclass(slots=True, eq=False)
class Job(Ticket):
    """One message, and what becomes of it once it runs.

    Attributes:
        length_s: Slot time that is left to do, seconds.
        usage: Units of each resource that its run turns out to use.
        step_s: Between two of its checkpoints, seconds; inf: it has none.
        clean_up_s: From being told to end to its end, seconds.
        degraded_to: The part of `length_s` that it takes where it is asked to do less.
        is_redelivered: Whether a worker had it before, so that its age tells nothing.
    """

    length_s: float = 0.0
    usage: Mapping[str, int] = field(default_factory=dict)
    step_s: float = inf
    clean_up_s: float = 0.0
    degraded_to: float = 1.0
    is_redelivered: bool = False


@dataclass(slots=True, eq=False)
class Run:
    """One execution.

    Attributes:
        job: That ran.
        worker: Its name.
        reason: Why it was its turn.
        started: Unix seconds.
        ended: The same; inf while it goes on.
        frozen_s: For how long of that it stood still, seconds.
        has_left: Whether it made room before it was done.
        is_degraded: Whether it was asked to do less.
    """

    job: Job
    worker: str
    reason: Reason
    started: float
    ended: float = inf
    frozen_s: float = 0.0
    has_left: bool = False
    is_degraded: bool = False

    @property
    def waited_s(self) -> float:
        """From being published to its start, seconds."""
        return self.started - self.job.published
