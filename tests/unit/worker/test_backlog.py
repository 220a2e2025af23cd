"""Which queues a worker looks at, and when it looks at none; on a broker in memory."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Queue

from celery_budget import install
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.policy.load import load
from celery_budget.worker.backlog import Backlog
from tests.conftest import WaitFor

PLAIN: dict[str, Any] = {
    "default_band": "optional",
    "bands": {"critical": {"preempts": True, "lanes": 2}, "important": {}, "optional": {}},
}


def table(**targets: str) -> dict[str, Any]:
    """Write a policy in which some bands have a target."""
    bands = {
        name: {**rules, **({"latency_target": targets[name]} if name in targets else {})}
        for name, rules in PLAIN["bands"].items()
    }
    return {**PLAIN, "bands": bands}


class Looker:
    """A backlog with what Celery's consumer and the pump are to it."""

    def __init__(self, policy: dict[str, Any], *, has_windows: bool = True) -> None:
        self.policy = load(policy)
        app = Celery("backlog", broker="memory://backlog", set_as_current=False)
        install(app, policy=policy)
        self.connection: Connection = app.connection_for_write()
        names = ["critical", "critical.lane0", "critical.lane1", "important", "optional", "else"]
        self.queues = [Queue(name) for name in names]
        consumer = SimpleNamespace(app=app, task_consumer=SimpleNamespace(queues=self.queues))
        self.dispatcher = Dispatcher(self.policy.bands, 2)
        pump = SimpleNamespace(dispatcher=self.dispatcher, channels=has_windows or None)
        self.backlog = Backlog(consumer, pump, lambda: self.policy, lambda: 2)  # type: ignore[arg-type]

    def names(self) -> list[str]:
        """Look, and name the queues that are looked at from now on."""
        self.backlog.look()
        return [queue.name for _, queue in self.backlog._queues]

    @property
    def has_thread(self) -> bool:
        """Whether anything asks the broker."""
        return self.backlog._thread is not None


@pytest.fixture
def looker() -> Iterator[Looker]:
    """Offer one with a target for the critical band."""
    made = Looker(table(critical="1s"))
    yield made
    made.backlog.close()
    made.connection.release()


def test_the_queues_of_bands_with_a_target_are_looked_at(looker: Looker, wait_for: WaitFor) -> None:
    """With their lanes; what is found comes to the dispatcher."""
    assert ["critical", "critical.lane0", "critical.lane1"] == looker.names()
    with looker.connection.channel() as channel:
        for queue, count in zip(looker.queues, [3, 2, 0, 7], strict=False):
            queue(channel).declare()
            for _ in range(count):
                looker.connection.Producer(channel).publish("x", routing_key=queue.name)
    wait_for(lambda: looker.backlog.found["critical"].messages == 5, what="the messages")
    looker.backlog.look()

    assert ["critical"] == list(looker.backlog.found)
    assert 2 == looker.backlog.found["critical"].workers
    assert 2.5 == looker.backlog.shared["critical"]
    (state, *_) = looker.dispatcher._order.bands
    assert looker.backlog.found["critical"] in state.looks


def test_without_a_target_nobody_asks_the_broker() -> None:
    """No thread, and no connection."""
    looker = Looker(PLAIN)

    assert [] == looker.names()
    assert not looker.has_thread


def test_a_target_below_which_nothing_can_be_held_back_asks_nothing() -> None:
    """There is no use for what it would tell."""
    looker = Looker(table(optional="1s"))

    assert [] == looker.names()
    assert not looker.has_thread


def test_without_windows_nobody_asks_the_broker() -> None:
    """Another transport may want money for each question, and messages wait in the worker."""
    looker = Looker(table(critical="1s"), has_windows=False)

    assert [] == looker.names()
    assert not looker.has_thread


def test_a_pool_that_follows_the_load_looks_at_all_bands(looker: Looker) -> None:
    """As its slots are for all of them; what is of no band is no matter of theirs."""
    looker.backlog.is_whole = True

    assert [queue.name for queue in looker.queues[:5]] == looker.names()


def test_a_target_that_is_taken_back_ends_it(looker: Looker, wait_for: WaitFor) -> None:
    """An operator may change the policy while workers run."""
    looker.names()
    wait_for(lambda: bool(looker.backlog.found), what="a first look")
    looker.policy = load(PLAIN)

    assert [] == looker.names()
    wait_for(lambda: not looker.backlog.found, what="nothing more")
    looker.policy = load(table(critical="1s"))
    looker.names()
    wait_for(lambda: bool(looker.backlog.found), what="a look")


def test_it_ends_with_its_worker(looker: Looker, wait_for: WaitFor) -> None:
    """Also where several workers live in one process, one after the other."""
    looker.names()
    wait_for(lambda: bool(looker.backlog.found), what="a first look")
    looker.backlog.close()
    thread = looker.backlog._thread
    assert thread is not None
    thread.join(10)

    assert not thread.is_alive()
