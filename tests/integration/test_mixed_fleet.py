"""Stock workers and senders beside ours, an empty policy, and the way back."""

from __future__ import annotations

from types import ModuleType

from tests.conftest import WaitFor
from tests.fleet import Fleet

COUNT = 60
EVERY = {"-Q": "critical,celery,important,optional"}


def test_every_task_of_a_mixed_fleet_runs_once(alone: Fleet, wait_for: WaitFor, key: str) -> None:
    """A fleet is never upgraded at one moment; both kinds share queues, senders and results."""
    stock = alone.start("-Q", EVERY["-Q"], install=False)
    ours = alone.start("-Q", EVERY["-Q"])
    senders = {"stock": alone.sender(install=False), "ours": alone.sender()}
    sent = []
    for number in range(COUNT):
        for kind, sender in senders.items():
            queue = ("critical", "celery", "optional")[number % 3]
            result = sender.pause.apply_async((f"{key} {kind}", 0.02, number), queue=queue)
            sent.append(result.id)
    for kind in senders:
        wait_for(
            lambda kind=kind: alone.journal.count("ended", key=f"{key} {kind}") == COUNT,
            what=f"what the {kind} sender sent",
        )

    assert 2 * COUNT * [("SUCCESS", None)] == [alone.outcome(task_id) for task_id in sent]
    for kind in senders:
        started = alone.journal.entries("started", key=f"{key} {kind}")
        assert list(range(COUNT)) == sorted(entry["number"] for entry in started)
    assert "succeeded" in stock.log
    assert "succeeded" in ours.log


def test_a_stock_sender_s_task_gets_its_terms_at_the_worker(
    alone: Fleet, wait_for: WaitFor, key: str
) -> None:
    """Band by the task's declaration, else by its queue; children inherit from there on."""
    alone.start()
    stock = alone.sender(install=False)
    stock.note.apply_async((key, 1), queue="optional")
    stock.note.apply_async((key, 2))
    stock.charge.apply_async((key, 3))
    stock.spawn.apply_async((f"{key} child", "apply_async"), queue="optional")
    wait_for(lambda: alone.journal.count("ran", key=key) == 3, what="the tasks")
    wait_for(lambda: alone.journal.count("ran", key=f"{key} child") == 1, what="the child")

    bands = {ran["number"]: ran["band"] for ran in alone.journal.entries("ran", key=key)}
    assert {1: "optional", 2: "important", 3: "critical"} == bands
    assert "optional" == alone.journal.entries("ran", key=f"{key} child")[0]["band"]


def test_our_sender_s_options_do_no_harm_at_a_stock_worker(
    alone: Fleet, wait_for: WaitFor, key: str
) -> None:
    """A stock worker must find nothing in the message that it cannot take."""
    alone.start("-Q", EVERY["-Q"], install=False)
    shop = alone.sender()
    for number, band in enumerate(("critical", "important", "optional")):
        shop.note.apply_async((key, number), band=band, tenant="acme", deadline="5s")
    shop.retry.apply_async((f"{key} retry", 2), band="optional")
    wait_for(lambda: alone.journal.count("ran", key=key) == 3, what="the tasks")
    wait_for(lambda: alone.journal.count("ran", key=f"{key} retry") == 3, what="the retries")

    assert {"critical", "celery", "optional"} == {
        ran["queue"] for ran in alone.journal.entries("ran", key=key)
    }
    retried = alone.journal.entries("ran", key=f"{key} retry")
    assert {"optional"} == {ran["queue"] for ran in retried}


def test_an_empty_policy_changes_no_queue_and_no_prefetch(
    alone: Fleet, wait_for: WaitFor, key: str
) -> None:
    """Installing must be a step of its own, to be taken without any effect."""
    stock = described(alone, install=False)
    empty = described(alone, policy=None)
    shop = alone.sender(policy=None)
    shop.note.apply_async((key, 1))
    shop.note.apply_async((key, 2), queue="optional", band="nowhere", tenant="acme")
    shop.charge.apply_async((key, 3))
    wait_for(lambda: alone.journal.count("ran", key=key) == 2, what="the tasks")
    band = alone.journal.entries("ran", key=key)[0]["band"]

    assert stock == empty
    assert "default" == band
    assert {1, 3} == {ran["number"] for ran in alone.journal.entries("ran", key=key)}
    assert {"celery"} == {ran["queue"] for ran in alone.journal.entries("ran", key=key)}
    assert 1 == alone.length("optional")


def described(fleet: Fleet, **setup: object) -> dict[str, object]:
    """Tell what a worker looks like from outside; it stays."""
    for worker in fleet.workers:
        worker.kill()
    fleet.start(**setup)
    shop = fleet.sender(**setup)
    inspect = shop.app.control.inspect(timeout=30, limit=1)
    (queues,) = inspect.active_queues().values()
    (stats,) = inspect.stats().values()
    return {
        "queues": queues,
        "prefetch": stats["prefetch_count"],
        "routes": [routed(shop, name) for name in ("note", "charge")],
        "declared": sorted(shop.app.amqp.queues),
    }


def routed(shop: ModuleType, name: str) -> object:
    """Tell where the router sends a task, without what it writes into its headers."""
    route = shop.app.amqp.router.route({}, f"tests.apps.shop.{name}", ("k",), {})
    return {option: value for option, value in route.items() if option != "headers"}


def test_after_the_removal_stock_workers_finish_what_was_sent(
    alone: Fleet, wait_for: WaitFor, key: str
) -> None:
    """Taking the package out again must not need an empty broker."""
    ours = alone.start()
    shop = alone.sender()
    gate = alone.gate()
    for number in range(2):
        shop.wait.delay(key, str(gate), number)
    wait_for(lambda: alone.journal.count("started", key=key) == 2, what="full slots")
    for number in range(20):
        shop.note.apply_async((key, number), band=("critical", "optional")[number % 2])
    ours.send(15)
    gate.touch()
    ours.wait()
    alone.start("-Q", EVERY["-Q"], install=False)
    wait_for(lambda: alone.journal.count("ran", key=key) == 20, what="the rest")

    assert list(range(20)) == sorted(ran["number"] for ran in alone.journal.entries("ran", key=key))
