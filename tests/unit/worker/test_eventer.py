"""The bill in events: added at the end of an execution, and only there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.worker.request import Request

from celery_budget import Bill
from celery_budget.policy.load import load
from celery_budget.worker.eventer import BillingEventer
from celery_budget.worker.intake import Held, Intake


def _nothing() -> None:
    """Do nothing."""


class Told:
    """A started ticket, and the events that its request sends."""

    def __init__(self, usage: dict[str, int]) -> None:
        app = Celery("told", set_as_current=False)
        app.conf.worker_send_task_events = True
        self.enabled = True
        self.asked = 0
        self.sent: list[dict[str, Any]] = []
        message = SimpleNamespace(delivery_info={}, properties={}, headers={})
        self.request = Request(
            message,
            app=app,
            task=app.task(_nothing, name="told", shared=False),
            body=([], {}, {}),
            headers={"id": "1", "task": "told"},
            decoded=True,
        )
        policy = load({"budgets": {"fleet": {"usd": "1/1d"}}})
        self.held = Intake(policy).ticket(self.request, None, None)
        self.held.run = 3
        self._usage = usage
        self.request.eventer = BillingEventer(self, self.held, self.used)

    def used(self, held: Held) -> dict[str, int]:
        """Count how often it is asked."""
        assert held is self.held
        self.asked += 1
        return self._usage

    def send(self, kind: str, /, **fields: Any) -> None:
        """Stand for the worker's eventer."""
        self.sent.append({"type": kind, **fields})


@pytest.fixture
def told() -> Told:
    """Make the request of a degraded execution that has used something."""
    return Told({"runtime": 5, "usd": 7})


@pytest.mark.parametrize("kind", ["task-succeeded", "task-failed", "task-retried", "task-revoked"])
def test_an_event_of_an_end_has_the_bill(told: Told, kind: str) -> None:
    """Whatever the end was."""
    told.request.worker_pid = 11
    told.request.send_event(kind, reason="x")
    (event,) = told.sent

    assert (kind, "1", "x") == (event["type"], event["uuid"], event["reason"])
    assert Bill("default", None, degraded=True, usage=told._usage) == Bill.read(event["budget"])


def test_the_event_of_a_start_has_none(told: Told) -> None:
    """Nothing has been used yet."""
    told.request.worker_pid = 11
    told.request.send_event("task-started")

    assert [{"type": "task-started", "uuid": "1"}] == told.sent
    assert 0 == told.asked


def test_what_never_ran_has_none(told: Told) -> None:
    """It was revoked as it came to the pool."""
    told.request.send_event("task-revoked", terminated=False)

    assert [{"type": "task-revoked", "uuid": "1", "terminated": False}] == told.sent


def test_nothing_is_read_when_events_have_been_disabled(told: Told) -> None:
    """By remote control, while the task ran."""
    told.request.worker_pid = 11
    told.enabled = False
    told.request.send_event("task-succeeded")

    assert ([], 0) == (told.sent, told.asked)


def test_an_event_that_waits_to_be_sent_does_not_change(told: Told) -> None:
    """Celery collects events, and the settlement has the same numbers."""
    told.request.worker_pid = 11
    told.request.send_event("task-succeeded")
    told._usage["usd"] = 0

    assert 7 == told.sent[0]["budget"]["usage"]["usd"]
