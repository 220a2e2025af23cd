"""One worker of a simulation: the production dispatcher and books, between broker and ledger.

Nothing here decides; it performs what the dispatcher answers, as `celery_budget.worker` does on
real processes, and lets time pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf
from typing import TYPE_CHECKING, cast

from celery_budget.core.accounts import Accounts
from celery_budget.core.calendar import calendar_window
from celery_budget.core.decisions import (
    Decision,
    Evict,
    Expire,
    Freeze,
    Refuse,
    Return,
    Start,
    Stay,
    Thaw,
    Wait,
    Yield,
)
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.exchange import Report
from celery_budget.core.pressure import Sample
from celery_budget.core.processors import Use
from celery_budget.core.reporting import IDLE_S, LATE_US, LEASE_S, pause_s
from celery_budget.core.season import WEEK
from celery_budget.core.ticket import Ticket
from celery_budget.policy.budget import Scope
from celery_budget.policy.preemption import Method
from celery_budget.simulate.job import Job, Run

if TYPE_CHECKING:
    from celery_budget.simulate.world import World

#: How often a worker to which nothing happens looks again, seconds; as a real one does.
LOOK_S = 1.0

#: Between two tallies of arrivals, seconds. A real worker tells one every 5 s, which a simulated
#: week has no time for; no reserve is set less than twice as long ahead.
TALLY_S = 15.0


@dataclass(slots=True, eq=False)
class _Execution:
    """A job in a child.

    Attributes:
        run: Its record.
        since: When it began, or was let go on, Unix seconds; inf while it stands still.
        done_s: What it had done before that, seconds.
        leaves_at: When it leaves instead of ending; inf: it was not asked to.
        is_evicted: Whether it begins anew, or from its last checkpoint, when it runs again.
        turn: Counts what changed when it ends, so that an end planned before is none.
    """

    run: Run
    since: float
    done_s: float = 0.0
    leaves_at: float = inf
    is_evicted: bool = False
    turn: int = 0


class SimulatedWorker:
    """A worker that asks the broker, decides, runs jobs, and reports to the ledger.

    Args:
        world: That it is in.
        name: Of it, as in `worker:NAME` of a budget.
        slots: Of its pool.
        memory: Of its node, bytes; None: it is not looked at.
        processors: Of its node; None: they are not looked at. Nothing gets slower where there are
            too few.

    Attributes:
        name: As given.
        memory: As given; it may change.
        processors: The same.
        others: What others than this worker's jobs take of it, bytes.
        dispatcher: The one of production.
        accounts: Its books; None for a policy without budgets.
        is_dead: Whether it was killed.
        clock: Of its world.
    """

    def __init__(
        self,
        world: World,
        name: str,
        slots: int,
        memory: int | None = None,
        processors: float | None = None,
    ) -> None:
        policy = world.policy
        self.name = name
        self.memory = memory
        self.processors = processors
        self.others = 0
        self.is_dead = False
        self._world = world
        self.clock = world.clock
        self.accounts: Accounts | None = None
        if policy.has_accounts:
            self.accounts = Accounts(policy, {Scope.WORKER: name}, calendar_window, lease_s=LEASE_S)
        self.dispatcher = Dispatcher(
            policy.bands,
            slots,
            seed=policy.seed,
            accounts=self.accounts,
            weight=policy.tenant_weight if policy.tenants else None,
            preemption=policy.preemption,
            ways=world.ways,
            spare=policy.preemption.spare if Method.FREEZE in world.ways else 0,
            pressure=None if memory is None and processors is None else policy.pressure,
        )
        self._is_watched = self.dispatcher.need is not None
        self._bands = [band.name for band in policy.bands]
        self._under_way = dict.fromkeys(self._bands, 0)
        self._children: dict[Job, _Execution] = {}
        self._asks_at = inf
        self._number = 0
        self._epoch = ""
        self._is_reporting = False
        self._reported = -IDLE_S
        self._polls_at = inf
        self._is_turning = False

    def open(self) -> None:
        """Begin to ask the broker for messages."""
        self.dispatcher.listen(self._bands, self.clock.now)
        self._world.broker.consume(self._came)
        if self.dispatcher.forecast.seasons:
            self._tally()
        self._look()

    def _tally(self) -> None:
        """Tell what has arrived, hear what arrived elsewhere, and set the reserves by it."""
        if self.is_dead:
            return
        self.clock.after(TALLY_S, self._tally)
        forecast, now = self.dispatcher.forecast, self.clock.now
        tally = forecast.tally(self.name, self.dispatcher.slots, now, self._bands)
        if tally is not None:
            store, week = self._world.arrivals, tally.bin // WEEK
            recent = store.count(tally)
            if forecast.lacks(tally):
                forecast.remember({band: store.weeks(band, week) for band in tally.bands}, week)
            forecast.heard(tally, recent)
            if self.dispatcher.foresee(self.name, now):
                self.turn()

    def _look(self) -> None:
        if self.is_dead:
            return
        self.clock.after(LOOK_S, self._look)
        if self._is_watched:
            using: dict[Ticket, int] = {job: job.usage.get("memory", 0) for job in self._children}
            sample = Sample(0, 1)
            if self.memory is not None:
                sample = Sample(self.others + sum(using.values()), self.memory)
            self.dispatcher.look(sample, using, self.clock.now, self._use())
        living = [worker for worker in self._world.workers.values() if not worker.is_dead]
        self.dispatcher.see(self._world.broker.look(max(1, len(living))))
        self.turn()

    def _use(self) -> Use | None:
        """Tell how many processors what runs keeps busy."""
        if self.processors is None:
            return None
        tasks: dict[Ticket, float] = {
            job: job.usage.get("cpu", 0) / 1e6 / job.length_s
            for job, execution in self._children.items()
            if execution.since < inf
        }
        return Use(self.processors, min(self.processors, sum(tasks.values())), 0.0, tasks)

    def _came(self, band: str) -> None:
        """Fetch what has come, if there is room for it."""
        if not self.is_dead:
            self._fetch(band)

    def hold(self, job: Job) -> None:
        """Put a job into the worker's reach at once."""
        self.dispatcher.offer(job, self.clock.now)
        self.turn()

    def kill(self) -> None:
        """End without a word, and everything that runs here; the broker has the rest again."""
        self.is_dead = True
        for ticket in reversed(self.dispatcher.drain()):
            self._world.broker.give_back(cast("Job", ticket))
        for execution in self._children.values():
            execution.turn += 1
            execution.run.ended = self.clock.now
        self._children.clear()

    def turn(self) -> None:
        """Perform decisions until nothing more can start, then ask for more."""
        if self._is_turning or self.is_dead:
            return
        self._is_turning = True
        while (decision := self.dispatcher.decide(self.clock.now)) is not None:
            if isinstance(decision, Wait):
                self._ask_again(decision.until)
                break
            self._perform(decision)
        self._is_turning = False
        self._poll()
        for band in self._bands:
            self._fetch(band)

    def _ask_again(self, until: float) -> None:
        now = self.clock.now
        # An alarm that is set for later comes as well, and finds nothing to do.
        if not now < self._asks_at <= until and until < inf:
            self._asks_at = until
            self.clock.at(until, self.turn)

    def _fetch(self, band: str) -> None:
        if not self._world.broker.queues[band]:
            return
        asked = self.dispatcher.window(band) - self._under_way[band]
        if asked > 0:
            self._under_way[band] += self._world.broker.fetch(band, asked, self._arrive)

    def _arrive(self, job: Job) -> None:
        self._under_way[job.band] -= 1
        if self.is_dead:
            self._world.broker.give_back(job)
            return
        self.hold(job)

    def _perform(self, decision: Decision) -> None:
        assert not isinstance(decision, Wait)
        job = cast("Job", decision.ticket)  # only what `hold` offered is in the dispatcher
        if isinstance(decision, Start):
            run = Run(
                job,
                self.name,
                decision.reason,
                self.clock.now,
                is_degraded=decision.is_degraded,
            )
            self._world.runs.append(run)
            if decision.is_degraded:
                job.length_s *= job.degraded_to
            execution = self._children[job] = _Execution(run, self.clock.now)
            self._plan(execution)
        elif isinstance(decision, Refuse):
            self._world.refused.append(job)
        elif isinstance(decision, Expire):
            self._world.expired.append(job)
        elif isinstance(decision, Return):
            self._world.broker.give_back(job)
        else:
            self._make_room(decision, self._children[job])

    def _make_room(
        self, decision: Freeze | Thaw | Yield | Evict | Stay, execution: _Execution
    ) -> None:
        now = self.clock.now
        job = execution.run.job
        if isinstance(decision, Freeze):
            execution.done_s += now - execution.since
            execution.run.frozen_s -= now
            execution.since = inf
        elif isinstance(decision, Thaw):
            execution.run.frozen_s += now
            execution.since = now
        elif isinstance(decision, Evict):
            execution.is_evicted = True
            execution.leaves_at = now + job.clean_up_s
        elif isinstance(decision, Stay):
            execution.leaves_at = inf
        elif job.step_s < inf:
            done_s = execution.done_s + now - execution.since
            steps = ceil((done_s + 1e-9) / job.step_s)
            execution.leaves_at = now + steps * job.step_s - done_s
        self._plan(execution)

    def _plan(self, execution: _Execution) -> None:
        """Let an execution end when it will, as things are now."""
        execution.turn += 1
        if execution.since == inf:
            return
        left_s = execution.run.job.length_s - execution.done_s
        ends_at = min(execution.since + left_s, execution.leaves_at)
        turn = execution.turn

        def end() -> None:
            if execution.turn == turn:
                self._end(execution)

        self.clock.at(ends_at, end)

    def _end(self, execution: _Execution) -> None:
        now = self.clock.now
        run = execution.run
        job = run.job
        del self._children[job]
        execution.turn += 1
        run.ended = now
        done_s = execution.done_s + now - execution.since
        run.has_left = execution.leaves_at <= now and done_s < job.length_s
        self.dispatcher.ended(job, now, has_left=run.has_left, usage=job.usage)
        if run.has_left:
            kept_s = done_s
            if execution.is_evicted:
                kept_s = done_s // job.step_s * job.step_s if job.step_s < inf else 0.0
            self._world.resume(job, job.length_s - kept_s)
        self.turn()

    def _poll(self) -> None:
        """Report if that is due, or look again when it will be."""
        if self.accounts is None or self._is_reporting or self.is_dead:
            return
        now = self.clock.now
        since_s = now - self._reported
        due = self._reported + pause_s(
            self.accounts, self.dispatcher, since_s, self.clock.now_us, now
        )
        if due <= now:
            self._report(self.accounts)
        elif not now < self._polls_at <= due:
            self._polls_at = due
            self.clock.at(due, self._poll)

    def _report(self, accounts: Accounts) -> None:
        """Send a report, whose answer comes a moment later."""
        clock, world = self.clock, self._world
        standings = self.dispatcher.standings(clock.now)
        lines = accounts.lines(clock.now, clock.now_us, self.dispatcher.slots, standings)
        self._number += 1
        self._is_reporting = True
        self._reported = clock.now
        urgency = self.dispatcher.urgency(clock.now)
        report = Report(self.name, self._number, self._epoch, LATE_US, lines, *urgency)

        def arrive() -> None:
            answer = world.ledger.exchange(report)

            def hear() -> None:
                self._is_reporting = False
                self._epoch = answer.epoch
                self.dispatcher.room_elsewhere = answer.room
                self.dispatcher.expect(answer.waiting, answer.workers, clock.now)
                if not self.is_dead:
                    heard = accounts.heard(report.lines, answer, clock.now)
                    self.dispatcher.wake(heard, clock.now)
                    self.turn()

            clock.after(world.delay_s(), hear)

        clock.after(world.delay_s(), arrive)
