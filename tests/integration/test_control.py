"""Remote control of real workers: what they answer, and how they learn of moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.conftest import LoadApp, StartWorker, WaitFor
from tests.journal import Journal
from tests.servers import Broker

MODULE = "tests.apps.bands"

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def app(load_app: LoadApp, redis_broker: Broker) -> Celery:
    """Offer the app of three bands; how workers are asked is the same on every broker."""
    found: Celery = load_app(MODULE, redis_broker).app
    return found


@pytest.fixture
def ask(app: Celery) -> Ask:
    """Ask one worker until it answers: it says "ready" a moment before it listens."""

    def ask(command: str, node: str, **arguments: object) -> dict[str, Any]:
        for _ in range(20):
            answers = app.control.broadcast(
                command, arguments=arguments, destination=[node], reply=True, timeout=0.5, limit=1
            )
            if answers:
                found: dict[str, Any] = answers[0][node]
                return found
        pytest.fail(f"{node} has not answered {command}")

    return ask


def test_a_worker_tells_its_bands(
    app: Celery,
    ask: Ask,
    redis_broker: Broker,
    worker_process: StartWorker,
    tmp_path: Path,
    journal: Journal,
    wait_for: WaitFor,
) -> None:
    """`celery inspect budget` is what an operator sees of a worker."""
    worker = worker_process(MODULE, "--without-mingle", broker=redis_broker, concurrency=2)
    app.tasks[f"{MODULE}.wait_for"].delay(str(tmp_path / "gate"))
    wait_for(lambda: journal.count("waiting") == 1)

    answer = ask("budget", worker.name)

    assert (2, 1) == (answer["slots"], answer["free"])
    assert ["critical", "important", "optional"] == list(answer["bands"])
    assert (1, 0) == (answer["bands"]["important"]["running"], answer["bands"]["important"]["held"])
    assert [("important", f"{MODULE}.wait_for")] == [
        (task["band"], task["task"]) for task in answer["running"]
    ]


def test_a_held_task_moves_by_control_command_alone(
    app: Celery,
    ask: Ask,
    redis_broker: Broker,
    worker_process: StartWorker,
    tmp_path: Path,
    wait_for: WaitFor,
) -> None:
    """`celery control budget_move` needs no client."""
    worker = worker_process(MODULE, "--without-mingle", broker=redis_broker, concurrency=1)
    note = app.tasks[f"{MODULE}.note"]
    held = note.apply_async(("held",), band="optional", countdown=1).id
    wait_for(lambda: ask("budget_status", worker.name, task_id=held)["state"] == "held")
    app.tasks[f"{MODULE}.wait_for"].delay(str(tmp_path / "gate"))
    wait_for(lambda: ask("budget_status", worker.name, task_id=held)["reason"] == "no_slot")

    moved = ask("budget_move", worker.name, task_id=held, band="critical")
    listed = ask("budget", worker.name)["held"]
    unknown = ask("budget_move", worker.name, task_id=held, band="crtical")

    assert (1, "optional") == (moved["ok"]["moved"], moved["ok"]["band"])
    assert [(held, "critical", "no_slot")] == [
        (task["id"], task["band"], task["reason"]) for task in listed
    ]
    assert (
        "this worker's policy has no band 'crtical': critical, important, optional"
        == (unknown["error"])
    )


def test_a_worker_without_a_policy_answers_too(
    app: Celery,
    ask: Ask,
    redis_broker: Broker,
    worker_process: StartWorker,
    tmp_path: Path,
    journal: Journal,
    wait_for: WaitFor,
) -> None:
    """While a policy is rolled out, half of the fleet has none yet."""
    worker = worker_process(
        MODULE,
        "--without-mingle",
        broker=redis_broker,
        concurrency=1,
        env={"CELERY_BUDGET_TEST_POLICY": "none"},
    )
    running = app.tasks[f"{MODULE}.wait_for"].delay(str(tmp_path / "gate")).id
    wait_for(lambda: journal.count("waiting") == 1)
    waiting = app.tasks[f"{MODULE}.note"].delay("fetched").id
    wait_for(lambda: ask("budget_status", worker.name, task_id=waiting)["state"] == "held")

    answers = {
        command: ask(command, worker.name, task_id=waiting, band="critical")
        for command in ("budget_status", "budget_move")
    }

    assert {} == ask("budget", worker.name)["bands"]
    assert "running" == ask("budget_status", worker.name, task_id=running)["state"]
    assert "fetched" == answers["budget_status"]["reason"]
    assert "this worker has no policy" in answers["budget_move"]["error"]


def test_a_rate_limited_task_is_held_for_that_reason(
    app: Celery, ask: Ask, redis_broker: Broker, worker_process: StartWorker, wait_for: WaitFor
) -> None:
    """Celery lists it nowhere: it is neither scheduled nor reserved."""
    worker = worker_process(MODULE, "--without-mingle", broker=redis_broker, concurrency=1)
    note = app.tasks[f"{MODULE}.note"]
    app.control.rate_limit(note.name, "1/h", reply=True, limit=1, timeout=5)
    note.delay("first")
    second = note.delay("second").id

    wait_for(lambda: ask("budget_status", worker.name, task_id=second)["state"] is not None)

    assert "rate_limit" == ask("budget_status", worker.name, task_id=second)["reason"]


def test_moves_survive_a_restart(
    app: Celery,
    ask: Ask,
    redis_broker: Broker,
    worker_process: StartWorker,
    tmp_path: Path,
    journal: Journal,
    wait_for: WaitFor,
) -> None:
    """The stale copy may wait for longer than the worker lives."""
    database = f"--statedb={tmp_path / 'state'}"
    worker = worker_process(MODULE, "--without-mingle", database, broker=redis_broker)
    ask("budget_moved", worker.name, task_id="moved", number=1)
    worker.stop()
    app.tasks[f"{MODULE}.note"].apply_async(("stale",), task_id="moved")
    app.tasks[f"{MODULE}.note"].delay("other")

    again = worker_process(MODULE, "--without-mingle", database, broker=redis_broker)
    wait_for(lambda: journal.count("noted") == 1)
    wait_for(lambda: "this copy of it is dropped" in again.log)

    assert ["other"] == [entry["text"] for entry in journal.entries("noted")]


def test_a_worker_that_starts_learns_moves_from_the_others(
    ask: Ask, redis_broker: Broker, worker_process: StartWorker
) -> None:
    """It may be the one that meets the stale copy."""
    old = worker_process(MODULE, "--without-mingle", broker=redis_broker)
    ask("budget_moved", old.name, task_id="moved", number=3)
    new = worker_process(MODULE, broker=redis_broker)

    assert 3 == ask("budget_status", new.name, task_id="moved")["number"]
