"""Workers that share budgets through a ledger, in one world; what they may never do.

Used by the simulations of budgets in this folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

from hypothesis import strategies as st

from celery_budget.core.accounts import Accounts
from celery_budget.core.admission import Group
from celery_budget.core.reporting import TICK_S
from celery_budget.core.ticket import Ticket
from celery_budget.policy.load import load
from celery_budget.simulate.job import Job, Run
from celery_budget.simulate.worker import SimulatedWorker
from celery_budget.simulate.world import World
from tests.budgets import most_within

ONE = 1_000_000


class Member(SimulatedWorker):
    """A worker that is handed its jobs, and has budgets in any case."""

    accounts: Accounts


class Fleet(World):
    """Several workers that are handed their jobs, none through the broker.

    Args:
        policy: Of all of them, as a file would have it.
        workers: How many.
        slots: Of each.
        rng: Decides when they report first, and how long messages are under way.
    """

    def __init__(self, policy: Mapping[str, Any], workers: int, slots: int, rng: Random) -> None:
        super().__init__(load(policy), seed=rng.randrange(2**32))
        self.members = [Member(self, f"w{number}", slots) for number in range(workers)]
        for member in self.members:
            self.clock.after(rng.uniform(0, TICK_S), member.turn)

    def make(
        self,
        band: str,
        task: str,
        length_s: float,
        tenant: str = "",
        *,
        usage: Mapping[str, int] | None = None,
        **cost: int,
    ) -> Job:
        """Make a job, published now."""
        made = self.job(task, length_s, tenant=tenant)
        made.band = band
        made.cost = tuple(sorted(cost.items()))
        made.usage = usage or {}
        return made

    def fill(self, jobs: int, make: Callable[[], Job]) -> None:
        """Give every worker so many jobs, none at the very microsecond of another worker."""
        for member in self.members:
            for _ in range(jobs):
                member.hold(make())
            self.clock.run(0.0001)

    def run(self, seconds: float, look: Callable[[], None] = lambda: None) -> None:
        """Let time pass, looking around in every tick."""
        until = self.clock.now + seconds
        while self.clock.now + TICK_S < until:
            self.clock.run(TICK_S)
            look()
        self.clock.run(max(0.0, until - self.clock.now))

    def most_at_once(self, of: Callable[[Ticket], int]) -> int:
        """Tell how many units running tickets held together at most."""
        return most_at_once(self.runs, of)

    def most_started(self, of: Callable[[Ticket], bool], window_s: float) -> int:
        """Tell how many started at most in any window of so many seconds."""
        return most_within([run.started for run in self.runs if of(run.job)], window_s)


def most_at_once(runs: Iterable[Run], of: Callable[[Ticket], int]) -> int:
    """Tell how many units executions held together at most."""
    changes: Counter[tuple[float, int]] = Counter()
    for run in runs:
        changes[run.started, 1] += of(run.job)
        changes[run.ended, 0] -= of(run.job)
    most = held = 0
    for _, change in sorted(changes.items()):
        held += change
        most = max(most, held)
    return most


class Watch:
    """Finds a group that waits though its accounts have enough and its worker has a free slot.

    Of all that wait it looks at the first: of the most urgent band, the one that waits longest.
    What others lack may be kept for it.
    """

    #: What another worker keeps at hand goes back within ten, and must be asked for once more.
    MOST_TICKS = 12

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._first: Group | None = None
        self._ticks = 0

    def look(self) -> None:
        """Look once; called every tick."""
        waiting = [
            (group.rank, group.since, worker.name, group, worker)
            for worker in self._fleet.members
            if not worker.is_dead and worker.dispatcher.free
            for group in worker.accounts._blocked
            if group.waits_for is not None
        ]
        first = min(waiting, default=None, key=lambda each: each[:3])
        if first is None or not self._can(first[3]) or first[3] is not self._first:
            self._first = None if first is None else first[3]
            self._ticks = 0
            return
        self._ticks += 1
        assert self._ticks <= self.MOST_TICKS, f"stuck on {first[4].name} since {first[1]}"

    def _can(self, group: Group) -> bool:
        known = self._fleet.ledger.accounts([each.name for each in group.allowances])
        for allowance, units in zip(group.allowances, group.needs, strict=True):
            account = known.get(allowance.name)
            balance = allowance.rule.full if account is None else account.balance
            if balance + allowance.free < units:
                return False
        return True


BANDS = {"a": {}, "b": {}}


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    """Draw budgets of several kinds that may meet on one ticket."""
    budgets: dict[str, Any] = {}
    if draw(st.booleans()):
        budgets["task:x"] = {"starts": f"{draw(st.integers(5, 60))}/1s"}
    if draw(st.booleans()):
        budgets["tenant:*"] = {"slots": draw(st.integers(1, 4))}
    fleet: dict[str, Any] = {}
    if draw(st.booleans()) or not budgets:
        fleet["slots"] = draw(st.integers(1, 5))
    if draw(st.booleans()):
        fleet["memory"] = 100
    if draw(st.booleans()):
        fleet["tokens"] = f"{draw(st.integers(100, 2_000))}/1s"
    if fleet:
        budgets["fleet"] = fleet
    return {"default_band": "a", "bands": BANDS, "budgets": budgets}


def units_of(resource: str, ticket: Ticket) -> int:
    """Tell what a ticket declared of a resource."""
    return dict(ticket.cost).get(resource, 0)
