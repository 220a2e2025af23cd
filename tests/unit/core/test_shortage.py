"""What tells a shortage beside the waits of those that started: the broker and the ledger."""

from __future__ import annotations

import pytest

from celery_budget.core.accounts import Accounts
from celery_budget.core.calendar import calendar_window
from celery_budget.core.decisions import Start
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.shortage import (
    FRESH_S,
    Cause,
    Queued,
    Shortage,
    worst,
)
from celery_budget.core.throttle import ENOUGH
from celery_budget.policy.load import load
from celery_budget.policy.model import Band, Policy
from tests.unit.core.worker import NOW, run, ticket

CRITICAL = Band("critical", 0, preempts=True, latency_target=0.1)
OPTIONAL = Band("optional", 1)
SLOTS = 8


class Worker:
    """A worker full of critical tickets, which tells nothing by itself, and its broker."""

    def __init__(self, *, workers: int = 1, service_s: float | None = 0.1) -> None:
        self.dispatcher = Dispatcher([CRITICAL, OPTIONAL], SLOTS)
        self.now = NOW
        self.workers = workers
        if service_s is not None:
            self._learn(service_s)
        run(self.dispatcher, *(ticket("critical", published=self.now) for _ in range(SLOTS)))
        self.now += 0.99
        self.period(0)  # its first one ends, in which they started in time

    def _learn(self, service_s: float) -> None:
        (start,) = run(self.dispatcher, ticket("critical", published=self.now), now=self.now)
        assert isinstance(start, Start)
        self.dispatcher.ended(start.ticket, self.now + service_s)

    def period(self, messages: int, age_s: float = 0.0) -> None:
        """Let one pass, with a look at the broker."""
        self.now += 1.01
        look = Queued(messages, age_s, self.now - 0.5, self.workers)
        self.dispatcher.see({"critical": look})
        self.dispatcher.decide(self.now)

    @property
    def share(self) -> float:
        """Of the optional band."""
        return self.dispatcher.throttled_to("optional")


def test_a_deep_queue_counts_as_the_time_that_it_takes_to_drain() -> None:
    """Eight a tenth of a second; at the goal, half of that, nothing is held back for it."""
    worker = Worker()
    for _ in range(4):
        worker.period(4)
    assert 1.0 == worker.share

    for _ in range(2):
        worker.period(8)
    assert worker.share == pytest.approx(0.5)
    assert Cause.QUEUE is worker.dispatcher.throttled_by("optional")
    assert worker.dispatcher.throttled_by("critical") is None


def test_a_queue_that_many_workers_share_drains_faster() -> None:
    """Of 32 messages each of four has eight."""
    worker = Worker(workers=4)
    for _ in range(2):
        worker.period(16)
    assert 1.0 == worker.share

    worker.period(32)
    worker.period(32)
    assert worker.share == pytest.approx(0.5)


@pytest.mark.parametrize(("workers", "service_s"), [(0, 0.1), (1, None)])
def test_depth_says_nothing_without_knowing_who_drains_it(
    workers: int, service_s: float | None
) -> None:
    """By a guess, lesser work would be held back for what takes no time."""
    worker = Worker(workers=workers, service_s=service_s)
    for _ in range(4):
        worker.period(10_000)

    assert 1.0 == worker.share


@pytest.mark.parametrize("workers", [0, 1])
def test_the_age_of_the_oldest_message_counts_beside_the_target(workers: int) -> None:
    """Whoever drains it: it has waited for that long."""
    worker = Worker(workers=workers)
    for _ in range(2):
        worker.period(ENOUGH, age_s=0.045)
    assert 1.0 == worker.share

    for _ in range(2):
        worker.period(ENOUGH, age_s=0.1)
    assert worker.share == pytest.approx(0.5)


def test_a_single_message_moves_the_share_by_a_sixth_at_most() -> None:
    """As a single late start does."""
    worker = Worker()
    for _ in range(2):
        worker.period(1, age_s=100.0)

    assert 5 / 6 < worker.share < 1.0


def test_what_is_gone_by_the_next_look_tells_nothing() -> None:
    """It has started, and its wait counts then."""
    worker = Worker()
    for _ in range(4):
        worker.period(100, age_s=1.0)
        worker.period(0)

    assert 1.0 == worker.share


def test_the_same_look_told_again_is_no_second_one() -> None:
    """The broker is asked in a thread, which may be slower than periods pass."""
    worker = Worker()
    look = Queued(100, 10.0, worker.now, 1)
    for _ in range(3):
        worker.now += 1.01
        worker.dispatcher.see({"critical": look})
        worker.dispatcher.decide(worker.now)

    assert 1.0 == worker.share


def test_old_looks_tell_nothing() -> None:
    """A broker that does not answer is no reason to hold anybody back, nor are clocks set back."""
    worker = Worker()
    looks = [Queued(100, 10.0, worker.now + each, 1) for each in (0.0, 1.0)]
    for late_s in (FRESH_S + 0.1, FRESH_S + 2, -20.0):
        for look in looks:
            worker.dispatcher.see({"critical": look})
        worker.dispatcher.decide(worker.now + late_s)

    assert 1.0 == worker.share


def test_a_broker_that_nobody_sees_any_more_tells_nothing() -> None:
    """Two looks before and after do not make one shortage."""
    worker = Worker()
    worker.period(100)
    worker.dispatcher.see({})
    worker.period(100)

    assert 1.0 == worker.share


def test_the_share_comes_back_when_the_queue_is_empty() -> None:
    """By itself, as slots come free."""
    worker = Worker()
    for _ in range(6):
        worker.period(100)
    assert worker.share < 0.2
    assert Cause.QUEUE is worker.dispatcher.throttled_by("optional")

    (held, *_) = worker.dispatcher._running
    worker.dispatcher.ended(held, worker.now)
    for _ in range(10):
        worker.period(0)
    assert 1.0 == worker.share
    assert worker.dispatcher.throttled_by("optional") is None


def test_a_paused_band_needs_no_room() -> None:
    """Nobody asks for its messages; what has waited through the pause was not late for a slot."""
    worker = Worker()
    policy = Policy(bands=(CRITICAL, OPTIONAL), default_band="optional")
    worker.dispatcher.amend(policy, ["critical"], worker.now)
    for _ in range(3):
        worker.period(100, age_s=50.0)
    assert 1.0 == worker.share

    worker.dispatcher.amend(policy, [], worker.now)
    for _ in range(3):
        worker.period(1, age_s=50.0)
    assert 1.0 == worker.share


def test_what_most_likely_waits_for_a_budget_needs_no_room() -> None:
    """More slots would not help it; where only some of the band lacks one, its queue counts."""
    policy = load(
        {
            "bands": {"critical": {"preempts": True, "latency_target": "100ms"}, "optional": {}},
            "default_band": "optional",
            "budgets": {"tenant:poor": {"slots": 2}},
        }
    )
    accounts = Accounts(policy, {}, calendar_window, lease_s=5.0)
    dispatcher = Dispatcher(policy.bands, SLOTS, accounts=accounts)
    poor = [ticket("critical", tenant="poor", published=NOW) for _ in range(3)]
    run(dispatcher, *poor)
    now = NOW
    for _ in range(4):
        now += 1.01
        dispatcher.see({"critical": Queued(100, 10.0, now, 1)})
        dispatcher.decide(now)
    assert 1.0 == dispatcher.throttled_to("optional")

    run(dispatcher, *(ticket("critical", published=now) for _ in range(4)), now=now)
    now += 1.01
    dispatcher.see({"critical": Queued(100, 10.0, now, 1)})
    dispatcher.decide(now)
    assert dispatcher.throttled_to("optional") < 1.0


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([Shortage(0.2, 9, Cause.WAIT), Shortage(0.4, 1, Cause.NODE)], 0.4),
        ([Shortage(0.0, 0, Cause.WAIT), Shortage(0.2, 9, Cause.NODE)], 0.2),
        # A lone one that is very late does not hide many that are late.
        ([Shortage(1.0, 9, Cause.WAIT), Shortage(8.0, 1, Cause.QUEUE)], 1.0),
        ([Shortage(0.55, 9, Cause.WAIT), Shortage(8.0, 3, Cause.QUEUE)], 8.0),
        ([Shortage(0.1, 9, Cause.WAIT), Shortage(0.6, 1, Cause.QUEUE)], 0.6),
    ],
)
def test_the_worst_is_what_takes_most(others: list[Shortage], expected: float) -> None:
    """By its size, as far as there is evidence for it."""
    assert expected == worst(others).size
    assert expected == worst(reversed(others)).size
