"""A backlog in one tenant's lanes leaves the others' waits short, whatever they are called.

A pure model: senders choose lanes by the code of the sender, workers ask lanes in the order of
the code of the worker, and one message is fetched for each slot that becomes free.
"""

from __future__ import annotations

import heapq
from collections import deque
from itertools import count
from random import Random

import pytest

from celery_budget.core.lanes import MORE, OWN, choose, order_of
from celery_budget.core.turns import Turns

COUNT = 8
SLOTS, TASK_S, RATE = 8, 0.1, 60.0
ELEPHANT = "elephant"


def filled(tenant: str, backlog: int, processes: int = 1, lanes: int = COUNT) -> list[int]:
    """Tell how deep the lanes are after a tenant's backlog came from so many processes."""
    order = order_of(tenant, lanes)
    depths = [0] * lanes
    own = [0] * processes
    for number in range(backlog):
        chosen = choose(order, depths, own[number % processes])
        own[number % processes] += chosen in order[:OWN]
        depths[chosen] += 1
    return depths


@pytest.mark.parametrize("processes", [1, 8, 48])
def test_every_pair_of_names_gets_a_lane_without_the_backlog(processes: int) -> None:
    """With plain shuffle sharding one pair in 28 would wait behind all of it."""
    names = [f"tenant-{number}" for number in range(2_000)]
    shapes = {}
    for name in names[:200]:
        order = order_of(name, COUNT)
        shapes.setdefault(frozenset(order[:OWN]), filled(name, 5_000, processes))
    checked = 0
    for depths in shapes.values():
        deep = [20 * depth for depth in depths]
        for name in names:
            checked += 1
            assert deep[choose(order_of(name, COUNT), deep, 0)] <= MORE, name

    assert checked == 28 * len(names)


def test_a_backlog_of_processes_that_know_nothing_degrades_gently() -> None:
    """Where nobody can tell whose a backlog is, it takes an eighth more of each further lane.

    Plain shuffle sharding would leave one in 28 behind half of it, and knowing nothing else, a
    rule that always goes on would fill all lanes.
    """
    deep = filled(ELEPHANT, 100_000, processes=100_000)
    waiting = [deep[choose(order_of(f"tenant-{n}", COUNT), deep, 0)] for n in range(5_000)]

    assert sum(depth > 10 for depth in waiting) < 0.06 * len(waiting)
    assert sum(depth > 1_000 for depth in waiting) < 0.025 * len(waiting)
    assert sum(depth > 10_000 for depth in waiting) < 0.01 * len(waiting)


def test_several_backlogs_leave_a_lane_as_long_as_lanes_are_left() -> None:
    """Three of them fill six lanes at most; a fourth tenant's tasks go to one of the others."""
    chance = Random(1)
    for _ in range(2_000):
        depths = [0] * COUNT
        for _ in range(3):
            for lane in order_of(f"elephant-{chance.random()}", COUNT)[:OWN]:
                depths[lane] += 30_000
        chosen = choose(order_of(f"tenant-{chance.random()}", COUNT), depths, 0)

        assert 0 == depths[chosen]


class Model:
    """One band's lanes, two workers and the tenants' senders.

    Args:
        tenants: Of whom tasks come at random moments.
        backlog: The elephant's, there from the beginning.
        lanes: How many; 1: the queue itself.
    """

    def __init__(self, tenants: list[str], backlog: int, seed: int, lanes: int = COUNT) -> None:
        self._tenants = tenants
        self._chance = Random(seed)
        self._lanes = lanes
        self.queues: dict[str, deque[tuple[str, float]]] = {str(n): deque() for n in range(lanes)}
        self._seen = [0] * lanes
        self._turns = [Turns(), Turns()]
        self.waits: list[float] = []
        depths = filled(ELEPHANT, backlog, lanes=lanes) if lanes > 1 else [backlog]
        for number, depth in enumerate(depths):
            self.queues[str(number)].extend([(ELEPHANT, 0.0)] * depth)

    def run(self, seconds: float) -> list[float]:
        """Let time pass; give the waits of the others' tasks."""
        order = count()
        events: list[tuple[float, int, str, int]] = []
        free = [SLOTS // 2, SLOTS // 2]
        heapq.heappush(events, (self._chance.expovariate(RATE), next(order), "arrival", 0))
        heapq.heappush(events, (0.0, next(order), "look", 0))
        while events:
            now, _, kind, worker = heapq.heappop(events)
            if now > seconds:
                break
            if kind == "arrival":
                self._arrive(now)
                soon = now + self._chance.expovariate(RATE)
                heapq.heappush(events, (soon, next(order), "arrival", 0))
            elif kind == "look":
                self._seen = [len(queue) for queue in self.queues.values()]
                heapq.heappush(events, (now + 1.0, next(order), "look", 0))
            else:
                free[worker] += 1
            for each in sorted(range(2), key=lambda _each: self._chance.random()):
                while free[each] and self._start(each, now):
                    free[each] -= 1
                    # Tasks that all take the same time would keep in step with each other.
                    end = now + TASK_S * self._chance.uniform(0.8, 1.2)
                    heapq.heappush(events, (end, next(order), "end", each))
        return sorted(self.waits)

    def _arrive(self, now: float) -> None:
        tenant = self._chance.choice(self._tenants)
        chosen = 0
        if self._lanes > 1:
            chosen = choose(order_of(tenant, self._lanes), self._seen, 0)
            self._seen[chosen] += 1
        self.queues[str(chosen)].append((tenant, now))

    def _start(self, worker: int, now: float) -> bool:
        turns = self._turns[worker]
        for queue in turns.order(self.queues, now):
            if self.queues[queue]:
                tenant, at = self.queues[queue].popleft()
                turns.came(queue, now)
                turns.used(tenant, TASK_S, now, queue)
                if tenant != ELEPHANT:
                    self.waits.append(now - at)
                return True
        return False


def names(seed: int) -> list[str]:
    """Name nineteen tenants; of every third set all share a lane with the elephant."""
    chance = Random(seed)
    found: list[str] = []
    while len(found) < 19:
        name = f"tenant-{chance.random()}"
        own = set(order_of(name, COUNT)[:OWN]) & set(order_of(ELEPHANT, COUNT)[:OWN])
        if seed % 3 or len(own) >= 1 + (len(found) < 6):
            found.append(name)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_nineteen_wait_at_most_three_times_as_long_beside_a_backlog(seed: int) -> None:
    """The promise, on a load of three quarters; every third set of names is chosen to be bad."""
    tenants = names(seed)
    without = Model(tenants, 0, seed).run(120)
    beside = Model(tenants, 100_000, seed).run(120)
    p95 = [waits[int(0.95 * len(waits))] for waits in (without, beside)]

    assert len(beside) > 0.9 * len(without)
    assert p95[1] <= 3 * p95[0], p95


def test_without_lanes_nineteen_wait_behind_the_backlog() -> None:
    """What lanes are for; and that the model can show it."""
    waits = Model(names(1), 100_000, 1, lanes=1).run(120)

    assert [] == waits
