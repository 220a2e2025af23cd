"""Running tasks are frozen while more urgent ones run, and go on afterwards where they were."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import psutil
import pytest

from tests.conftest import WaitFor
from tests.fleet import Fleet, are_held
from tests.worker import Worker

pytestmark = pytest.mark.parametrize("fleet", ["redis", "rabbitmq"], indirect=True, scope="module")

SLOTS = 2

#: Freezes that the test of random ones waits for; more take longer and find more.
FREEZES = int(os.environ.get("CELERY_BUDGET_FREEZES", "100"))

POLICY: dict[str, Any] = {
    "default_band": "important",
    "bands": {
        "critical": {"queues": ["critical"], "preempts": True},
        "important": {"queues": ["celery", "important"], "weight": 4},
        "optional": {"queues": ["optional"], "preempt": ["freeze"]},
    },
    "preemption": {"spare": 1, "max_freeze": "30s"},
}


@pytest.fixture
def shop(fleet: Fleet) -> ModuleType:
    """Publish from this process; each test starts its own workers, and none is left over."""
    for worker in fleet.workers:
        worker.kill()
    return fleet.sender(policy=POLICY)


def start(fleet: Fleet, *arguments: str, **shop: Any) -> Worker:
    """Start a worker that freezes."""
    return fleet.start(*arguments, concurrency=SLOTS, **{"policy": POLICY, **shop})


def fill(shop: ModuleType, wait_for: WaitFor, fleet: Fleet, key: str, gate: Path) -> None:
    """Let tasks that may be frozen use every slot."""
    for number in range(SLOTS):
        shop.wait.apply_async((key, str(gate), number), band="optional")
    wait_for(lambda: fleet.journal.count("started", key=key) == SLOTS, what="full slots")


def stopped(worker: Worker) -> list[int]:
    """List the children that are stopped."""
    children = psutil.Process(worker.pid).children()
    return [child.pid for child in children if child.status() == psutil.STATUS_STOPPED]


def freeze_one(shop: ModuleType, wait_for: WaitFor, worker: Worker, key: str, gate: Path) -> None:
    """Let an urgent task run until a file exists, and a task stand still for it."""
    shop.wait.apply_async((f"{key} urgent", str(gate)), band="critical")
    wait_for(lambda: len(stopped(worker)) == 1, what="a frozen task")


def test_a_critical_task_runs_while_every_slot_is_busy(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """One of the two that run is frozen for it and goes on afterwards; both end once."""
    worker = start(fleet)
    fill(shop, wait_for, fleet, key, ends[0])
    shop.wait.apply_async((f"{key} urgent", str(ends[1])), band="critical")
    wait_for(lambda: fleet.journal.count("started", key=f"{key} urgent") == 1, what="the urgent")
    frozen = stopped(worker)
    ends[1].touch()
    wait_for(lambda: not stopped(worker), what="the frozen task to go on")
    ends[0].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == SLOTS, what="both")

    assert 1 == len(frozen)
    assert SLOTS == fleet.journal.count("started", key=key)


def test_a_frozen_task_goes_on_at_last_while_the_urgent_one_still_runs(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """After max_freeze it runs beside the slots, and nothing of it was lost."""
    policy = POLICY | {"preemption": {"max_freeze": "500ms"}}
    worker = start(fleet, policy=policy)
    fill(shop, wait_for, fleet, key, ends[0])
    freeze_one(shop, wait_for, worker, key, ends[1])
    wait_for(lambda: not stopped(worker), what="the frozen task to go on")
    ends[0].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == SLOTS, what="both")

    assert 0 == fleet.journal.count("ended", key=f"{key} urgent")


def test_the_clock_of_a_time_limit_stands_still(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """Else a task would be killed for a time in which it could do nothing."""
    worker = start(fleet)
    limited = shop.pause.apply_async((key, 0.5, 1), band="optional", time_limit=3).id
    shop.wait.apply_async((key, str(ends[0]), 2), band="important")
    wait_for(lambda: fleet.journal.count("started", key=key) == SLOTS, what="full slots")
    # Longer than the limit allows.
    shop.pause.apply_async((f"{key} urgent", 4.0), band="critical")
    wait_for(lambda: len(stopped(worker)) == 1, what="a frozen task")
    outcome = fleet.outcome(limited)

    assert ("SUCCESS", None) == outcome
    assert "Hard time limit" not in worker.log


def test_a_time_limit_goes_on_after_the_freeze(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """What was left of it counts, and the task is killed in the end."""
    worker = start(fleet)
    limited = shop.wait.apply_async((key, str(ends[3]), 1), band="optional", time_limit=2).id
    shop.wait.apply_async((key, str(ends[0]), 2), band="important")
    wait_for(lambda: fleet.journal.count("started", key=key) == SLOTS, what="full slots")
    freeze_one(shop, wait_for, worker, key, ends[1])
    ends[1].touch()
    outcome = fleet.outcome(limited)
    wait_for(lambda: "Hard time limit" in worker.log, what="the log")

    assert "FAILURE" == outcome[0]


def test_a_frozen_task_can_be_revoked(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """A stopped process takes no signal: it goes on for it."""
    worker = start(fleet)
    shop.wait.apply_async((key, str(ends[0]), 1), band="important")
    revoked = shop.wait.apply_async((key, str(ends[3]), 2), band="optional").id
    wait_for(lambda: fleet.journal.count("started", key=key) == SLOTS, what="full slots")
    freeze_one(shop, wait_for, worker, key, ends[1])
    shop.app.control.revoke(revoked, terminate=True)
    outcome = fleet.outcome(revoked)
    wait_for(lambda: not stopped(worker), what="the end of the child")

    assert "REVOKED" == outcome[0]
    assert 0 == fleet.journal.count("ended", key=key)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_worker_stops_with_something_frozen(
    number: int, fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """A warm shutdown lets it end, a cold one ends it; no process is left behind."""
    worker = start(fleet)
    fill(shop, wait_for, fleet, key, ends[0])
    freeze_one(shop, wait_for, worker, key, ends[1])
    # A cold shutdown of Celery waits for a task that began just before: it ends those of which the
    # main process has heard that they began.
    wait_for(lambda: begun(shop) == SLOTS + 1, what="the worker to know of all that run")
    children = psutil.Process(worker.pid).children()
    worker.send(number)
    if number == signal.SIGTERM:
        wait_for(lambda: "Warm shutdown" in worker.log, what="the shutdown")
        for end in ends[:2]:
            end.touch()
    worker.wait()

    assert not [child for child in children if child.is_running()]
    assert fleet.journal.count("ended", key=key) == (SLOTS if number == signal.SIGTERM else 0)


def test_nothing_is_left_of_a_killed_worker(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """The kernel kills frozen children with it."""
    worker = start(fleet)
    fill(shop, wait_for, fleet, key, ends[0])
    freeze_one(shop, wait_for, worker, key, ends[1])
    children = psutil.Process(worker.pid).children()
    worker.send(signal.SIGKILL)
    worker.wait()
    wait_for(lambda: not [c for c in children if c.is_running()], what="the end of the children")


def test_a_killed_frozen_task_fails_and_its_child_is_replaced(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """As it would if it ran: the out-of-memory killer looks at frozen ones too."""
    worker = start(fleet)
    fill(shop, wait_for, fleet, key, ends[0])
    freeze_one(shop, wait_for, worker, key, ends[1])
    os.kill(stopped(worker)[0], signal.SIGKILL)
    wait_for(lambda: "WorkerLostError" in worker.log, what="the loss")
    ends[1].touch()
    ends[0].touch()
    others = [shop.note.apply_async((key, n), band="optional").id for n in range(2 * SLOTS)]
    outcomes = [fleet.outcome(other)[0] for other in others]

    assert ["SUCCESS"] * 2 * SLOTS == outcomes
    assert SLOTS - 1 == fleet.journal.count("ended", key=key)


def test_only_what_may_be_frozen_is(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """Important tasks are below the critical one too, and were not declared."""
    worker = start(fleet)
    for number in range(SLOTS):
        shop.wait.apply_async((key, str(ends[0]), number), band="important")
    wait_for(lambda: fleet.journal.count("started", key=key) == SLOTS, what="full slots")
    urgent = shop.wait.apply_async((f"{key} urgent", str(ends[1])), band="critical").id
    answer = shop.app.control.inspect(timeout=30, limit=1)._request("budget")
    frozen = stopped(worker)
    ends[0].touch()
    ends[1].touch()
    outcome = fleet.outcome(urgent)

    assert [] == frozen
    assert [0] == [found["bands"]["optional"]["frozen"] for found in answer.values()]
    assert "SUCCESS" == outcome[0]


def test_a_task_that_runs_programs_is_not_frozen(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """They would run on, or stay stopped for ever after the worker was killed."""
    worker = start(fleet)
    for number in range(SLOTS):
        shop.run_program.apply_async((key, str(ends[0]), number), band="optional")
    wait_for(lambda: fleet.journal.count("started", key=key) == SLOTS, what="full slots")
    urgent = shop.note.apply_async((f"{key} urgent",), band="critical").id
    wait_for(lambda: are_held(shop, [urgent]), what="a held urgent task")
    # Each try stops one for a moment, and then its programs are seen.
    frozen = freezes(shop)
    ends[0].touch()
    outcome = fleet.outcome(urgent)

    assert 0 == frozen
    assert [] == stopped(worker)
    assert "SUCCESS" == outcome[0]


def test_an_operator_sees_what_is_frozen(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """It counts as running, and its slot as used by the urgent one."""
    worker = start(fleet)
    fill(shop, wait_for, fleet, key, ends[0])
    freeze_one(shop, wait_for, worker, key, ends[1])
    (found,) = shop.app.control.inspect(timeout=30, limit=1)._request("budget").values()
    ends[1].touch()
    ends[0].touch()

    assert (SLOTS, 0) == (found["slots"], found["free"])
    assert (2, 1) == (found["bands"]["optional"]["running"], found["bands"]["optional"]["frozen"])
    assert [False, False, True] == sorted(task["is_frozen"] for task in found["running"])


@pytest.mark.parametrize(
    ("arguments", "pool", "why"),
    [
        ((), "threads", "only a prefork pool"),
        (("--autoscale", "3,1"), "prefork", "Celery's autoscaler"),
    ],
)
def test_a_worker_that_cannot_freeze_says_so(
    arguments: tuple[str, ...], pool: str, why: str, fleet: Fleet, shop: ModuleType, key: str
) -> None:
    """It works as without preemption."""
    worker = fleet.start(*arguments, pool=pool, concurrency=SLOTS, policy=POLICY)
    outcome = fleet.outcome(shop.note.apply_async((key,), band="optional").id)

    assert (
        f'do not give way by "freeze" on this worker, though that is asked for: {why}' in worker.log
    )
    assert "SUCCESS" == outcome[0]


def test_a_reserve_is_lent_and_had_back(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """No slot is empty for the sake of the critical task, and it does not wait either."""
    bands = POLICY["bands"] | {
        "critical": {"queues": ["critical"], "preempts": True, "reserve": 1},
    }
    worker = start(fleet, policy=POLICY | {"bands": bands})
    for number in range(SLOTS):
        shop.wait.apply_async((f"{key} fixed", str(ends[0]), number), band="important")
    wait_for(lambda: fleet.journal.count("started", key=f"{key} fixed") == 1, what="one")
    shop.wait.apply_async((key, str(ends[1])), band="optional")
    wait_for(lambda: fleet.journal.count("started", key=key) == 1, what="the borrower")
    assert 1 == fleet.journal.count("started", key=f"{key} fixed")
    freeze_one(shop, wait_for, worker, key, ends[2])
    wait_for(lambda: fleet.journal.count("started", key=f"{key} urgent") == 1, what="the urgent")
    for end in ends:
        end.touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 1, what="the borrower's end")


def test_a_child_that_has_just_ended_its_task_is_not_left_stopped(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """The urgent message is read first, and the end of what is frozen for it only then."""
    worker = start(fleet)
    for number, end in enumerate(ends[:SLOTS]):
        shop.wait.apply_async((key, str(end), number), band="optional")
    wait_for(lambda: fleet.journal.count("started", key=key) == SLOTS, what="full slots")
    arguments = {"key": key, "gate": str(ends[3])}
    shop.app.control.broadcast("stall", arguments=arguments)
    wait_for(lambda: fleet.journal.count("stalled", key=key) == 1, what="a busy main process")
    shop.note.apply_async((f"{key} urgent",), band="critical")
    ends[1].touch()  # the youngest gives way
    wait_for(lambda: fleet.journal.count("ended", key=key) == 1, what="the end of one")
    ends[3].touch()
    wait_for(lambda: fleet.journal.count("ran", key=f"{key} urgent") == 1, what="the urgent one")
    others = [shop.note.apply_async((key, n), band="optional").id for n in range(20)]
    outcomes = [fleet.outcome(other)[0] for other in others]
    left = stopped(worker)
    ends[0].touch()

    assert [] == left
    assert ["SUCCESS"] * 20 == outcomes


def test_random_ends_and_freezes_lose_no_task_and_no_child(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Signals meet tasks that begin and end at the same moment, and children that retire."""

    def are_done(count: int) -> bool:
        urgent = fleet.journal.count("ran", key=f"{key} u")
        return fleet.journal.count("ended", key=key) >= count <= urgent

    worker = start(fleet, "--max-tasks-per-child", "50")
    chance = Random(1)
    sent = 0
    while freezes(shop) < FREEZES:
        with shop.app.producer_pool.acquire(block=True) as producer:
            for number in range(sent, sent + 200):
                call = (key, chance.uniform(0, 0.02), number)
                shop.pause.apply_async(call, band="optional", producer=producer)
            for number in range(sent, sent + 200):
                time.sleep(0.005)  # the load: one after the other, while optional ones run
                shop.note.apply_async((f"{key} u", number), band="critical", producer=producer)
        sent += 200
        wait_for(partial(are_done, sent), what="all tasks")
    children = psutil.Process(worker.pid).children()
    worker.kill()
    wait_for(lambda: not [c for c in children if c.is_running()], what="the end of the children")

    numbers = list(range(sent))
    assert numbers == sorted(ran["number"] for ran in fleet.journal.entries("ended", key=key))
    assert numbers == sorted(ran["number"] for ran in fleet.journal.entries("ran", key=f"{key} u"))


def begun(shop: ModuleType) -> int:
    """Tell of how many running tasks the one worker has heard that they began."""
    (active,) = shop.app.control.inspect(timeout=30, limit=1).active().values()
    return sum(each["time_start"] is not None for each in active)


def freezes(shop: ModuleType) -> int:
    """Tell how many tasks the one worker has frozen."""
    (answer,) = shop.app.control.inspect(timeout=30, limit=1)._request("budget").values()
    return int(answer["freezes"])
