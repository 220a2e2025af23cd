"""Celery as it comes: what tests of the harness and of mixed fleets run beside ours."""

from __future__ import annotations

import time

from celery import Celery

from tests.journal import record

app = Celery("stock")
app.conf.broker_connection_retry_on_startup = True


@app.task(shared=False)
def note(text: str) -> None:
    """Record that it ran."""
    record("noted", text=text)


@app.task(shared=False)
def hold(seconds: float) -> None:
    """Keep a slot busy."""
    record("started")
    time.sleep(seconds)
    record("ended")
