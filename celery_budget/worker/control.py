"""Remote control: what a worker holds, and moving and cancelling it.

The bootstep registers itself here; importing this module tells Celery's control panel the
commands. They run in the worker's main process and touch only its memory.
"""

from __future__ import annotations

from math import inf
from time import monotonic, time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from celery.worker.control import control_command, inspect_command
from celery.worker.control import hello as celery_hello
from msgspec.structs import replace

from celery_budget.core.decisions import Reason, Wait
from celery_budget.core.obstacles import is_too_large, lacking, paused
from celery_budget.errors import HeaderError
from celery_budget.headers import HEADER, Stamp, read, write
from celery_budget.worker import seams

if TYPE_CHECKING:
    from celery.worker.consumer import Consumer

    from celery_budget.worker.bootstep import BandStep
    from celery_budget.worker.intake import Held

#: Tickets listed in full in one answer; the counts are always whole.
MOST_LISTED = 100

#: Sketches in one answer, some 300 bytes each.
MOST_SKETCHES = 1_000

#: What whoever looks at a worker is told of its node.
PRESSED = "its node is under pressure, and lesser bands start elsewhere"

#: Moves told to a worker that starts. An answer goes to the broker as one message.
MOST_MOVES = 1_000

#: The step of each consumer in this process that has a policy.
steps: WeakKeyDictionary[Consumer, BandStep] = WeakKeyDictionary()

Reply = dict[str, Any]


def _step(state: Any) -> BandStep | None:
    return steps.get(state.consumer)


def _off() -> str:
    return "this worker has no policy: tasks run as without celery-budget"


@inspect_command(default_timeout=1.0)
def budget(state: Any, **_: object) -> Reply:
    """Bands of this worker: slots, what runs, what is held and why."""
    step = _step(state)
    if step is None:
        return {"bands": {}, "note": _off()}
    pump = step.pump
    dispatcher = pump.dispatcher
    now = time()
    return {
        "slots": dispatcher.slots,
        "free": dispatcher.free,
        "freezes": pump.preempter.freezes,
        "yields": pump.preempter.yields,
        "evictions": pump.preempter.evictions,
        "guests": pump.preempter.guests,
        "bands": {
            band.name: {
                "running": dispatcher.running(band.name),
                "frozen": dispatcher.frozen(band.name),
                "held": dispatcher.held(band.name),
                "reserve": dispatcher.reserve(band.name),
                "throttled_to": round(dispatcher.throttled_to(band.name), 3),
                "throttled_by": dispatcher.throttled_by(band.name),
                "expected_s": round(dispatcher.expected_s(band.name), 6),
                "degraded": dispatcher.is_degraded(band.name),
                "window": dispatcher.window(band.name),
            }
            for band in step.policy.bands
        },
        "running": [_running(held) for held in list(pump.running)[:MOST_LISTED]],
        "held": _listed(step, now),
        "moves": len(step.moves),
        "needed": None if step.scaling is None else step.scaling.needed,
        "need": None if dispatcher.need is None else round(dispatcher.need, 3),
        "note": "; ".join(filter(None, (step.live.note, PRESSED if dispatcher.is_pressed else ""))),
    }


@inspect_command(default_timeout=1.0)
def budget_profiles(state: Any, **_: object) -> Reply:
    """What this worker knows of what its task types use; each sketch as a row of numbers."""
    step = _step(state)
    accounts = None if step is None else step.pump.dispatcher.accounts
    if accounts is None:
        return {"profiles": {}, "note": "this worker has no budgets, and learns nothing"}
    profiles = accounts.profiles.listed(MOST_SKETCHES)
    return {
        "profiles": {
            task: {resource: sketch.flat() for resource, sketch in profile.items()}
            for task, profile in profiles.items()
        }
    }


@inspect_command(default_timeout=1.0)
def budget_forecast(state: Any, **_: object) -> Reply:
    """What this worker knows of arrivals, by band, week and task type; whoever asks reckons."""
    step = _step(state)
    if step is None:
        return {"bands": {}, "note": _off()}
    forecast = step.pump.dispatcher.forecast
    return {
        "until": forecast.until,
        "bands": {
            band: {
                str(week): {task: [row.busy_us, *row.counts] for task, row in rows.items()}
                for week, rows in season.weeks.items()
            }
            for band, season in forecast.seasons.items()
        },
    }


@inspect_command(args=[("task_id", str)], signature="<task_id>", default_timeout=1.0)
def budget_status(state: Any, task_id: str, **_: object) -> Reply:
    """What this worker knows of one task: running, held and why, or nothing."""
    step = _step(state)
    number = 0 if step is None else step.moves.number(task_id)
    if step is not None:
        for held in step.pump.running:
            if held.id == task_id:
                return {"state": "running", "number": number, **_running(held)}
        for ticket in step.pump.dispatcher.find(task_id):
            return {"state": "held", "number": number, **_held(step, ticket, time())}
    parked = _parked(state, task_id)
    if parked is None:
        return {"state": None, "number": number}
    request, reason = parked
    stamp = _stamp(request)
    found = {"id": task_id, "task": request.type, "band": stamp and stamp.band, "number": number}
    if reason == "running":
        return {"state": "running", "for_s": None, **found}
    until = request.eta.timestamp() if reason == "eta" else None
    return {"state": "held", "reason": reason, "until": until, **found}


@control_command(
    args=[("task_id", str), ("band", str)], signature="<task_id> <band>", default_timeout=1.0
)
def budget_move(state: Any, task_id: str, band: str, **_: object) -> Reply:
    """Let a task this worker holds wait in another band."""
    found = budget_status(state, task_id)
    answer = {"moved": 0, **found}
    step = _step(state)
    if found["state"] != "held" or found["band"] == band:
        return {"ok": answer}
    if step is None:
        return {"error": _off(), **answer}
    if step.policy.band(band) is None:
        known = ", ".join(known.name for known in step.policy.bands)
        return {"error": f"this worker's policy has no band {band!r}: {known}", **answer}
    parked = _parked(state, task_id)
    if parked is None:
        answer["moved"] = step.pump.move(task_id, band)
    else:
        # It has no ticket yet: what it brings along when it gets one decides.
        request, _reason = parked
        stamp = _stamp(request) or Stamp(band, correlation_id=task_id, at=time())
        request.request_dict[HEADER] = write(replace(stamp, band=band))
        answer["moved"] = 1
    return {"ok": answer}


@control_command(
    args=[("task_id", str), ("number", int)],
    signature="<task_id> <number>",
    default_timeout=1.0,
    visible=False,
)
def budget_moved(state: Any, task_id: str, number: int, **_: object) -> Reply:
    """Learn that a newer copy of a task was published: older ones are dropped."""
    step = _step(state)
    if step is None:
        return {"error": _off()}
    step.moves.learn(task_id, int(number))
    return {"ok": {"dropped": step.pump.drop_stale(task_id)}}


@control_command(args=[("task_id", str)], signature="<task_id>", default_timeout=1.0)
def budget_cancel(state: Any, task_id: str, **_: object) -> Reply:
    """Revoke a task, and account at once for copies of it that this worker holds."""
    seams.revoked_ids().add(task_id)
    step = _step(state)
    cancelled = 0 if step is None else step.pump.cancel(task_id)
    return {"ok": {"cancelled": cancelled, **budget_status(state, task_id)}}


@control_command(default_timeout=1.0, visible=False)
def budget_refresh(state: Any) -> Reply:
    """Look at once for what operators have changed."""
    step = _step(state)
    if step is None:
        return {"error": _off()}
    step.refresh()
    return {"ok": True}


@inspect_command(default_timeout=1.0)
def budget_live(state: Any, **_: object) -> Reply:
    """What operators have changed, as this worker follows it."""
    step = _step(state)
    if step is None:
        return {"version": 0, "problem": _off()}
    change = step.live.change
    problem = change.problem
    if not step.has_ledger:
        problem = "it has no ledger: set budget_ledger_url to the URL of a Redis server"
    return {
        "version": change.live.version,
        "policy": bool(change.live.policy) and not change.problem,
        "pauses": [pause.target for pause in change.live.pauses],
        "problem": problem,
    }


@inspect_command(name="hello", visible=False)
def hello(state: Any, from_node: str, **given: Any) -> Reply | None:
    """Answer a worker that starts as Celery does, and tell it which moves this one knows of."""
    reply: Reply | None = celery_hello(state, from_node, **given)
    step = _step(state)
    if reply is not None and step is not None and len(step.moves):
        reply[seams.MINGLED] = step.moves.known(MOST_MOVES)
    return reply


def _running(held: Held) -> Reply:
    return {
        "id": held.id,
        "task": held.task,
        "band": held.band,
        "tenant": held.tenant,
        "for_s": round(monotonic() - held.started, 3),
        "is_frozen": held.frozen_at > 0,
    }


def _held(step: BandStep, held: Any, now: float) -> Reply:
    wait = step.pump.dispatcher.explain(held.id, now)
    return {
        **_waiting(held, now),
        "reason": None if wait is None else wait.reason.value,
        "ahead": None if wait is None else wait.ahead,
        "account": None if wait is None else wait.account or None,
        "pause": None if wait is None else wait.pause or None,
        "until": None if wait is None else _until(wait),
    }


def _until(wait: Wait) -> float | None:
    """Tell until when a ticket is kept from starting, where somebody knows."""
    return wait.until if (wait.account or wait.pause) and wait.until < inf else None


def _listed(step: BandStep, now: float) -> list[Reply]:
    """List held tickets, each with the reason of its band.

    What blocks one blocks its band, but for budgets. An explanation looks at all that is held, so
    each band is explained once.
    """
    dispatcher = step.pump.dispatcher
    reasons: dict[str, str | None] = {}
    listed = []
    for held in dispatcher.listed(MOST_LISTED):
        account, pause = lacking(held), paused(held)
        reason: str | None
        if pause is not None:
            reason = Reason.PAUSED.value
        elif account is not None:
            reason = Reason.BUDGET.value
        elif is_too_large(held):
            reason = Reason.MEMORY.value
        else:
            if held.band not in reasons:
                wait = dispatcher.explain(held.id, now)
                reasons[held.band] = None if wait is None else wait.reason.value
            reason = reasons[held.band]
        named = {"reason": reason, "account": account, "pause": pause}
        listed.append({**_waiting(held, now), **named})
    return listed


def _waiting(held: Any, now: float) -> Reply:
    return {
        "id": held.id,
        "task": held.task,
        "band": held.band,
        "tenant": held.tenant,
        "for_s": round(now - held.published, 3) if held.published else None,
    }


def _parked(state: Any, task_id: str) -> tuple[Any, str] | None:
    """Find a request that is here and has no ticket, and say why it waits, or that it runs."""
    for request in seams.scheduled(state.consumer):
        if request.id == task_id:
            return request, "eta"
    for request in seams.rate_limited(state.consumer):
        if request.id == task_id:
            return request, "rate_limit"
    step = _step(state)
    if step is not None:
        return None
    found = seams.fetched(task_id)
    if found is None:
        return None
    request, is_running = found
    return request, "running" if is_running else "fetched"


def _stamp(request: Any) -> Stamp | None:
    """Read what a request brought along; None where the worker settles Terms itself."""
    try:
        return read(request.request_dict.get(HEADER))
    except HeaderError:
        return None
