"""What a worker's log says of bands that are held back."""

from __future__ import annotations

import logging

import pytest

from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.shortage import Cause, Queued
from celery_budget.policy.model import Band, Policy
from celery_budget.worker.throttle_log import WHY, ThrottleLog
from tests.unit.core.worker import NOW, run, ticket

BANDS = Band("critical", 0, preempts=True, latency_target=0.1), Band("optional", 1)
POLICY = Policy(bands=BANDS, default_band="optional")


@pytest.fixture
def dispatcher() -> Dispatcher:
    """Make one whose slots are all in use for long."""
    made = Dispatcher(BANDS, 2)
    run(made, *(ticket("critical") for _ in range(2)))
    return made


def test_it_says_for_what_and_says_it_once(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    """Who reads it wants to know what to mend."""
    log = ThrottleLog()
    with caplog.at_level(logging.INFO):
        for second in range(1, 6):
            dispatcher.see({"critical": Queued(100, 10.0, NOW + second, 1)})
            dispatcher.decide(NOW + second)
            log.look(dispatcher, POLICY)

    (line,) = caplog.messages
    assert line.startswith("Band optional is throttled to ")
    assert line.endswith(f"{WHY[Cause.QUEUE]}.")


def test_every_cause_has_words() -> None:
    """A log must not fail where the share has fallen."""
    assert set(Cause) == set(WHY)
