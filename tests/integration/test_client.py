"""The client against real brokers and real workers: where tasks are, moving, cancelling."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
import redis
from celery import Celery

from celery_budget.app import installed
from celery_budget.client import Client, State
from celery_budget.client.copy import Target
from celery_budget.client.polled import PolledQueues
from celery_budget.client.search import Search
from celery_budget.embedded import OwnedProcess
from celery_budget.errors import MoveError, OptionError, TaskNotFound
from celery_budget.headers import HEADER, read
from tests.conftest import LoadApp, StartWorker, WaitFor
from tests.journal import JOURNAL_VARIABLE, Journal
from tests.servers import Broker
from tests.worker import ROOT, Worker

MODULE = "tests.apps.bands"


@dataclass
class Shop:
    """An app with three bands on the test's broker, its client, and the gate of its slots."""

    module: ModuleType
    client: Client
    broker: Broker
    gate: Path
    journal: Journal
    start_worker: StartWorker
    wait: WaitFor
    env: dict[str, str]

    def worker(self, *arguments: str, concurrency: int = 1, module: str = MODULE) -> Worker:
        """Start a worker; `--without-mingle` saves a second where it plays no part."""
        arguments = arguments or ("--without-mingle", "--without-gossip")
        return self.start_worker(
            module, *arguments, broker=self.broker, concurrency=concurrency, env=self.env
        )

    def fill(self, slots: int = 1) -> list[str]:
        """Keep the workers' slots busy until `release`."""
        ids = [self.module.wait_for.delay(str(self.gate)).id for _ in range(slots)]
        self.wait(lambda: self.journal.count("waiting") >= slots, what="busy slots")
        return ids

    def release(self) -> None:
        """Let the slots go on with other work."""
        self.gate.touch()

    def publish(self, count: int, band: str = "optional") -> list[str]:
        """Publish notes, each of its own number as text; the last waits in the broker for sure."""
        return [
            self.module.note.apply_async((str(number),), band=band).id for number in range(count)
        ]

    def texts(self) -> list[str]:
        """What the notes that ran said, in their order."""
        return [str(entry["text"]) for entry in self.journal.entries("noted")]

    def known_move(self, task_id: str) -> int:
        """The number of the newest move of a task that a worker knows of."""
        answers = self.module.app.control.broadcast(
            "budget_status", arguments={"task_id": task_id}, reply=True, limit=1, timeout=1
        )
        return max((reply["number"] for answer in answers for reply in answer.values()), default=0)

    def state(self, task_id: str) -> State:
        return self.client.status(task_id).state

    def hold(self, text: str) -> str:
        """Publish a note that a worker holds, waiting for a slot.

        Its time comes when the slot is already taken.
        """
        held: str = self.module.note.apply_async((text,), band="optional", countdown=1.5).id
        self.wait(lambda: self.client.status(held).reason == "eta", what="the worker has it")
        self.fill()
        self.wait(lambda: self.client.status(held).reason == "no_slot", what="it is due")
        return held


@pytest.fixture
def shop(
    load_app: LoadApp,
    broker: Broker,
    tmp_path: Path,
    journal: Journal,
    worker_process: StartWorker,
    wait_for: WaitFor,
) -> Shop:
    results = tmp_path / "results"
    results.mkdir()
    backend = f"file://{results}"
    module = load_app(MODULE, broker)
    module.app.conf.result_backend = backend
    return Shop(
        module,
        Client(module.app, timeout=0.3),
        broker,
        tmp_path / "gate",
        journal,
        worker_process,
        wait_for,
        {"CELERY_RESULT_BACKEND": backend},
    )


def test_status_follows_a_task_to_its_end(shop: Shop) -> None:
    """An operator asks one command, whatever has become of the task."""
    worker = shop.worker()
    (running,) = shop.fill()
    queued = shop.publish(5)[-1]
    seen = {name: shop.client.status(task) for name, task in (("r", running), ("q", queued))}
    shop.release()
    shop.wait(lambda: shop.state(queued) is State.DONE)

    assert (State.RUNNING, worker.name, "important") == (
        seen["r"].state,
        seen["r"].worker,
        seen["r"].band,
    )
    assert (State.QUEUED, shop.broker.kind == "redis") == (seen["q"].state, seen["q"].is_certain)
    assert "SUCCESS" == shop.client.status(queued).outcome


def test_status_says_why_a_task_is_held(shop: Shop) -> None:
    """ "Held" alone would leave the operator guessing what to change."""
    worker = shop.worker()
    held = shop.hold("late")

    status = shop.client.status(held)

    assert (State.HELD, worker.name, "optional", "no_slot", 0) == (
        status.state,
        status.worker,
        status.band,
        status.reason,
        status.ahead,
    )


def test_a_task_that_failed_or_was_cancelled_is_dead(shop: Shop) -> None:
    """Both need somebody to look; neither runs again by itself."""
    shop.worker()
    failed = shop.module.fail.delay().id
    shop.wait(lambda: shop.state(failed) is State.DEAD)
    shop.fill()
    cancelled = shop.publish(5)[-1]
    shop.client.cancel(cancelled)
    shop.release()
    shop.wait(lambda: shop.state(cancelled) is State.DEAD)

    assert ("FAILURE", "REVOKED") == (
        shop.client.status(failed).outcome,
        shop.client.status(cancelled).outcome,
    )
    assert ["0", "1", "2", "3"] == shop.texts()


def test_an_id_that_nobody_published_is_unknown(shop: Shop) -> None:
    """A typing error must not look like a task that waits."""
    before = shop.client.status("no-such-task")
    worker = shop.worker()
    after = shop.client.status("no-such-task")

    assert (State.UNKNOWN, State.UNKNOWN) == (before.state, after.state)
    assert worker.name in after.asked


def test_a_promoted_task_runs_next_and_once(shop: Shop) -> None:
    """Moving publishes a copy; the task must neither wait in the old place nor run twice."""
    worker = shop.worker()
    shop.fill()
    wanted = shop.publish(500)[-1]

    moved = shop.client.move(wanted, "critical")
    # What a broker redelivers, or a sender repeats: the same task as it was before the move.
    shop.module.note.apply_async(("499",), band="optional", task_id=wanted)
    shop.release()
    shop.wait(lambda: len(shop.texts()) >= 500)
    shop.wait(lambda: "this copy of it is dropped" in worker.log)

    assert ("critical", "optional", "queue critical", 1) == (
        moved.band,
        moved.previous,
        moved.place,
        moved.number,
    )
    # Whatever the worker had fetched of the optional band when it was filled goes first at most.
    assert shop.texts().index("499") <= 1
    assert sorted(map(str, range(500))) == sorted(shop.texts())


def test_a_held_task_moves_inside_its_worker(shop: Shop) -> None:
    """The worker has the message already: a copy through the broker would only cost time."""
    worker = shop.worker()
    held = shop.hold("held")

    moved = shop.client.promote(held)
    status = shop.client.status(held)
    shop.release()
    shop.wait(lambda: shop.texts() == ["held"])

    assert ("important", "optional", f"worker {worker.name}", 0) == (
        moved.band,
        moved.previous,
        moved.place,
        moved.number,
    )
    assert "important" == status.band


def test_a_task_that_waits_for_its_time_moves_too(shop: Shop) -> None:
    """It has no ticket yet; the band must hold once it has one."""
    shop.worker()
    later = shop.module.note.apply_async(("later",), band="optional", countdown=2).id
    shop.wait(lambda: shop.client.status(later).reason == "eta")

    moved = shop.client.move(later, "critical")
    shop.wait(lambda: shop.journal.count("noted") == 1)

    assert "optional" == moved.previous
    assert ["critical"] == [entry["band"] for entry in shop.journal.entries("noted")]


def test_a_moved_task_may_retry_and_hand_over_its_id(shop: Shop) -> None:
    """A later message of the task's own is no stale copy, though it names no move."""
    worker = shop.worker()
    shop.fill()
    shop.publish(4)
    retried = shop.module.fail_once.apply_async(("again",), band="optional").id
    replaced = shop.module.replace_with_note.apply_async(("last",), band="optional").id
    shop.client.move(retried, "critical")
    shop.client.move(replaced, "critical")
    shop.release()
    shop.wait(lambda: shop.state(retried) is State.DONE)
    shop.wait(lambda: shop.state(replaced) is State.DONE)

    assert [0, 1] == [entry["retries"] for entry in shop.journal.entries("tried")]
    assert "last" in shop.texts()
    assert "this copy of it is dropped" not in worker.log


def test_cancel_drops_a_held_task_at_once(shop: Shop) -> None:
    """What a worker holds would start before a plain revoke is looked at again."""
    worker = shop.worker()
    held = shop.hold("held")

    cancelled = shop.client.cancel(held)
    shop.wait(lambda: shop.state(held) is State.DEAD)
    shop.release()
    shop.module.note.delay("after")
    shop.wait(lambda: shop.texts() == ["after"])

    assert ((worker.name,), 1, None) == (
        cancelled.workers,
        cancelled.dropped,
        cancelled.running_on,
    )


def test_cancel_says_that_a_running_task_goes_on(shop: Shop) -> None:
    """Who cancels must not believe that it stopped."""
    worker = shop.worker()
    (running,) = shop.fill()

    assert worker.name == shop.client.cancel(running).running_on


def test_cancel_without_workers_says_that_nobody_heard(shop: Shop) -> None:
    """A revoke lives in running workers only."""
    assert () == shop.client.cancel("any").workers


def test_moves_that_race_with_workers_lose_and_double_nothing(shop: Shop) -> None:
    """A worker may take a message between the search and the move."""
    for _ in range(2):
        shop.worker(concurrency=2)
    # 600 tasks of 50 ms on 4 slots take as long as 200 moves: they meet at all stages.
    texts = [str(number) for number in range(600)]
    ids = [shop.module.note.apply_async((text, 0.05), band="optional").id for text in texts]
    client = Client(shop.module.app, timeout=0.1)

    def move(task_id: str) -> bool:
        try:
            client.move(task_id, "critical")
        except (MoveError, TaskNotFound):
            return False  # it runs, or ran
        return True

    with ThreadPoolExecutor(4) as threads:
        moved = sum(threads.map(move, Random(1).sample(ids, 200)))
    shop.wait(lambda: len(shop.texts()) >= len(texts))

    assert sorted(texts) == sorted(shop.texts())
    assert moved > 0


@pytest.mark.parametrize(
    ("task", "band", "problem"),
    [
        ("running", "critical", "it runs already, on {worker}"),
        ("queued", "optional", "it is in band optional already"),
        ("done", "critical", "it has ended (SUCCESS)"),
    ],
)
def test_a_move_that_cannot_be_is_refused(shop: Shop, task: str, band: str, problem: str) -> None:
    """The text is what the operator acts on."""
    worker = shop.worker()
    done = shop.publish(1)[0]
    shop.wait(lambda: shop.state(done) is State.DONE)
    ids = {"done": done, "running": shop.fill()[0], "queued": shop.publish(5)[-1]}

    with pytest.raises(MoveError) as raised:
        shop.client.move(ids[task], band)

    assert problem.format(worker=worker.name) == raised.value.problem


def test_an_unknown_band_is_refused_before_anybody_is_asked(shop: Shop) -> None:
    """A typing error is the caller's, and must not depend on who is running."""
    with pytest.raises(OptionError, match="did you mean critical"):
        shop.client.move("any", "crticial")


def test_a_task_that_nobody_has_cannot_be_moved(shop: Shop) -> None:
    """The places that were searched tell where it could not be."""
    worker = shop.worker()

    with pytest.raises(TaskNotFound) as raised:
        shop.client.move("no-such-task", "critical")

    assert {worker.name, "queue optional"} <= set(raised.value.searched)


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_signature_moves_without_searching(shop: Shop, protocol: int) -> None:
    """Where a message cannot be reached, the copy runs and the message is dropped when it comes."""
    shop.module.app.conf.task_protocol = protocol
    worker = shop.worker()
    shop.fill()
    wanted = shop.publish(5)[-1]

    moved = shop.client.move(wanted, "critical", signature=shop.module.note.s("4"))
    # Workers hear of it even before one of them meets the copy.
    shop.wait(lambda: shop.known_move(wanted) == moved.number)
    shop.release()
    shop.wait(lambda: len(shop.texts()) >= 5)
    if shop.broker.kind == "rabbitmq":
        shop.wait(lambda: "this copy of it is dropped" in worker.log)

    assert "queue critical" == moved.place
    assert ["0", "1", "2", "3", "4"] == sorted(shop.texts())
    assert {"4": "critical"}.items() <= {
        entry["text"]: entry["band"] for entry in shop.journal.entries("noted")
    }.items()


def test_nothing_is_taken_out_of_quorum_queues(rabbitmq_broker: Broker, load_app: LoadApp) -> None:
    """They count each return as a failed delivery and drop a message at its limit."""
    module = load_app(MODULE, rabbitmq_broker)
    module.app.conf.task_default_queue_type = "quorum"
    client = Client(module.app, timeout=0.1)
    task_id = module.note.delay("0").id

    with pytest.raises(MoveError, match=r"quorum queues \(celery\).*give signature="):
        client.move(task_id, "optional")

    assert "queue optional" == client.move(task_id, "optional", signature=module.note.s("0")).place


def test_a_message_fetched_as_the_window_closes_reaches_its_worker(
    redis_broker: Broker, load_app: LoadApp, worker_process: StartWorker
) -> None:
    """kombu may leave an answer of Redis unread: the message is nowhere, and lost with a kill."""
    module = load_app(MODULE, redis_broker)
    worker_process(MODULE, "--without-mingle", broker=redis_broker, concurrency=1)
    client = Client(module.app, timeout=0.3)
    # The worker asks for each band while its slot is free; then the slot is taken.
    module.note.delay("long", 20)
    fetched = module.note.apply_async(("fetched",), band="optional").id

    # Where it is depends on whether a fetch was under way; it must be somewhere.
    assert client.status(fetched).state in (State.HELD, State.QUEUED)


def test_a_dead_workers_task_is_found_among_the_unacknowledged(
    redis_broker: Broker, load_app: LoadApp, worker_process: StartWorker, wait_for: WaitFor
) -> None:
    """Right after a kill is when somebody asks where the tasks are."""
    module = load_app(MODULE, redis_broker)
    worker = worker_process(MODULE, "--without-mingle", broker=redis_broker, concurrency=1)
    client = Client(module.app, timeout=0.3)
    later = module.note.apply_async(("later",), band="optional", countdown=60).id
    wait_for(lambda: client.status(later).reason == "eta")
    worker.kill()

    status = client.status(later)

    assert (State.HELD, False, "unanswered") == (status.state, status.is_certain, status.reason)


def test_a_move_keeps_priority_and_key_prefix(redis_broker: Broker, load_app: LoadApp) -> None:
    """kombu keeps a list for each priority, under a prefix if the app has one."""
    module = load_app(MODULE, redis_broker)
    module.app.conf.broker_transport_options = {"global_keyprefix": "shop:"}
    client = Client(module.app, timeout=0.1)
    plain = module.note.apply_async(("plain",), band="optional").id
    urgent = module.note.apply_async(("urgent",), band="optional", priority=6).id
    before = client.status(urgent)

    client.move(urgent, "critical")
    client.move(plain, "critical")
    again = client.move(plain, "important")
    with redis.Redis.from_url(redis_broker.url, decode_responses=True) as server:
        lists = {
            key: [json.loads(text) for text in server.lrange(key, 0, -1)]
            for key in server.keys("shop:c*")
        }

    assert (State.QUEUED, "optional") == (before.state, before.queue)
    assert {"shop:critical\x06\x166", "shop:celery"} == lists.keys()
    assert 2 == again.number
    ((moved,), (twice,)) = (lists["shop:critical\x06\x166"], lists["shop:celery"])
    stamp = read(moved["headers"][HEADER])
    assert (urgent, "critical", 1) == (moved["headers"]["id"], stamp.band, stamp.move)
    assert {"exchange": "", "routing_key": "celery"}.items() <= twice["properties"][
        "delivery_info"
    ].items()


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_message_without_a_stamp_moves_too(shop: Shop, protocol: int) -> None:
    """Senders without celery-budget publish into the same queues."""
    shop.worker()
    shop.fill()
    shop.publish(3)
    with Celery("plain", broker=shop.broker.url) as plain:
        plain.conf.task_default_queue = "optional"
        plain.conf.task_protocol = protocol
        task_id = plain.send_task(f"{MODULE}.note", ("plain",)).id

    moved = shop.client.move(task_id, "critical")
    shop.release()
    shop.wait(lambda: len(shop.texts()) >= 4)

    assert "optional" == moved.previous
    assert ("plain", "critical") in [
        (entry["text"], entry["band"]) for entry in shop.journal.entries("noted")
    ]


def test_workers_without_celery_budget_are_asked_in_celerys_words(shop: Shop) -> None:
    """In a mixed fleet the task may be with a worker whose machine has no celery-budget."""
    # Not by Celery's command line: that would load our commands where the package is installed.
    start = "from tests.apps.stock import app; app.Worker(hostname='plain@here', concurrency=1, "
    environment = {
        **os.environ,
        "CELERY_BROKER_URL": shop.broker.url,
        JOURNAL_VARIABLE: str(shop.journal.path),
    }
    worker = OwnedProcess(
        [sys.executable, "-c", f"{start}loglevel='INFO').start()"], env=environment, cwd=ROOT
    )
    try:
        with Celery("plain", broker=shop.broker.url) as plain:
            running = plain.send_task("tests.apps.stock.hold", (60,)).id
            shop.wait(lambda: shop.journal.count("started") == 1)
            fetched = plain.send_task("tests.apps.stock.hold", (0,)).id
            shop.wait(lambda: shop.client.status(fetched).reason == "fetched")
        first, second = shop.client.status(running), shop.client.status(fetched)

        with pytest.raises(MoveError, match="has fetched it and knows no bands"):
            shop.client.move(fetched, "critical")
    finally:
        worker.kill()

    assert (State.RUNNING, "plain@here") == (first.state, first.worker)
    assert (State.HELD, "plain@here") == (second.state, second.worker)


def test_a_message_that_leaves_during_its_move_is_not_doubled(
    redis_broker: Broker, load_app: LoadApp
) -> None:
    """The worker that took it runs it; a copy would run it again."""
    app = load_app(MODULE, redis_broker).app
    task_id = app.tasks[f"{MODULE}.note"].apply_async(("taken",), band="optional").id
    installation = installed(app)
    assert installation is not None
    announced: list[int] = []
    with redis.Redis.from_url(redis_broker.url) as server:

        def choose(_band: str | None) -> Target:
            server.rpop("optional")  # as a worker would, between the search and the move
            return Target("critical", "critical")

        moved = PolledQueues(app, installation.policy()).move(task_id, choose, 0, announced.append)

        assert isinstance(moved, Search)
        assert ([], 0) == (announced, server.llen("critical"))


def test_a_child_that_waits_is_not_taken_for_its_parent(
    redis_broker: Broker, load_app: LoadApp
) -> None:
    """Its message names the parent too; moving it would move the wrong task."""
    module = load_app(MODULE, redis_broker)
    client = Client(module.app, timeout=0.1)
    module.note.apply_async(("child",), band="optional", root_id="parent", parent_id="parent")

    with pytest.raises(TaskNotFound):
        client.move("parent", "critical")

    assert client.status("parent").state is State.UNKNOWN


def test_a_moved_message_is_in_its_new_queue_only(shop: Shop) -> None:
    """A second copy would run on any worker that has not heard of the move."""
    task_id = shop.publish(3)[1]

    shop.client.move(task_id, "critical")

    shop.wait(lambda: shop.client.fleet().depths["optional"] == 2)
    assert {"celery": 0, "critical": 1, "optional": 2} == shop.client.fleet().depths


def test_asking_again_and_again_gets_an_answer_each_time(shop: Shop) -> None:
    """Over Redis, answers used to reach the question before: every other one was lost."""
    worker = shop.worker()
    shop.wait(lambda: bool(shop.client.fleet().workers))

    assert [[worker.name]] * 6 == [list(shop.client.fleet().workers) for _ in range(6)]
