"""An app whose tasks spend what a test asks for, under a policy with budgets.

The environment variable `BUDGETS` (JSON) says how it is set up: `{"policy": {...}, "settings":
{...}, "install": true}`. The tasks are not shared: a test may have other apps in its process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
from celery import Celery, Task, chain
from celery.exceptions import Retry, SoftTimeLimitExceeded

from celery_budget import CeilingExceeded, budget, install
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


@app.task(shared=False, bind=True, max_retries=None)
def insist(self: Task, key: str, usd: str, seconds: float) -> None:
    """Pay, and try again, for ever; each try ends later after the next one was published."""
    budget.charge(usd=usd)
    record("paid", key=key, attempt=budget.attempt)
    try:
        self.retry(countdown=0)
    except Retry:
        time.sleep(seconds * budget.attempt)
        raise


@app.task(shared=False)
def delegate(key: str, usd: str, parts: int, own: dict[str, str]) -> None:
    """Publish payments in an envelope of its own, one after the other."""
    with budget.envelope(**own) as envelope:
        last = chain(*(pay.si(key, usd, number) for number in range(parts))).delay().id
        record("opened", key=key, envelope=envelope, last=last)


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


@app.task(shared=False, bind=True, max_retries=1)
def try_twice(self: Task, usd: str, countdown: float = 0.0) -> None:
    """Charge dollars at each try; the second one is the last."""
    budget.charge(usd=usd)
    raise self.retry(exc=ValueError("as asked"), countdown=countdown)


@app.task(shared=False)
def hoard(key: str, mib: int, deaf: bool = False) -> None:
    """Take memory and hold it for ever, whatever it is told if it is deaf."""
    record("begun", key=key, pid=os.getpid())
    held = []
    while True:
        try:
            while True:
                # In small steps: memory is taken in C, where no signal is heard.
                if len(held) < mib:
                    held.append(bytearray(b"1") * (1 << 20))
                else:
                    time.sleep(0.01)
        except CeilingExceeded as error:
            record("told", key=key, text=str(error))
            if not deaf:
                raise


@app.task(shared=False)
def hoard_elsewhere(key: str, mib: int) -> None:
    """Let another program take memory, and wait for it."""
    code = f"import time; held = bytearray(b'1') * ({mib} << 20); time.sleep(600)"
    program = subprocess.Popen([sys.executable, "-S", "-c", code])
    record("begun", key=key, pid=program.pid)
    while True:
        with suppress(CeilingExceeded):
            program.wait()


_kept: list[bytearray] = []


@app.task(shared=False)
def keep(key: str, mib: int) -> None:
    """Take memory and leave it behind."""
    _kept.append(bytearray(b"1") * (mib << 20))
    record("kept", key=key, pid=os.getpid())


@app.task(shared=False)
def tidy(key: str, seconds: float) -> None:
    """Clean up when its time is over, as tasks do that know Celery's soft time limit."""
    record("started", key=key)
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded as error:
        record("tidied", key=key, error=type(error).__name__)
        raise


@app.task(shared=False)
def overflow(key: str, limit: int, deaf: bool) -> None:
    """Take memory 5 MiB a step, record when the next is too much, and end when told."""
    process = psutil.Process()
    step = 5 << 20
    held: list[bytearray] = []
    has_crossed = False
    while True:
        try:
            while True:
                if not has_crossed:
                    if process.memory_info().rss + 2 * step > limit:
                        record("crossed", key=key, pid=os.getpid())
                        has_crossed = True
                    # Twice, so that what was freed before does not count.
                    held += [bytearray(b"1") * step, bytearray(b"1") * step]
                time.sleep(0.005)
        except CeilingExceeded:
            if not deaf:
                held.clear()
                record("left", key=key)
                raise


@app.task(shared=False)
def pay_and_die(usd: str) -> None:
    """Be killed as the kernel kills who has taken too much memory."""
    budget.charge(usd=usd)
    os.kill(os.getpid(), signal.SIGKILL)
