"""What workers answered, as values.

A worker is asked with our own commands. One without celery-budget cannot answer them and is
asked in Celery's words. Called by the client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_budget.client.fleet import BandLoad, Fleet, WorkerLoad
from celery_budget.client.status import State, Status
from celery_budget.client.workers import Reply, Workers
from celery_budget.policy.model import Policy


@dataclass(frozen=True, slots=True)
class Answers:
    """What the workers know of one task.

    Attributes:
        status: Where it is, if a worker has it.
        number: Highest version that is known of it, see `worker/moves.py`.
        workers: Who answered.
    """

    status: Status | None
    number: int
    workers: tuple[str, ...]


def ask(workers: Workers, task_id: str, timeout: float) -> Answers:
    """Ask all workers for a task, up to the first that has it."""
    replies = workers.ask(
        "budget_status",
        {"task_id": task_id},
        timeout,
        is_enough=lambda reply: reply.get("state") is not None,
    )
    numbers = [number for reply in replies.values() if type(number := reply.get("number")) is int]
    status = None
    for worker, reply in replies.items():
        if reply.get("state") is not None:
            status = _status(task_id, worker, reply)
    plain = [worker for worker, reply in replies.items() if "state" not in reply]
    if status is None and plain:
        status = _ask_plain(workers, plain, task_id, timeout)
    return Answers(status, max(numbers, default=0), tuple(replies))


def _ask_plain(workers: Workers, plain: list[str], task_id: str, timeout: float) -> Status | None:
    """Ask workers without celery-budget."""
    replies = workers.ask("query_task", {"ids": [task_id]}, timeout, destination=plain)
    for worker, reply in replies.items():
        found = reply.get(task_id)
        if isinstance(found, list | tuple) and found:
            phase = found[0]
            if phase == "active":
                return Status(task_id, State.RUNNING, worker=worker)
            reason = "eta" if phase == "scheduled" else "fetched"
            return Status(task_id, State.HELD, worker=worker, reason=reason)
    return None


def _status(task_id: str, worker: str, reply: Reply) -> Status:
    return Status(
        task_id,
        State(str(reply["state"])),
        task=_text(reply, "task"),
        worker=worker,
        band=_text(reply, "band"),
        reason=_text(reply, "reason"),
        ahead=_whole(reply, "ahead"),
        for_s=_number(reply, "for_s"),
        until=_number(reply, "until"),
        account=_text(reply, "account"),
        pause=_text(reply, "pause"),
    )


def fleet_of(policy: Policy, replies: Mapping[str, Reply], depths: Mapping[str, int]) -> Fleet:
    """Join the workers' answers and the queues' depths, those of lanes in that of their queue."""
    bands = () if policy.is_empty else policy.bands
    summed: dict[str, int] = {}
    for queue, depth in depths.items():
        summed[policy.base(queue)] = summed.get(policy.base(queue), 0) + depth
    return Fleet(
        bands=tuple(band.name for band in bands),
        queues={band.name: band.queues for band in bands},
        depths=summed,
        workers={name: _load(replies[name]) for name in sorted(replies)},
    )


def _load(reply: Reply) -> WorkerLoad:
    match reply:
        case {"slots": int(slots), "bands": {**bands}}:
            note = _text(reply, "note") or ""
            return WorkerLoad(slots, {str(name): _band(load) for name, load in bands.items()}, note)
        case {"note": str(note)}:
            return WorkerLoad(None, {}, note)
        case _:
            return WorkerLoad(None, {}, "this worker runs without celery-budget")


def _band(load: object) -> BandLoad:
    match load:
        case {"running": int(running), "held": int(held), **others}:
            # Workers of earlier releases tell less.
            throttled, expected = _number(others, "throttled_to"), _number(others, "expected_s")
            return BandLoad(
                running,
                held,
                _whole(others, "frozen") or 0,
                1.0 if throttled is None else throttled,
                expected or 0.0,
                _text(others, "throttled_by") or "",
            )
        case _:
            return BandLoad(0, 0)


def _text(reply: Mapping[Any, object], field: str) -> str | None:
    value = reply.get(field)
    return value if isinstance(value, str) else None


def _whole(reply: Mapping[Any, object], field: str) -> int | None:
    value = reply.get(field)
    return value if isinstance(value, int) else None


def _number(reply: Mapping[Any, object], field: str) -> float | None:
    value = reply.get(field)
    return float(value) if isinstance(value, int | float) else None
