"""An app whose tasks spend what a test asks for, under a policy with budgets.

The environment variable `BUDGETS` (JSON) says how it is set up: `{"policy": {...}, "settings":
{...}, "install": true}`. The tasks are not shared: a test may have other apps in its process.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from celery import Celery, Task

from celery_budget import budget, install
from tests.journal import record

_asked = json.loads(os.environ.get("BUDGETS", "{}"))
_is_installed: bool = _asked.get("install", True)

app = Celery("budgets")
app.conf.update(
    broker_connection_retry_on_startup=True,
    result_backend=os.environ.get("BUDGETS_RESULTS"),
)
app.conf.update(_asked.get("settings", {}))
if _is_installed:
    install(app, policy=_asked.get("policy"))


@app.task(shared=False)
def note(key: str, number: int = 0) -> int:
    """Record that it ran, on which worker."""
    record("ran", key=key, number=number, worker=os.getppid())
    return number


@app.task(shared=False)
def pause(key: str, seconds: float, number: int = 0) -> None:
    """Keep a slot busy for a while."""
    record("started", key=key, number=number, worker=os.getppid(), tenant=budget.tenant)
    time.sleep(seconds)
    record("ended", key=key, number=number, worker=os.getppid())


@app.task(shared=False)
def wait(key: str, gate: str, number: int = 0) -> None:
    """Keep a slot busy until a file exists."""
    record("started", key=key, number=number)
    while not Path(gate).exists():
        time.sleep(0.005)
    record("ended", key=key, number=number)


@app.task(shared=False, cost={"tokens": 600} if _is_installed else None)
def declared(key: str, gate: str, number: int = 0) -> None:
    """Wait like `wait`; the decorator says what it costs."""
    wait(key, gate, number)


@app.task(shared=False)
def pay(key: str, usd: str, number: int = 0, seconds: float = 0.0) -> None:
    """Charge dollars, once they are known, and record what it sees."""
    time.sleep(seconds)
    budget.charge(usd=usd)
    record("paid", key=key, number=number, band=budget.band, degraded=budget.degraded)


@app.task(shared=False)
def spin(key: str, seconds: float) -> None:
    """Use processor time."""
    begun = time.process_time()
    while time.process_time() < begun + seconds:
        pass
    record("spun", key=key, seconds=time.process_time() - begun)


@app.task(shared=False)
def total(numbers: list[int], key: str) -> None:
    """Record that a chord's body ran."""
    record("total", key=key, numbers=numbers)


@app.task(shared=False, bind=True)
def told(self: Task, *args: object, key: str) -> None:
    """Record that it was called back."""
    record("told", key=key)
