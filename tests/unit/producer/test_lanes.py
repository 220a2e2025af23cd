"""What the sender's side does with lanes: destinations, what it declares, what it remembers."""

from __future__ import annotations

import os
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import QueueNotFound
from kombu import Exchange, Queue

from celery_budget import install
from celery_budget.core.lanes import OWN, order_of
from celery_budget.policy.lanes import lane_of
from celery_budget.producer.depths import Depths
from celery_budget.producer.lanes import MOST_TENANTS, _Band

POLICY = {
    "default_band": "optional",
    "bands": {"critical": {"preempts": True}, "optional": {"lanes": 8}},
}
#: A broker that is never reached.
REDIS = "redis://127.0.0.1:1/0"


def made(broker: str = REDIS, **settings: object) -> Celery:
    """Make an app with lanes."""
    app = Celery("lanes", broker=broker, set_as_current=False)
    app.conf.update(settings)
    install(app, policy=POLICY)
    return app


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread ask for depths: there is no broker."""
    monkeypatch.setattr(Depths, "_run", lambda _self: None)


def routed(app: Celery, **options: object) -> dict[str, Any]:
    """Route a call."""
    return app.amqp.router.route(options, "a.task", (), {})


@pytest.mark.usefixtures("quiet")
def test_a_tenant_s_tasks_go_to_its_two_lanes_in_turn() -> None:
    """With nothing known, each is as short as the other."""
    app = made()
    names = [routed(app, tenant="acme")["queue"].name for _ in range(10)]
    own = [lane_of("optional", number) for number in order_of("acme", 8)[:OWN]]

    assert 5 * own == names


@pytest.mark.usefixtures("quiet")
def test_other_tasks_go_where_they_went_before() -> None:
    """Without a tenant, in a band without lanes, or sent somewhere by name."""
    app = made()

    assert "optional" == routed(app)["queue"].name
    assert "critical" == routed(app, tenant="acme", band="critical")["queue"].name
    assert "optional" == routed(app, tenant="acme", queue="optional")["queue"].name
    assert "other" == routed(app, tenant="acme", queue="other")["queue"].name


def test_a_transport_whose_workers_have_no_windows_has_no_lanes() -> None:
    """They would have to be consumed by Celery's own consumer, in no turns."""
    app = made("memory://")

    assert "optional" == routed(app, tenant="acme")["queue"].name


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("lane", ["optional.lane3", "optional.lane40"])
def test_a_retry_chooses_its_lane_anew(lane: str) -> None:
    """It names the queue it came through, of which this policy may not know."""
    app = made(task_create_missing_queues=False)
    own = [lane_of("optional", number) for number in order_of("acme", 8)[:OWN]]
    found = routed(app, tenant="acme", exchange=lane, routing_key=lane)
    again = routed(app, tenant="acme", queue=lane)

    assert {own[0], own[1]} == {found["queue"].name, again["queue"].name}
    assert "exchange" not in found
    with pytest.raises(QueueNotFound):
        routed(app, queue="unknown")


@pytest.mark.usefixtures("quiet")
def test_a_lane_by_name_decides_the_band() -> None:
    """As the queue itself does."""
    app = made()
    headers = routed(app, queue="optional.lane3")["headers"]

    assert '"optional"' in headers["budget"]


@pytest.mark.usefixtures("quiet")
def test_the_first_publish_declares_all_lanes_and_later_ones_their_own() -> None:
    """Workers with fewer look for them one after the other, up to the first that is missing."""
    app = made()
    first, second = (routed(app, tenant="acme") for _ in range(2))

    lanes = {lane_of("optional", number) for number in range(8)}
    assert lanes == {queue.name for queue in first["declare"]}
    assert "declare" not in second


def test_lanes_are_declared_like_their_queue() -> None:
    """Priorities, quorum queues and limits are arguments of a queue."""
    queue = Queue(
        "optional",
        Exchange("media", type="topic"),
        routing_key="media.#",
        durable=True,
        queue_arguments={"x-max-priority": 5, "x-queue-type": "classic"},
    )
    app = made(task_queues=[queue])
    lane = app.amqp.queues["optional.lane7"]

    assert {"x-max-priority": 5, "x-queue-type": "classic"} == lane.queue_arguments
    assert lane.durable
    assert ("optional.lane7", "optional.lane7") == (lane.name, lane.routing_key)
    assert "media" != lane.exchange.name
    assert "media" == app.amqp.queues["optional"].exchange.name
    assert "media.#" == app.amqp.queues["optional"].routing_key


def test_a_lane_beyond_the_policy_s_number_is_declared_alike() -> None:
    """A worker may have to consume from those of a sender with more."""
    queue = Queue("optional", queue_arguments={"x-max-priority": 5})
    app = made(task_queues=[queue])
    lane = app.amqp.lane("optional.lane40")

    assert {"x-max-priority": 5} == lane.queue_arguments
    assert "optional.lane40" not in app.amqp.queues


def test_workers_are_not_given_lanes_by_name() -> None:
    """`-Q` selects queues, and the worker takes their lanes by itself."""
    app = made()
    app.amqp.queues.select(["optional"])

    assert {"optional"} == set(app.amqp.queues.consume_from)


class Seen:
    """What a look found."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.looks = 0

    def look(self, depths: dict[int, int]) -> None:
        """Find lanes so deep."""
        self.seen = {lane_of("q", number): depth for number, depth in depths.items()}
        self.looks += 1


def test_a_tenant_whose_tasks_ran_counts_from_there_on() -> None:
    """A busy tenant is not heavy for ever because it has sent much since the start."""
    depths: Any = Seen()
    band = _Band("q", 8)
    own = order_of("busy", 8)[:OWN]
    for _ in range(20):
        for _ in range(500):
            band.choose("busy", depths)
        depths.look({})
        band.choose("busy", depths)
    depths.look(dict.fromkeys(own, 50000))

    assert band.choose("busy", depths) == lane_of("q", order_of("busy", 8)[OWN])


def test_a_tenant_that_fills_its_lanes_keeps_to_them() -> None:
    """All of its 100,000 tasks, however often the depths are looked at."""
    depths: Any = Seen()
    band = _Band("q", 8)
    own = order_of("elephant", 8)[:OWN]
    sent: dict[str, int] = {}
    for _ in range(100):
        for _ in range(1_000):
            lane = band.choose("elephant", depths)
            sent[lane] = sent.get(lane, 0) + 1
        depths.look({number: sent.get(lane_of("q", number), 0) for number in range(8)})

    assert {lane_of("q", number): 50_000 for number in own} == sent


def test_memory_is_bounded() -> None:
    """Tenants come and go without number."""
    depths: Any = Seen()
    band = _Band("q", 8)
    for number in range(MOST_TENANTS + 100):
        band.choose(f"t{number}", depths)

    assert MOST_TENANTS == len(band._own)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.usefixtures("quiet")
def test_a_forked_process_begins_anew() -> None:
    """Its parent's thread is not there, and what the parent sent is not its own."""
    app = made()
    two = {"a": {"lanes": 4}, "b": {"lanes": 4}}
    install(app, policy={"default_band": "a", "bands": two})
    for band in two:
        routed(app, tenant="acme", band=band)
    read, write = os.pipe()
    if not os.fork():
        found = ["declare" in routed(app, tenant="acme", band=band) for band in two]
        depths = app.amqp.depths()
        os.write(write, bytes([*found, len(depths._queues), depths._thread is not None]))
        os._exit(0)
    os.wait()

    assert bytes([True, True, 8, True]) == os.read(read, 4)


def test_a_broker_that_does_not_answer_is_told_once_and_never_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Publishing goes on by what is known."""
    depths = Depths(made())
    with caplog.at_level("WARNING"):
        for failures in range(1, 101):
            depths._failures = failures
            depths._tell(OSError("refused"))

    assert 3 == len(caplog.records)
