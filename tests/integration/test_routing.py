"""Which queue a task goes to and which queues a worker consumes, beside Celery's own settings."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from celery.exceptions import QueueNotFound
from kombu import Connection, Exchange, Queue

from celery_budget.headers import HEADER, read
from tests.apps.shop import POLICY
from tests.conftest import WaitFor
from tests.fleet import Fleet

ALL_QUEUES = {"critical", "celery", "important", "optional"}


def fetch(fleet: Fleet, queue: str) -> Any:
    """Take one message out of a queue, as a consumer that knows nothing of bands."""
    with Connection(fleet.broker.url) as connection:
        message = Queue(queue).bind(connection.channel()).get(no_ack=True)
        assert message is not None, f"{queue} is empty"
        return message


def band(message: Any) -> str:
    """Name the band that a message was stamped with."""
    return read(message.headers[HEADER]).band


def consumed(shop: ModuleType) -> set[str]:
    """Name the queues that the fleet's one worker consumes."""
    (queues,) = shop.app.control.inspect(timeout=30, limit=1).active_queues().values()
    return {queue["name"] for queue in queues}


def test_a_task_of_no_route_goes_to_the_first_queue_of_its_band(fleet: Fleet) -> None:
    """Bands must work without a `task_routes` of the user's."""
    shop = fleet.sender()
    shop.note.apply_async(("k",), band="important")
    shop.note.apply_async(("k",), band="optional")

    assert "important" == band(fetch(fleet, "celery"))
    assert "optional" == band(fetch(fleet, "optional"))


def test_task_routes_win_over_the_bands_queue(fleet: Fleet) -> None:
    """An app's routes are there for reasons that the policy does not know."""
    shop = fleet.sender(settings={"task_routes": {"tests.apps.shop.charge": {"queue": "special"}}})
    shop.charge.delay("k")

    assert "critical" == band(fetch(fleet, "special"))


def test_the_callers_queue_wins_and_names_the_band(fleet: Fleet) -> None:
    """Some large apps let a caller choose nothing but the queue: that must be enough."""
    shop = fleet.sender(settings={"task_routes": {"tests.apps.shop.note": {"queue": "special"}}})
    shop.note.apply_async(("k",), queue="optional")
    shop.charge.apply_async(("k",), queue="optional")
    shop.charge.apply_async(("k",), queue="special")

    assert "optional" == band(fetch(fleet, "optional"))
    assert "optional" == band(fetch(fleet, "optional"))
    assert "critical" == band(fetch(fleet, "special"))


def test_an_exchange_and_routing_key_of_the_caller_win(fleet: Fleet) -> None:
    """Celery lets a call name its destination without naming a queue."""
    with Connection(fleet.broker.url) as connection:
        Queue("bound", Exchange("orders"), "new").bind(connection.channel()).declare()
    shop = fleet.sender()
    shop.note.apply_async(("k",), exchange="orders", routing_key="new", band="optional")

    assert "optional" == band(fetch(fleet, "bound"))


def test_a_route_that_only_sets_a_priority_leaves_the_bands_queue(fleet: Fleet) -> None:
    """Stock Celery then takes the default queue; with bands the default is the band's."""
    shop = fleet.sender(settings={"task_routes": {"tests.apps.shop.charge": {"priority": 5}}})
    shop.charge.delay("k")

    message = fetch(fleet, "critical")
    assert ("critical", 5) == (band(message), message.properties["priority"])


def test_a_declared_priority_queue_keeps_its_arguments(fleet: Fleet, wait_for: WaitFor) -> None:
    """RabbitMQ refuses a second declaration with other arguments and closes the channel."""
    arguments = {"x-max-priority": 10}
    setup = {
        "queues": [{"name": "urgent", "arguments": arguments}],
        "policy": {"bands": {"critical": {"queues": ["urgent"]}}},
    }
    worker = fleet.start(**setup)
    shop = fleet.sender(**setup)
    shop.note.apply_async(("declared",), priority=7)
    wait_for(lambda: fleet.journal.count("ran", key="declared") == 1, what="the task")
    worker.kill()

    ran = fleet.journal.entries("ran", key="declared")[0]
    assert ("critical", "urgent") == (ran["band"], ran["queue"])
    assert arguments == shop.app.amqp.queues["urgent"].queue_arguments


def test_without_missing_queues_the_policy_names_the_only_ones(
    fleet: Fleet, wait_for: WaitFor
) -> None:
    """`task_create_missing_queues = False` guards against typing mistakes, not the policy."""
    setup = {"settings": {"task_create_missing_queues": False}}
    worker = fleet.start(**setup)
    shop = fleet.sender(**setup)
    shop.charge.delay("strict")
    wait_for(lambda: fleet.journal.count("ran", key="strict") == 1, what="the task")
    worker.kill()

    assert "critical" == fleet.journal.entries("ran", key="strict")[0]["queue"]
    with pytest.raises(QueueNotFound):
        shop.charge.apply_async(("strict",), queue="critcal")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ALL_QUEUES),
        (("-Q", "critical"), {"critical"}),
        (("-Q", "critical,special"), {"critical", "special"}),
        (("-X", "optional"), ALL_QUEUES - {"optional"}),
    ],
)
def test_a_worker_consumes_what_its_command_line_says(
    arguments: tuple[str, ...], expected: set[str], fleet: Fleet, wait_for: WaitFor
) -> None:
    """Fleets are split by `-Q`; bands must not widen what a worker was given."""
    worker = fleet.start(*arguments)
    shop = fleet.sender()
    key = f"consumed {arguments}"
    for queue in sorted(expected):
        shop.note.apply_async((key,), queue=queue)
    wait_for(lambda: fleet.journal.count("ran", key=key) == len(expected), what="a task per queue")
    names = consumed(shop)
    worker.kill()

    assert expected == names
    assert expected == {ran["queue"] for ran in fleet.journal.entries("ran", key=key)}


def test_a_routed_queue_of_no_band_is_served_beside_the_bands(
    fleet: Fleet, wait_for: WaitFor
) -> None:
    """Queues that the policy does not mention stay with Celery's own consumer."""
    bands = {name: POLICY["bands"][name] for name in ("critical", "important")}
    policy = {**POLICY, "bands": bands}
    setup = {"policy": policy, "queues": [{"name": "optional"}, {"name": "celery"}]}
    worker = fleet.start(**setup)
    shop = fleet.sender(**setup)
    shop.note.apply_async(("beside",), queue="optional")
    shop.charge.delay("beside")
    wait_for(lambda: fleet.journal.count("ran", key="beside") == 2, what="both tasks")
    worker.kill()

    assert {("optional", "important"), ("critical", "critical")} == {
        (ran["queue"], ran["band"]) for ran in fleet.journal.entries("ran", key="beside")
    }
