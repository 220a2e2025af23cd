"""Three bands, and tasks whose length and end the test decides.

The tasks are not shared: a test may have other apps in its process.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

from celery_budget import budget, install
from tests.journal import record

POLICY = {
    "default_band": "important",
    "bands": {
        "critical": {"queues": ["critical"], "preempts": True},
        "important": {"queues": ["celery"], "weight": 4},
        "optional": {"queues": ["optional"]},
    },
}

app = Celery("bands")
app.conf.broker_connection_retry_on_startup = True
if os.environ.get("CELERY_BUDGET_TEST_POLICY") != "none":
    install(app, policy=POLICY)
else:
    install(app)


@app.task(shared=False)
def note(text: str, seconds: float = 0.0) -> None:
    """Record that it ran, and in which band."""
    record("noted", text=text, band=budget.band)
    time.sleep(seconds)


@app.task(shared=False)
def wait_for(gate: str) -> None:
    """Keep a slot busy until a file exists."""
    record("waiting", gate=gate)
    while not Path(gate).exists():
        time.sleep(0.01)


@app.task(shared=False)
def fail() -> None:
    """End badly."""
    raise ValueError("as asked")


@app.task(shared=False, bind=True, max_retries=1)
def fail_once(self, text: str) -> None:
    """Succeed at the second try."""
    record("tried", text=text, retries=self.request.retries)
    if not self.request.retries:
        raise self.retry(countdown=0)


@app.task(shared=False, bind=True)
def replace_with_note(self, text: str) -> None:
    """Hand the task's id over to another task."""
    raise self.replace(note.si("first") | note.si(text))
