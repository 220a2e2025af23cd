"""A ticket: all that a decision may know about one message a worker holds."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery_budget.core.admission import Group
    from celery_budget.policy.budget import Cost
    from celery_budget.policy.envelope import Envelope
    from celery_budget.policy.preemption import Method


@dataclass(slots=True, eq=False)
class Ticket:
    """One message that waits for, or has, a slot.

    Not frozen because a frozen class costs 1 µs more to make on the worker's hot path;
    nobody but the dispatcher changes a ticket after `offer`, and it only its `band`, `group` and
    `since`.

    Attributes:
        id: The Celery task id.
        task: Task name.
        band: Name of the band it counts in.
        tenant: Whose work it is; "" when nobody said.
        deadline: Soft deadline, Unix seconds; inf when it has none.
        expires: Hard expiry, Unix seconds; inf when it has none.
        published: When the sender published it (or its ETA), Unix seconds.
        move: Which of several messages of its id it is; the highest counts. 0 until it was moved,
            retried or replaced.
        cost: What it is expected to use, as declared: pairs of resource and units, sorted.
        queue: Through which it came; "" when that is not known.
        values: Of the message headers that have budgets, in the order of `Groups.headers`.
        excused: Places of the budgets that do not keep it from starting: it was demoted for them.
        envelopes: What it draws on together with other parts of its workflow.
        methods: How it may give way while it runs.
        can_degrade: Whether it can do less instead of waiting.
        is_degraded: Whether its sender asks it to do less.
        group: The allowances that its start draws on; None: none.
        since: Until when it waited for something else than a slot, Unix seconds; 0.0: it did not.
    """

    id: str
    task: str
    band: str
    tenant: str = ""
    deadline: float = inf
    expires: float = inf
    published: float = 0.0
    move: int = 0
    cost: Cost = ()
    queue: str = ""
    values: tuple[str, ...] = ()
    excused: frozenset[str] = frozenset()
    envelopes: tuple[Envelope, ...] = ()
    methods: tuple[Method, ...] = ()
    can_degrade: bool = False
    is_degraded: bool = False
    group: Group | None = None
    since: float = 0.0
