"""Running tasks save their progress, leave for more urgent ones, and go on where they were."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from tests.conftest import WaitFor
from tests.fleet import Fleet, are_held
from tests.proxy import Proxy
from tests.worker import Worker

pytestmark = pytest.mark.parametrize("fleet", ["redis", "rabbitmq"], indirect=True, scope="module")

SLOTS = 2

POLICY: dict[str, Any] = {
    "default_band": "important",
    "bands": {
        "critical": {"queues": ["critical"], "preempts": True},
        "important": {"queues": ["celery", "important"], "weight": 4},
        "optional": {"queues": ["optional"], "preempt": ["checkpoint"]},
    },
}


@pytest.fixture
def shop(fleet: Fleet) -> ModuleType:
    """Publish from this process; each test starts its own workers, and none is left over."""
    for worker in fleet.workers:
        worker.kill()
    fleet.settings["budget_state_url"] = fleet.results
    return fleet.sender(policy=POLICY)


def start(fleet: Fleet, *arguments: str, **shop: Any) -> Worker:
    """Start a worker whose optional tasks may leave."""
    return fleet.start(*arguments, concurrency=SLOTS, **{"policy": POLICY, **shop})


def fill(
    shop: ModuleType, wait_for: WaitFor, fleet: Fleet, key: str, gate: Path, task: str = "steps"
) -> None:
    """Let tasks that take steps use every slot."""
    for number in range(SLOTS):
        getattr(shop, task).apply_async((key, 0, str(gate), number), band="optional")
    wait_for(lambda: fleet.journal.count("started", key=key) == SLOTS, what="full slots")


def preempt(
    shop: ModuleType, wait_for: WaitFor, fleet: Fleet, key: str, gate: Path
) -> dict[str, Any]:
    """Let an urgent task run until a file exists; give the record of what left for it."""
    before = fleet.journal.count("left", key=key)
    shop.wait.apply_async((f"{key} urgent", str(gate)), band="critical")
    wait_for(lambda: fleet.journal.count("left", key=key) > before, what="one to leave")
    return fleet.journal.entries("left", key=key)[-1]


def assert_steps(fleet: Fleet, key: str) -> None:
    """Every task has taken each of its steps once, and has ended once."""
    for number in range(SLOTS):
        taken = [entry["step"] for entry in fleet.journal.entries("step", key=key, number=number)]
        assert list(range(len(taken))) == taken
        assert 1 == fleet.journal.count("ended", key=key, number=number)


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
@pytest.mark.parametrize("task", ["steps", "steps_late"])
def test_a_task_leaves_for_an_urgent_one_and_goes_on_from_there(
    pool: str,
    task: str,
    fleet: Fleet,
    shop: ModuleType,
    wait_for: WaitFor,
    key: str,
    ends: list[Path],
) -> None:
    """No step is lost and none is taken twice."""
    start(fleet, pool=pool)
    fill(shop, wait_for, fleet, key, ends[0], task)
    left = preempt(shop, wait_for, fleet, key, ends[1])
    urgent = f"{key} urgent"
    wait_for(lambda: fleet.journal.count("started", key=urgent) == 1, what="the urgent one")
    assert SLOTS == fleet.journal.count("started", key=key)
    ends[1].touch()
    wait_for(lambda: fleet.journal.count("started", key=key) == SLOTS + 1, what="the rest")
    ends[0].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == SLOTS, what="both")

    assert left["step"] == fleet.journal.entries("started", key=key)[-1]["first"] > 0
    assert_steps(fleet, key)
    assert not fleet.journal.count("caught", key=key)


@pytest.mark.parametrize("task", ["steps", "steps_late"])
def test_what_left_goes_on_before_what_has_not_begun(
    task: str, fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """It is at the front of its queue; an AMQP broker has no way there for what it gave away."""
    start(fleet)
    fill(shop, wait_for, fleet, key, ends[0], task)
    for number in range(20):
        shop.note.apply_async((f"{key} behind", number), band="optional")
    left = preempt(shop, wait_for, fleet, key, ends[1])
    ends[1].touch()
    wait_for(lambda: fleet.journal.count("started", key=key) == SLOTS + 1, what="the rest")
    ran = fleet.journal.entries("ran", key=f"{key} behind")
    resumed = fleet.journal.entries("started", key=key)[-1]
    ends[0].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == SLOTS, what="both")

    assert left["number"] == resumed["number"]
    before = sum(entry["at"] < resumed["at"] for entry in ran)
    is_last = fleet.broker.kind == "rabbitmq" and task == "steps"
    # One of them may have been fetched before.
    assert before > 5 if is_last else before <= 1


def test_it_may_leave_as_often_as_it_must(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """Each time it goes on where it was; its ended forerunners stay unseen."""
    worker = start(fleet)
    fill(shop, wait_for, fleet, key, ends[0])
    gates = [fleet.gate() for _ in range(12)]
    for runs, gate in enumerate(gates, SLOTS + 1):
        preempt(shop, wait_for, fleet, key, gate)
        gate.touch()
        wait_for(partial(_have_started, fleet, key, runs), what="it to go on")
    ends[0].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == SLOTS, what="both")

    assert_steps(fleet, key)
    assert SLOTS + len(gates) == fleet.journal.count("started", key=key)
    assert "Traceback" not in worker.log


def _have_started(fleet: Fleet, key: str, count: int) -> bool:
    return fleet.journal.count("started", key=key) == count


def test_what_has_begun_in_time_does_not_expire_while_it_waits(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """`expires` is about the start."""
    start(fleet)
    fill_one = (key, 0, str(ends[0]), 0)
    shop.steps_late.apply_async(fill_one, band="optional", expires=1.5)
    shop.wait.apply_async((f"{key} other", str(ends[2])), band="important")
    wait_for(lambda: fleet.journal.count("started", key=key) == 1, what="it to start")
    wait_for(lambda: fleet.journal.count("started", key=f"{key} other") == 1, what="the other")
    preempt(shop, wait_for, fleet, key, ends[1])
    begun = fleet.journal.entries("started", key=key)[0]["at"]
    shop.pause.apply_async((f"{key} long", 2.0), band="critical")
    ends[1].touch()
    wait_for(lambda: fleet.journal.count("ended", key=f"{key} long") == 1, what="its expiry")
    ends[0].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 1, what="its end")

    assert fleet.journal.entries("started", key=key)[-1]["at"] > begun + 1.5


def test_a_revoked_task_that_has_left_does_not_come_back(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """Its message is dropped when it comes again."""
    worker = start(fleet)
    fill(shop, wait_for, fleet, key, ends[0])
    left = preempt(shop, wait_for, fleet, key, ends[1])
    entry = fleet.journal.entries("started", key=key, number=left["number"])[0]
    shop.app.control.revoke(entry["id"])
    wait_for(lambda: f"Tasks flagged as revoked: {entry['id']}" in worker.log, what="the revoke")
    ends[1].touch()
    outcome = fleet.outcome(entry["id"])
    ends[0].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == SLOTS - 1, what="the other")

    assert ("REVOKED", "TaskRevokedError") == outcome
    assert SLOTS == fleet.journal.count("started", key=key)


def test_one_that_does_not_leave_is_not_waited_for(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """Another is asked a quarter of a second later."""
    start(fleet)
    shop.steps.apply_async((key, 0, str(ends[0])), band="optional")
    wait_for(lambda: fleet.journal.count("started", key=key) == 1, what="one with checkpoints")
    shop.wait.apply_async((f"{key} deaf", str(ends[1])), band="optional")
    wait_for(lambda: fleet.journal.count("started", key=f"{key} deaf") == 1, what="one without")
    preempt(shop, wait_for, fleet, key, ends[2])
    ends[2].touch()
    ends[1].touch()
    ends[0].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 1, what="the end")

    assert 2 == fleet.journal.count("started", key=key)
    assert 1 == fleet.journal.count("started", key=f"{key} deaf")


def test_who_was_asked_and_is_not_needed_any_more_stays(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """Another slot has become free before its next checkpoint."""
    start(fleet)
    shop.wait.apply_async((f"{key} short", str(ends[1])), band="important")
    wait_for(lambda: fleet.journal.count("started", key=f"{key} short") == 1, what="a short one")
    shop.stroll.apply_async((key, str(ends[3])), band="optional")
    wait_for(lambda: fleet.journal.count("started", key=key) == 1, what="a slow one")
    urgent = shop.wait.apply_async((f"{key} urgent", str(ends[2])), band="critical").id
    wait_for(lambda: are_held(shop, [urgent]), what="the urgent one to be held")
    ends[1].touch()
    wait_for(lambda: fleet.journal.count("started", key=f"{key} urgent") == 1, what="its start")
    ends[3].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 1, what="the slow one's end")
    ends[2].touch()

    assert 1 == fleet.journal.count("started", key=key)


def test_a_retry_goes_on_and_a_success_leaves_nothing_behind(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """Progress is the task's and not the execution's."""
    start(fleet)
    done = shop.stumble.apply_async((key,), band="optional").id
    failed = shop.stumble.apply_async((key, 1), band="optional").id
    wait_for(lambda: fleet.outcome(done)[0] != "RETRY", what="a success")
    wait_for(lambda: fleet.outcome(failed)[0] != "RETRY", what="a failure")
    outcomes = fleet.outcome(done), fleet.outcome(failed)
    prefix = "{celery-budget:default}:checkpoint:"
    with redis.Redis.from_url(fleet.results) as client:
        wait_for(lambda: not client.exists(prefix + done), what="nothing to be left")
        is_kept = client.exists(prefix + failed)

    assert (("SUCCESS", [None, "half"]), ("FAILURE", "ValueError")) == outcomes
    assert is_kept


def test_too_large_a_checkpoint_fails_the_task_and_says_why(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str
) -> None:
    """In development and not in the night when it is asked to leave: each one that is saved."""
    policy = {**POLICY, "preemption": {"max_checkpoint": "1KiB", "checkpoint_every": "1ms"}}
    worker = start(fleet, policy=policy)
    outcome = fleet.outcome(shop.hoard.apply_async((key, 2_000), band="optional").id)

    assert ("FAILURE", "CheckpointTooLarge") == outcome
    why = "a checkpoint of 2002 bytes is larger than the 1024 that are possible"
    wait_for(lambda: why in worker.log, what="the log, which comes after the result")


def test_without_its_store_a_task_runs_on(fleet: Fleet, shop: ModuleType, key: str) -> None:
    """It only cannot leave; and whoever asks what was saved is told that nobody knows."""
    nobody = {"budget_state_url": "redis://127.0.0.1:1/0"}
    policy = {**POLICY, "preemption": {"checkpoint_every": "1ms"}}
    worker = start(fleet, policy=policy, settings=nobody)
    hoarder = fleet.outcome(shop.hoard.apply_async((key, 10), band="optional").id)
    walker = fleet.outcome(shop.steps.apply_async((key, 1), band="optional").id)

    assert ("SUCCESS", None) == hoarder
    assert "runs on without a checkpoint" in worker.log
    assert ("FAILURE", "StateUnavailable") == walker


@pytest.mark.parametrize(
    ("pool", "settings", "why"),
    [
        ("solo", {}, "only the pools prefork, threads, gevent and eventlet can"),
        ("prefork", {"budget_state_url": "memory://"}, "the children of a prefork pool do not"),
        ("threads", {"budget_state_url": "postgresql://x"}, "budget_state_url begins with"),
    ],
)
def test_a_worker_whose_tasks_cannot_leave_says_so(
    pool: str, settings: dict[str, str], why: str, fleet: Fleet, shop: ModuleType, key: str
) -> None:
    """It works as without preemption."""
    worker = start(fleet, pool=pool, settings=settings)
    outcome = fleet.outcome(shop.note.apply_async((key,), band="optional").id)

    assert f'do not give way by "checkpoint" on this worker, though that is asked for: {why}' in (
        worker.log
    )
    assert "SUCCESS" == outcome[0]


def test_a_killed_worker_loses_what_came_after_the_last_checkpoint(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """A task that is acknowledged late goes on elsewhere from there."""
    policy = {**POLICY, "preemption": {"checkpoint_every": "1ms"}}
    visible = {"broker_transport_options": {"visibility_timeout": 2}}
    settings = visible if fleet.broker.kind == "redis" else {}
    first = start(fleet, policy=policy, settings=settings)
    shop.steps_late.apply_async((key, 0, str(ends[0])), band="optional")
    wait_for(lambda: fleet.journal.count("step", key=key) > 10, what="ten steps")
    first.kill()
    taken = [entry["step"] for entry in fleet.journal.entries("step", key=key)]
    start(fleet, policy=policy, settings=settings)
    wait_for(lambda: fleet.journal.count("started", key=key) == 2, what="the rest")
    ends[0].touch()
    wait_for(lambda: fleet.journal.count("ended", key=key) == 1, what="the end")

    assert taken[-1] <= fleet.journal.entries("started", key=key)[1]["first"] <= taken[-1] + 1


@pytest.mark.parametrize("task", ["steps", "steps_late"])
def test_what_began_before_a_reconnect_leaves_after_it(
    task: str, fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """The channel through which its message came is gone; a late one the broker sends again."""
    port = urlsplit(fleet.broker.url).port
    assert port is not None
    with Proxy(port) as proxy:
        url = fleet.broker.url.replace(f":{port}/", f":{proxy.port}/")
        worker = start(fleet, url=url)
        fill(shop, wait_for, fleet, key, ends[0], task)
        proxy.cut()
        wait_for(lambda: worker.log.count("Connected to") == 2, what="a reconnect")
        preempt(shop, wait_for, fleet, key, ends[1])
        ends[1].touch()
        wait_for(lambda: fleet.journal.count("started", key=key) > SLOTS, what="the rest")
        ends[0].touch()
        wait_for(lambda: fleet.journal.count("ended", key=key) >= SLOTS, what="both")
        worker.kill()

    if task == "steps":  # what the broker sends again runs a second time, as with stock Celery
        assert_steps(fleet, key)
        assert "Traceback" not in worker.log.rpartition("Connected to")[2]


def test_what_leaves_while_its_worker_shuts_down_goes_on_elsewhere(
    fleet: Fleet, shop: ModuleType, wait_for: WaitFor, key: str, ends: list[Path]
) -> None:
    """A warm shutdown waits for it; its message must be with the broker by then."""
    worker = start(fleet)
    shop.stroll.apply_async((key, str(ends[0])), band="optional")
    shop.wait.apply_async((f"{key} other", str(ends[2])), band="important")
    wait_for(lambda: fleet.journal.count("started", key=key) == 1, what="it to start")
    wait_for(lambda: fleet.journal.count("started", key=f"{key} other") == 1, what="the other")
    urgent = shop.wait.apply_async((f"{key} urgent", str(ends[1])), band="critical").id
    wait_for(lambda: are_held(shop, [urgent]), what="the urgent one to be held")
    worker.send(signal.SIGTERM)
    wait_for(lambda: "Warm shutdown" in worker.log, what="the shutdown")
    for end in ends:
        end.touch()
    assert 0 == worker.wait()
    assert (1, 1) == (fleet.length("optional"), fleet.length("critical"))
    start(fleet)
    wait_for(lambda: fleet.journal.count("ended", key=key) == 2, what="the rest")
    wait_for(lambda: fleet.journal.count("ended", key=f"{key} urgent") == 1, what="the urgent one")
