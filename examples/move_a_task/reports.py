"""Reports of half a second each, in two bands."""

from __future__ import annotations

import os
import time

from celery import Celery

from celery_budget import install

app = Celery("reports", broker=os.environ.get("CELERY_BROKER_URL", "redis://localhost:6379/0"))
app.conf.broker_connection_retry_on_startup = True
install(
    app,
    policy={
        "default_band": "usual",
        "bands": {
            "urgent": {"queues": ["urgent"], "preempts": True},
            "usual": {"queues": ["reports"]},
        },
    },
)


@app.task
def report(number: int) -> None:
    """Write one report."""
    time.sleep(0.5)
    print(f"report {number}", flush=True)
