"""What a status says to people."""

from __future__ import annotations

import pytest

from celery_budget.client.status import WHY, State, Status
from celery_budget.core.decisions import Reason

CASES = [
    (
        Status("4f", State.QUEUED, queue="optional", band="optional"),
        "It waits in queue optional in band optional; no worker has asked for it yet.",
    ),
    (
        Status("4f", State.QUEUED, is_certain=False),
        (
            "No worker has it and no result of it is stored: it waits in a queue, if it was "
            "published at all (the queues could not be searched to their end)."
        ),
    ),
    (
        Status("4f", State.HELD, worker="w1", band="optional", reason="no_slot", ahead=3),
        (
            "w1 holds it in band optional because every slot is busy; "
            "3 of its band came there before it."
        ),
    ),
    (
        Status(
            "4f",
            State.HELD,
            worker="w1",
            band="optional",
            reason="budget",
            account="tenant:acme usd",
            until=1_764_000_000.0,
        ),
        (
            "w1 holds it in band optional because a budget is used up: tenant:acme usd "
            "(due 2025-11-24 16:00:00 UTC)."
        ),
    ),
    (
        Status("4f", State.HELD, worker="w1", reason="eta", until=1_764_000_000.0),
        "w1 holds it because its time has not come (due 2025-11-24 16:00:00 UTC).",
    ),
    (
        Status("4f", State.HELD, is_certain=False, reason="unanswered"),
        (
            "It is held because it was fetched by a worker that does not answer; if that worker is "
            "gone, the broker hands it out again after the visibility time-out."
        ),
    ),
    (
        Status("4f", State.RUNNING, worker="w1", band="critical", for_s=1.5),
        "It runs on w1 in band critical, for 1.5s so far.",
    ),
    (Status("4f", State.DONE, outcome="SUCCESS"), "It ended well (SUCCESS)."),
    (Status("4f", State.DEAD, outcome="FAILURE"), "It ended as FAILURE."),
    (
        Status("4f", State.DEAD, outcome="REVOKED"),
        "It ended as REVOKED: cancelled, or expired before it could start.",
    ),
    (
        Status("4f", State.UNKNOWN, asked=("w1", "queue celery")),
        (
            "Not known to w1, queue celery. It was never published here, or it ended and left no "
            "result that is still stored."
        ),
    ),
    (
        Status("4f", State.UNKNOWN),
        "Nobody answered: no worker, no queue, no result backend.",
    ),
]


@pytest.mark.parametrize(("status", "sentence"), CASES, ids=lambda value: str(value)[:40])
def test_a_status_explains_itself_in_one_sentence(status: Status, sentence: str) -> None:
    """The sentence is all that an operator sees of a task."""
    assert sentence == status.explanation


def test_every_state_is_explained() -> None:
    """A state without a sentence would end the command with an error."""
    assert set(State) == {status.state for status, _ in CASES}


def test_every_reason_to_wait_has_words() -> None:
    """A new reason must not reach people as an identifier."""
    starts = {Reason.RANK, Reason.SHARE, Reason.MIN_SHARE, Reason.RESERVED}
    waits = set(Reason) - starts - {Reason.EXPIRED, Reason.SHED}

    assert waits <= WHY.keys()
