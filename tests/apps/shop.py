"""A shop whose tasks record what they see and do what a test asks of them.

The environment variable `SHOP` (JSON) says how it is set up, so that one module serves every
test: `{"policy": {...} or null, "install": true, "settings": {...}}`. With `install` false it
is the same app as stock Celery runs it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

from celery import Celery, Task, chain, chord, group
from celery.exceptions import SoftTimeLimitExceeded
from celery.worker.control import Panel, control_command
from kombu import Queue

from celery_budget import budget, install
from tests.journal import record

#: What the tests use where they ask for nothing else.
POLICY = {
    "default_band": "important",
    "bands": {
        "critical": {"queues": ["critical"], "preempts": True},
        "important": {"queues": ["celery", "important"], "weight": 4},
        "optional": {"queues": ["optional"], "weight": 1},
    },
}

_asked = json.loads(os.environ.get("SHOP", "{}"))
_is_installed: bool = _asked.get("install", True)

app = Celery("shop")
app.conf.update(
    broker_connection_retry_on_startup=True,
    result_backend=os.environ.get("SHOP_RESULTS"),
    task_track_started=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
)
app.conf.update(_asked.get("settings", {}))
if "queues" in _asked:
    app.conf.task_queues = [
        Queue(queue.pop("name"), queue_arguments=queue.pop("arguments", None), **queue)
        for queue in _asked["queues"]
    ]
if _is_installed:
    install(app, policy=_asked.get("policy", POLICY))

# Not shared: a test process has several of these apps, each with tasks of its own.
task = partial(app.task, bind=True, shared=False)


def seen(self: Task) -> dict[str, object]:
    """Tell what a running task knows about itself."""
    request = self.request
    known = {"id": request.id, "queue": (request.delivery_info or {}).get("routing_key")}
    if not _is_installed:
        return known
    return known | {
        "band": budget.band,
        "tenant": budget.tenant,
        "deadline": budget.deadline,
        "attempt": budget.attempt,
        "cid": budget.correlation_id,
    }


@task()
def note(self: Task, key: str, number: int = 0) -> int:
    """Record what it sees."""
    record("ran", key=key, number=number, **seen(self))
    return number


@task(band="critical" if _is_installed else None)
def charge(self: Task, key: str, number: int = 0) -> None:
    """Record what it sees; declared critical."""
    record("ran", key=key, number=number, **seen(self))


@task()
def pause(self: Task, key: str, seconds: float, number: int = 0) -> None:
    """Keep a slot busy for a while."""
    record("started", key=key, number=number, **seen(self))
    time.sleep(seconds)
    record("ended", key=key, number=number)


def _wait_for(gate: str) -> None:
    while not Path(gate).exists():
        time.sleep(0.005)


def _wait(self: Task, key: str, gate: str, number: int) -> None:
    record("started", key=key, number=number, **seen(self))
    _wait_for(gate)
    record("ended", key=key, number=number)


@task()
def wait(self: Task, key: str, gate: str, number: int = 0) -> None:
    """Keep a slot busy until a file exists."""
    _wait(self, key, gate, number)


@task()
def run_program(self: Task, key: str, gate: str, number: int = 0) -> None:
    """Wait, with a program below this process, until a file exists."""
    with subprocess.Popen(["sleep", "600"]) as program:
        _wait(self, key, gate, number)
        program.kill()


@task(acks_late=True)
def wait_late(self: Task, key: str, gate: str, number: int = 0) -> None:
    """Keep a slot busy until a file exists; acknowledged at the end."""
    _wait(self, key, gate, number)


def _steps(self: Task, key: str, count: int, gate: str, number: int) -> int:
    first = budget.progress(default=0)
    record("started", key=key, number=number, first=first, **seen(self))
    step = first
    try:
        while step < count or (gate and not Path(gate).exists()):
            time.sleep(0.005)
            record("step", key=key, number=number, step=step)
            step += 1
            try:
                budget.checkpoint(step)
            except Exception:
                record("caught", key=key, number=number)
                raise
    finally:
        record("left", key=key, number=number, step=step)
    record("ended", key=key, number=number)
    return step


@task()
def steps(self: Task, key: str, count: int = 0, gate: str = "", number: int = 0) -> int:
    """Take so many steps, and then more until a file exists, with a checkpoint after each."""
    return _steps(self, key, count, gate, number)


@task(acks_late=True)
def steps_late(self: Task, key: str, count: int = 0, gate: str = "", number: int = 0) -> int:
    """Take steps; acknowledged at the end."""
    return _steps(self, key, count, gate, number)


@task()
def yield_late(self: Task, key: str, gate: str, patience_s: float) -> None:
    """Wait until a file exists, and take so long to clean up when it is ended before."""
    record("started", key=key, number=0, **seen(self))
    try:
        _wait_for(gate)
    finally:
        record("left", key=key)
        time.sleep(patience_s)
        record("cleaned", key=key)
    record("ended", key=key)


@task()
def stroll(self: Task, key: str, gate: str) -> None:
    """Take one step, until a file exists, and then come to its only checkpoint."""
    _wait(self, key, gate, 0)
    budget.checkpoint("almost there")


@task(max_retries=1)
def stumble(self: Task, key: str, is_lasting: int = 0) -> list[object]:
    """Fail half-way, and again if so asked; tell what each try found."""
    found = budget.progress()
    if found is None:
        time.sleep(1.1)  # the shortest time between two checkpoints is one second
        budget.checkpoint([found, "half"])
        raise self.retry(countdown=0)
    if is_lasting:
        raise ValueError(key)
    return found


@task()
def hoard(self: Task, key: str, size: int) -> None:
    """Keep so many characters in a checkpoint, and then one in another."""
    record("ran", key=key, **seen(self))
    for kept in ("x" * size, "x"):
        time.sleep(0.01)
        budget.checkpoint(kept)


@task(degrade=True)
def preview(self: Task, key: str, seconds: float, number: int = 0) -> None:
    """Keep a slot busy, for a fifth of the time where it is asked to do less."""
    record("started", key=key, number=number, degraded=budget.degraded, **seen(self))
    time.sleep(seconds / 5 if budget.degraded else seconds)
    record("ended", key=key, number=number)


@task()
def fill(self: Task, key: str, mebibytes: int, gate: str) -> None:
    """Take memory, and keep it until a file exists."""
    record("started", key=key, **seen(self))
    taken = bytearray(b"1") * (mebibytes << 20)
    _wait_for(gate)
    record("ended", key=key, taken=len(taken), **seen(self))


@task()
def burn(self: Task, key: str, gate: str, least_s: float = 0.0, number: int = 0) -> None:
    """Use a processor until a file exists, and for so many seconds of its time at least."""
    record("started", key=key, number=number, **seen(self))
    begun = time.process_time()
    while not Path(gate).exists() or time.process_time() < begun + least_s:
        sum(range(10_000))
    record("ended", key=key, number=number, **seen(self))


@task(acks_late=True, reject_on_worker_lost=True)
def die_once(self: Task, key: str, marker: str) -> None:
    """Kill its own process at the first run."""
    record("ran", key=key, **seen(self))
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)


@task()
def die(self: Task, key: str) -> None:
    """Kill its own process at every run."""
    record("ran", key=key, **seen(self))
    os.kill(os.getpid(), signal.SIGKILL)


@task(rate_limit="4/s")
def limited(self: Task, key: str, number: int = 0) -> None:
    """Record that it ran; four a second."""
    record("ran", key=key, number=number, **seen(self))


@task()
def endure(self: Task, key: str) -> None:
    """Run until a time limit ends it; record a soft one."""
    record("started", key=key, **seen(self))
    try:
        while True:
            time.sleep(0.01)
    except SoftTimeLimitExceeded:
        record("soft_limit", key=key)
        raise


@task()
def fail(self: Task, key: str) -> None:
    """Fail."""
    record("ran", key=key, **seen(self))
    raise ValueError(key)


@task(max_retries=3)
def retry(self: Task, key: str, times: int, countdown: float = 0) -> None:
    """Fail so many times, then succeed."""
    record("ran", key=key, **seen(self))
    if self.request.retries < times:
        raise self.retry(countdown=countdown)


@task(autoretry_for=(ValueError,), retry_backoff=False, default_retry_delay=0, max_retries=2)
def autoretry(self: Task, key: str) -> None:
    """Fail until Celery gives up."""
    record("ran", key=key, **seen(self))
    raise ValueError(key)


@task()
def replace(self: Task, key: str) -> None:
    """Let another task take its place."""
    record("ran", key=key, **seen(self))
    raise self.replace(note.s(key, 1))


@task()
def total(self: Task, numbers: list[int], key: str) -> int:
    """Add up, as a chord's body."""
    record("total", key=key, total=sum(numbers), **seen(self))
    return sum(numbers)


@task()
def told(self: Task, *args: object, key: str) -> None:
    """Record that it was called back."""
    record("told", key=key, **seen(self))


@task()
def stamped(self: Task, key: str) -> None:
    """Record the stamps of canvas."""
    record("stamped", key=key, stamps=self.request.stamps, **seen(self))


@task()
def spawn(self: Task, key: str, how: str, options: dict[str, object] | None = None) -> None:
    """Call `note` in one of the ways Celery knows."""
    record("parent", key=key, **seen(self))
    options = options or {}
    signature = note.s(key).set(**options)
    match how:
        case "delay":
            note.delay(key)
        case "apply_async":
            note.apply_async((key,), **options)
        case "send_task":
            self.app.send_task(note.name, (key,), **options)
        case "group":
            group(signature, signature).apply_async()
        case "chain":
            chain(signature, note.si(key, 1)).apply_async()
        case "chord":
            chord([signature, signature])(total.s(key=key))
        case "chord of bands":
            header = [note.s(key, number).set(band="optional") for number in range(3)]
            chord(header)(total.s(key=key).set(band="critical"))
        case "failing chord":
            result = chord([signature, fail.s(key)])(total.s(key=key))
            record("chord", key=key, id=result.id)
        case "link":
            note.apply_async((key,), link=told.s(key=key), **options)
        case "link_error":
            fail.apply_async((key,), link_error=told.si(key=key), **options)
        case _:
            raise ValueError(how)


@control_command()
def stall(state: Panel, key: str, gate: str, *, stops: bool = False) -> None:
    """Keep the main process busy until a file exists.

    Args:
        state: Of the worker.
        key: Of the record.
        gate: The file's path.
        stops: Whether SIGTERM comes in the loop's next turn.
    """
    record("stalled", key=key)
    _wait_for(gate)
    if stops:
        state.consumer.hub.call_soon(os.kill, os.getpid(), signal.SIGTERM)
