"""Room for urgent work that is stuck elsewhere: in time, for few, and nobody pays for it twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random
from statistics import mean
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from celery_budget.core.decisions import Decision, Evict, Return, Start, Yield
from celery_budget.core.exchange import Report
from celery_budget.core.guests import GUEST_S, HAND_ON_S, MOST_VAIN_S, VAIN_S
from celery_budget.core.reporting import LATE_US, TICK_S
from celery_budget.core.ticket import Ticket
from celery_budget.policy.load import load
from celery_budget.simulate.job import Job
from celery_budget.simulate.worker import SimulatedWorker
from celery_budget.simulate.world import LEDGER_DELAY_S, World

POLICY: dict[str, Any] = {
    "default_band": "optional",
    "bands": {"critical": {"preempts": True}, "urgent": {}, "important": {}, "optional": {}},
    "tasks": {
        "pay": {"band": "critical"},
        "hurry": {"band": "urgent", "preempt": ["checkpoint"]},
        "sort": {"band": "important"},
        "steps": {"preempt": ["checkpoint"]},
        "crop": {"preempt": ["evict"]},
        "both": {"preempt": ["checkpoint", "evict"]},
        "still": {"preempt": ["freeze"]},
    },
    # So that workers have a ledger.
    "budgets": {"fleet": {"slots": 1_000}},
}

#: The ledger hears so late at most that a ticket is not stuck any more: after a tick, an exchange
#: that was under way, and its own way there.
LATE_S = TICK_S + 3 * LEDGER_DELAY_S[1]


#: At one moment; each of them starts, ends or asks something.
MOST_DECISIONS = 1_000


class Watched(World):
    """A world that notes who was asked to leave for a guest, and how long urgent ones were stuck.

    Attributes:
        asked: Tickets that were asked to leave for guests, and when.
        stuck_s: For how long each urgent ticket was held, if it did not start at once; seconds.
    """

    def __init__(self, seed: int, bands: Mapping[str, Any] = POLICY["bands"]) -> None:
        super().__init__(load({**POLICY, "bands": bands}), seed=seed)
        self.asked: list[tuple[Ticket, float]] = []
        self.stuck_s: list[float] = []

    def add_worker(self, name: str, slots: int, memory: int | None = None) -> SimulatedWorker:
        """Let one more worker take part, and watch it."""
        worker = super().add_worker(name, slots, memory)
        dispatcher = worker.dispatcher
        decide, offer = dispatcher.decide, dispatcher.offer
        held: dict[Ticket, float] = {}
        turns: Counter[float] = Counter()

        def watched(now: float) -> Decision | None:
            decision = decide(now)
            turns[now] += 1
            assert turns[now] < MOST_DECISIONS, "it decides for ever"
            if isinstance(decision, Yield | Evict) and decision.is_for_guest:
                self.asked.append((decision.ticket, now))
            elif isinstance(decision, Start | Return) and decision.ticket in held:
                since = held.pop(decision.ticket)
                if now > since:
                    self.stuck_s.append(now - since)
            return decision

        def offered(ticket: Ticket, now: float) -> None:
            if dispatcher._by_name[ticket.band].rule.preempts:
                held[ticket] = now
            offer(ticket, now)

        dispatcher.decide, dispatcher.offer = watched, offered  # type: ignore[method-assign]
        return worker

    def give(self, worker: SimulatedWorker, task: str, length_s: float, step_s: float = 0.0) -> Job:
        """Put a job into a worker's reach, as one comes whose time has come there."""
        job = self.job(task, length_s)
        job.step_s = step_s or job.step_s
        worker.hold(job)
        return job

    def waited_s(self, jobs: list[Job]) -> list[float]:
        """Tell how long jobs waited for their start, seconds; each has begun once."""
        first = {run.job.id: run.waited_s for run in reversed(self.runs)}
        return [first[job.id] for job in jobs]

    def stepped_s(self, since: float) -> float:
        """Tell for how long tasks that come to checkpoints have run since a time, seconds."""
        return sum(
            min(run.ended, self.clock.now) - max(run.started, since)
            for run in self.runs
            if run.job.task == "steps" and run.ended > since
        )


def fleet(world: Watched, slots: int, helpers: int, step_s: float) -> SimulatedWorker:
    """Fill a worker with what cannot give way and others with what leaves; give the first."""
    stuck, *others = [world.add_worker(f"w{number}", slots) for number in range(1 + helpers)]
    for _ in range(slots):
        world.give(stuck, "sort", 1e6)
        for other in others:
            world.give(other, "steps", 1e6, step_s)
    world.clock.run(3.0)
    return stuck


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), slots=st.integers(1, 4), helpers=st.integers(2, 5))
def test_urgent_work_that_is_stuck_starts_elsewhere_before_it_was_handed_on(
    seed: int, slots: int, helpers: int
) -> None:
    """It would be left to others after `HAND_ON_S`, and only then would they begin to make room."""
    world = Watched(seed)
    chance = Random(seed)
    stuck = fleet(world, slots, helpers, 0.02)
    urgent = []
    for _ in range(10):
        world.clock.run(chance.uniform(1.0, 2.0))
        urgent.append(world.give(stuck, "pay", 0.01))
    world.clock.run(2.0)

    waited = world.waited_s(urgent)
    assert mean(waited) < HAND_ON_S
    assert max(waited) < HAND_ON_S + 0.1


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    workers=st.integers(1, 6),
    slots=st.integers(1, 4),
    rate=st.sampled_from([0.5, 5.0, 50.0]),
)
def test_few_leave_for_what_is_stuck_and_nothing_is_lost(
    seed: int, workers: int, slots: int, rate: float
) -> None:
    """One for each urgent ticket that is stuck, and one more for each further `GUEST_S` of it.

    Whatever the workers run, and however many of them hear of it.
    """
    chance = Random(seed)
    bands: dict[str, Any] = {
        "critical": {"preempts": True, "reserve": chance.choice([0, 0, 1])},
        "urgent": {"preempts": chance.random() < 0.5, "reserve": chance.choice([0, 0, 1])},
        "important": {"reserve": chance.choice([0, 0, 1])},
        "optional": {"min_share": chance.choice([0.0, 0.05])},
    }
    world = Watched(seed, bands)
    members = [world.add_worker(f"w{number}", slots) for number in range(workers)]
    jobs = []
    for _ in range(chance.randint(10, 150)):
        world.clock.run(chance.expovariate(rate))
        task = chance.choice(["pay", "pay", "hurry", "sort", "steps", "crop", "both", "still"])
        length_s = chance.expovariate(1 / chance.choice([0.05, 0.5, 3.0]))
        step_s = chance.choice([0.005, 0.1, 1.0])
        if chance.random() < 0.7:
            jobs.append(world.give(chance.choice(members), task, length_s, step_s))
        else:
            job = world.job(task, length_s)
            job.step_s = step_s
            jobs.append(job)
            world.broker.publish(job)
    # What is evicted again and again takes long.
    for _ in range(100):
        world.clock.run(20.0)
        if not any(member.dispatcher.held_total or member._children for member in members):
            break

    ended = Counter(run.job.id for run in world.runs if not run.has_left)
    assert {job.id: 1 for job in jobs} == ended
    assert all(member.dispatcher.free == slots for member in members)
    bound = sum(1 + (stuck_s + LATE_S) / GUEST_S for stuck_s in world.stuck_s)
    assert len(world.asked) <= bound
    assert workers > 1 or not world.asked


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), slots=st.integers(1, 3), helpers=st.integers(1, 4))
def test_room_that_nobody_uses_is_made_ever_more_seldom(
    seed: int, slots: int, helpers: int
) -> None:
    """Urgent work waits somewhere for ever and never comes: lesser work hardly notices."""
    world = Watched(seed)
    fleet(world, slots, helpers, 0.01)
    # A slot that is idle is so for guests, and not because others hold what would start there.
    for _ in range(10 * slots * helpers):
        job = world.job("steps", 1e6)
        job.step_s = 0.01
        world.broker.publish(job)
    begun = world.clock.now
    number = 0

    def cry() -> None:
        nonlocal number
        number += 1
        world.ledger.exchange(Report("ghost", number, "", LATE_US, (), 0, 100, 0))
        world.clock.after(TICK_S, cry)

    cry()
    seconds = 2 * MOST_VAIN_S
    world.clock.run(seconds)

    # After 1, 2, 4 ... 32 s, and from then on after a minute.
    rounds, pause_s, passed = 0, VAIN_S, 0.0
    while passed < seconds:
        rounds += 1
        passed += GUEST_S + pause_s
        pause_s = min(2 * pause_s, MOST_VAIN_S)
    assert 0 < len(world.asked) <= rounds * slots * helpers
    assert world.stepped_s(begun) > 0.98 * seconds * slots * helpers


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), slots=st.integers(1, 3))
def test_lesser_work_goes_on_while_urgent_work_is_always_stuck(seed: int, slots: int) -> None:
    """It gets what the urgent work does not use, less what it takes to leave and come back."""
    world = Watched(seed)
    stuck = fleet(world, slots, 1, 0.01)
    begun = world.clock.now
    seconds, length_s = 8.0, 0.02
    every_s = 0.1 / slots
    urgent = []
    for _ in range(int(seconds / every_s)):
        world.clock.run(every_s)
        urgent.append(world.give(stuck, "pay", length_s))
    world.clock.run(1.0)

    assert world.asked
    assert world.stepped_s(begun) > 0.5 * (seconds * slots - len(urgent) * length_s)
    assert mean(world.waited_s(urgent)) < 3 * HAND_ON_S
