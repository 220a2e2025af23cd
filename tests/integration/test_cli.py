"""`celery -A app budget ...` as its own process, against a real broker and a real worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import LoadApp, StartWorker, WaitFor
from tests.journal import Journal
from tests.servers import Broker
from tests.worker import ROOT, Worker

MODULE = "tests.apps.bands"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def app(load_app: LoadApp, redis_broker: Broker) -> ModuleType:
    """Offer the app of three bands as a sender."""
    return load_app(MODULE, redis_broker)


@pytest.fixture
def worker(redis_broker: Broker, worker_process: StartWorker) -> Worker:
    """Start a worker with one slot."""
    return worker_process(MODULE, "--without-mingle", broker=redis_broker, concurrency=1)


@pytest.fixture
def run(redis_broker: Broker, tmp_path: Path) -> Run:
    """Run `celery -A <app> <arguments>` with our command as its entry point offers it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    metadata = tmp_path / "site" / "entry_of_this_checkout-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: entry-of-this-checkout\n")
    points = project["entry-points"]["celery.commands"]
    lines = [f"{name} = {place}" for name, place in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[celery.commands]", *lines]))

    def run(*arguments: str, broker: str = redis_broker.url) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "celery", "-A", MODULE, "-C", *arguments],
            env={
                **os.environ,
                "CELERY_BROKER_URL": broker,
                "PYTHONPATH": str(metadata.parent),
                "COLUMNS": "120",
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def queued(
    app: ModuleType, worker: Worker, journal: Journal, wait_for: WaitFor, tmp_path: Path
) -> str:
    """Publish five notes behind a full slot, and name the last one."""
    app.wait_for.delay(str(tmp_path / "gate"))
    wait_for(lambda: journal.count("waiting") == 1)
    ids = [app.note.apply_async((str(n),), band="optional").id for n in range(5)]
    last: str = ids[-1]
    return last


def test_status_shows_bands_and_workers(run: Run, queued: str, worker: Worker) -> None:
    """The first question in an incident: which band waits, and for whom."""
    table = run("budget", "status")
    described = json.loads(run("budget", "status", "--json").stdout)
    bands = {band["name"]: band for band in described["bands"]}

    assert 0 == table.returncode
    assert worker.name in table.stdout
    assert ["critical", "important", "optional"] == list(bands)
    assert 1 == bands["important"]["running"]
    assert 5 == bands["optional"]["queued"] + bands["optional"]["held"]
    assert described["wanted_slots"] >= 1 <= described["wanted_workers"]
    assert [(worker.name, 1)] == [(w["name"], w["slots"]) for w in described["workers"]]


def test_status_of_a_task_is_told_to_people_and_programs(run: Run, queued: str) -> None:
    """Both read the same command."""
    told = run("budget", "status", queued)
    described = json.loads(run("budget", "status", queued, "--json").stdout)

    assert 0 == told.returncode
    assert f"{queued} (tests.apps.bands.note): queued\n" in told.stdout
    assert ("queued", "optional", "optional") == (
        described["state"],
        described["queue"],
        described["band"],
    )
    assert described["explanation"] in told.stdout


def test_a_task_goes_up_down_and_away(run: Run, queued: str, worker: Worker) -> None:
    """Each command says where the task is now."""
    steps = [
        run("budget", "move", queued, "critical"),
        run("budget", "demote", queued),
        run("budget", "promote", queued),
        run("budget", "cancel", queued),
    ]

    assert [0, 0, 0, 0] == [step.returncode for step in steps]
    assert [
        f"{queued} waits in band critical now (was optional), at queue critical.\n",
        f"{queued} waits in band important now (was critical), at queue celery.\n",
        f"{queued} waits in band critical now (was important), at queue critical.\n",
        f"{queued} is dropped when it reaches a worker; 1 worker will not start it.\n",
    ] == [step.stdout for step in steps]


def test_what_is_wrong_gives_status_one(run: Run, worker: Worker) -> None:
    """A script in an incident acts on the exit status."""
    unknown = run("budget", "status", "no-such-task")
    unmoved = run("budget", "move", "no-such-task", "critical")
    worker.stop()
    nobody = run("budget", "status", "--timeout", "0.2")
    unheard = run("budget", "cancel", "no-such-task", "--timeout", "0.2")
    unreachable = run("budget", "status", broker="redis://127.0.0.1:1/0")

    assert [1, 1, 1, 1, 1] == [
        found.returncode for found in (unknown, unmoved, nobody, unheard, unreachable)
    ]
    assert "no-such-task: unknown" in unknown.stdout
    assert "task no-such-task was not found; searched: " in unmoved.stderr
    assert "No worker answered" in nobody.stdout
    assert "No worker answered" in unheard.stdout
    assert "cannot be reached" in unreachable.stderr


def test_a_running_task_is_not_reported_as_cancelled(
    app: ModuleType, run: Run, worker: Worker, journal: Journal, tmp_path: Path, wait_for: WaitFor
) -> None:
    """Nobody may believe that it stopped."""
    running = app.wait_for.delay(str(tmp_path / "gate")).id
    wait_for(lambda: journal.count("waiting") == 1)

    told = run("budget", "cancel", running)

    assert 1 == told.returncode
    assert f"{running} runs on {worker.name} and goes on." in told.stdout


def test_misuse_gives_status_two(run: Run) -> None:
    """It must not look like a finding about the tasks."""
    band = run("budget", "move", "any", "crtical")
    option = run("budget", "status", "--timeout", "0")

    assert [2, 2] == [band.returncode, option.returncode]
    assert "did you mean critical?" in band.stderr


def test_inspect_and_control_know_our_commands(run: Run, queued: str, worker: Worker) -> None:
    """Celery's own commands refuse one that their process has not loaded."""
    inspected = json.loads(run("inspect", "budget", "--json").stdout)
    moved = run("control", "budget_move", "no-such-task", "critical", "--json")
    listed = run("control", "--list").stdout

    assert [(worker.name, 1)] == [(name, answer["slots"]) for name, answer in inspected.items()]
    assert 0 == json.loads(moved.stdout)[0][worker.name]["ok"]["moved"]
    assert {"budget_cancel", "budget_move"} == {
        line.split()[0] for line in listed.splitlines() if line.strip().startswith("budget")
    }


def test_an_app_without_install_is_told_what_to_do(run: Run) -> None:
    """The command is there as soon as the package is installed."""
    told = run("-A", "tests.apps.stock", "budget", "status")

    assert 2 == told.returncode
    assert "from celery_budget import install; install(app)" in told.stderr


def test_the_catalogue_needs_no_worker_and_no_ledger_without_budgets(run: Run) -> None:
    """It lists the app's task types and their bands all the same."""
    listed = json.loads(run("budget", "catalogue", "--json", broker="amqp://nobody:1").stdout)
    shown = run("budget", "catalogue", "*.note")

    assert 0 == shown.returncode
    assert "tests.apps.bands.note" in shown.stdout
    assert "tests.apps.bands.note" in {entry["task"] for entry in listed}
