"""The pump: between the choke point and the pool.

Every request that Celery would give to the pool comes in through `offer`, whatever strategy,
ETA or rate limit it passed before. The dispatcher decides which held ticket gets a slot next;
the pump performs the decision. It does no I/O: a start is a write to the pool, as in Celery.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from threading import RLock
from time import monotonic, time
from typing import TYPE_CHECKING, cast

from celery.utils.log import get_logger

from celery_budget.core.decisions import Expire, Refuse, Return, Start, Wait
from celery_budget.core.roster import NOTHING_USED
from celery_budget.errors import BudgetRefused
from celery_budget.worker import seams
from celery_budget.worker.alarm import Alarm, CallAfter
from celery_budget.worker.intake import Intake
from celery_budget.worker.moves import HANDED_ON
from celery_budget.worker.returns import give_back_unstarted

if TYPE_CHECKING:
    from celery.worker.request import Request

    from celery_budget.core.admission import Group
    from celery_budget.core.dispatcher import Dispatcher
    from celery_budget.policy.model import Policy
    from celery_budget.worker.ceilings import Ceilings
    from celery_budget.worker.channels import Channels
    from celery_budget.worker.intake import Held
    from celery_budget.worker.leases import Leases
    from celery_budget.worker.metering import Metering
    from celery_budget.worker.moves import Moves
    from celery_budget.worker.preempter import Preempter, Preemptive
    from celery_budget.worker.pressure import NodeWatch
    from celery_budget.worker.slots import SlotPool

logger = get_logger(__name__)

#: Celery publishes a retry, and only then stores that the task is retried: whatever was stored of
#: the retry before that would be lost. So many seconds lie between the two at most.
TRIED_S = 1.0


class Pump:
    """Holds what cannot start and starts what can.

    Thread rules: with an event loop everything but `ended` runs in the loop's thread, and
    `ended` may come from a pool thread, which then wakes the loop. Without an event loop
    (gevent, eventlet, transports without one) requests come from timers and greenlets too, so
    each entry takes a lock.

    Attributes:
        dispatcher: Decides.
        is_open: Whether anything may start.
        pool: Where it starts.
        channels: Where its messages come from; None without windows.
        preempter: Lets running tasks give way.
        lock: Held by whoever touches the dispatcher or its accounts.
    """

    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        intake: Intake,
        moves: Moves,
        process: Callable[[Request], object],
        size: Callable[[], int],
        preempter: Preempter,
        leases: Leases | None = None,
        metering: Metering | None = None,
        ceilings: Ceilings | None = None,
        node: NodeWatch | None = None,
    ) -> None:
        self.dispatcher = dispatcher
        self.is_open = True
        self.pool: SlotPool
        self.channels: Channels | None = None
        self._intake = intake
        self._moves = moves
        self._process = process
        self._size = size
        self._leases = leases
        self._metering = metering
        self._ceilings = ceilings
        self._node = node
        self.preempter = preempter
        self._polls = Alarm(monotonic, self.tick)
        self._is_resumed = False
        self._running: set[Held] = set()
        self._over: deque[Held] = deque()
        self._wake: Callable[[], None] | None = None
        self._call_after: CallAfter | None = None
        #: Rings when a decision may be another one, if nothing happens before.
        self._asks = Alarm(time, self.tick)
        self.lock = RLock()
        self._is_pumping = False

    def attach(
        self,
        wake: Callable[[], None] | None,
        call_after: CallAfter,
    ) -> None:
        """Tell how this worker's loop is reached.

        Args:
            wake: Wakes the event loop, from any thread, so that it calls `settle_over`; None
                without an event loop.
            call_after: Calls a function in so many seconds.
        """
        self._call_after = call_after
        self._asks.attach(call_after)
        self._polls.attach(call_after)
        self._wake = wake

    @property
    def running(self) -> frozenset[Held]:
        """What has a slot now."""
        return frozenset(self._running)

    @property
    def is_busy(self) -> bool:
        """Whether something runs or waits, so that windows may change at any moment."""
        return bool(self._running) or self.dispatcher.held_total > 0

    def offer(self, request: Request) -> None:
        """Take a request that Celery would run now; it starts at once or is held."""
        with self.lock:
            channels = self.channels
            source = None if channels is None else channels.source(request.message)
            held = self._intake.ticket(request, source, None if source is None else source.queue)
            if not self.is_open:
                seams.forget(request)
                give_back_unstarted([held])
                return
            if (held.move or self._moves.numbers) and not self._moves.is_current(held):
                self._drop_stale(held)
                return
            if source is not None:
                source.taken(held)
            self.dispatcher.offer(held, time())
            if self.dispatcher.has_room(held.band):
                self.pump()
            elif channels is not None:
                channels.filled(source)
            if request.eta is not None and self._wake is not None:
                self._wake()  # called by a timer: see `tick`

    def ended(self, held: Held) -> None:
        """A ticket has left its slot; may be called from any thread."""
        if self._wake is not None and self.pool.is_threaded:
            self._over.append(held)
            self._wake()
            return
        with self.lock:
            self._settle(held)
            self.pump()

    def settle_over(self) -> None:
        """Settle what ended in other threads; called in the loop's thread after a wake-up."""
        with self.lock:
            while self._over:
                self._settle(self._over.popleft())
            self.pump()

    def pump(self) -> None:
        """Perform decisions until nothing more can start."""
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            size = self._size()
            if size != self.dispatcher.slots:
                self.dispatcher.resize(size)
            if self._leases is not None and self._leases.has_answers:
                self._poll(self._leases)
            if self._ceilings is not None and self._ceilings.has_found:
                self._ceilings.poll()
            if self._node is not None and self._node.has_found:
                self._node.poll(self.dispatcher, self.channels)
            self._decide()
            if self._leases is not None:
                self._is_resumed = False
                self._poll(self._leases)
                if self._is_resumed:
                    self.tick()
        finally:
            self._is_pumping = False
            if self.channels is not None:
                self.channels.changed()

    def _decide(self) -> None:
        """Ask the dispatcher and do what it says, until there is nothing to do at once.

        Nothing starts once the worker was asked to stop. A signal's handler only notes it, and the
        loop looks there when its turn is over: what a child began in between would run without
        anybody reading that it did, and the broker would deliver it again. Nor are the slots of
        tasks that a cold shutdown ends any room: what started there would be ended too.
        """
        while self.is_open and not seams.is_stopping():
            decision = self.dispatcher.decide(time())
            if decision is None:
                return
            if isinstance(decision, Wait):
                self._asks.set(decision.until)
                return
            if not self._perform(decision):
                return

    def _perform(self, decision: Start | Preemptive | Return | Expire | Refuse) -> bool:
        """Do what was decided; tell whether to go on deciding in this turn."""
        # Only what `offer` made is in the dispatcher.
        held = cast("Held", decision.ticket)
        if isinstance(decision, Start):
            self._start(held, is_degraded=decision.is_degraded)
            if self.pool.runs_inline and self._wake is not None:
                # The start was the whole run: let messages of higher bands arrive.
                self._wake()
                return False
        elif isinstance(decision, Refuse):
            self._refuse(held, BudgetRefused(decision.account, decision.budget))
        elif isinstance(decision, Return):
            self.preempter.hand_back(held)
        elif isinstance(decision, Expire):
            # Celery's own way into the pool finds it expired, says so and settles it.
            self._process(held.request)
        elif not self.preempter.perform(decision):
            self.dispatcher.failed(held, time())
        return True

    def _refuse(self, held: Held, error: BudgetRefused) -> None:
        """End a ticket that never runs as failed; a retry not before its last try is over."""
        refuse = partial(seams.refuse, held.request, error)
        wait_s = held.published + TRIED_S - time() if held.move >= HANDED_ON else 0.0
        if wait_s > 0 and self._call_after is not None:
            self._call_after(wait_s, refuse)
        else:
            refuse()

    def _poll(self, leases: Leases) -> None:
        """Let the ledger be told and heard what is due; what that frees starts in the next turn."""
        if not self._polls.is_set or leases.is_waiting:
            wait_s = leases.poll()
            self._polls.set(monotonic() + wait_s)

    def resumed(self, groups: list[Group]) -> None:
        """Go on with groups that have waited for a budget."""
        if groups:
            self.dispatcher.wake(groups, time())
            self._is_resumed = True

    def amend(self, policy: Policy, headers: tuple[str, ...], paused: list[str]) -> None:
        """Go on under another policy; the accounts follow it already.

        Args:
            policy: Of the same bands.
            headers: Names of the message headers that have budgets in it.
            paused: Bands of which nothing may start.
        """
        self._intake.amend(policy, headers)
        for ticket in self.dispatcher.listed(self.dispatcher.held_total):
            self._intake.read_again(cast("Held", ticket))
        self.dispatcher.amend(policy, paused, time())
        self._is_resumed = True

    def tick(self) -> None:
        """Look again, as a timer asks: the pool may have grown, a held ticket expired."""
        if self._wake is not None:
            # Not from here: what a timer schedules for the loop's next turn waits for its poll.
            self._wake()
            return
        with self.lock:
            self.pump()

    def _start(self, held: Held, *, is_degraded: bool) -> None:
        if self._moves.numbers and not self._moves.is_current(held):
            self.dispatcher.ended(held, time(), ran=False)
            self._drop_stale(held)
            return
        held.started = monotonic()
        if held.band != held.stamped:
            held.restamp()
        if self._metering is not None:
            self._metering.begin(held, is_degraded=is_degraded)
        self._running.add(held)
        if self._ceilings is not None:
            self._ceilings.watch(held)
        if held.source is not None and held.request.task.acks_late:
            held.is_kept = True
            held.source.window.kept(held.request.message)
        self.pool.expect(held)
        try:
            self._process(held.request)
        finally:
            if self.pool.is_pending(held):
                # Revoked, or the pool refused it: it never had the slot.
                self._settle(held, ran=False)

    def _settle(self, held: Held, *, ran: bool = True) -> None:
        if held not in self._running:
            return
        self._running.discard(held)
        self.preempter.ended(held)
        if held.is_kept and held.source is not None:
            held.source.window.released(held.request.message)
        usage = NOTHING_USED
        if self._metering is not None and ran:
            usage = self._metering.usage(held)
        if self._ceilings is not None:
            self._ceilings.ended(held, usage)
        self.dispatcher.ended(held, time(), ran=ran, has_left=held.has_left, usage=usage)
        if held.has_left:
            self.preempter.give_back(held)

    def cancel(self, task_id: str) -> int:
        """Withdraw held tickets of a revoked task and account for them; tell how many."""
        with self.lock:
            withdrawn = self.dispatcher.withdraw(task_id)
            for ticket in withdrawn:
                held = cast("Held", ticket)
                # Celery finds the id revoked: it acknowledges, stores REVOKED, sends the event.
                self._process(held.request)
            self.pump()
            return len(withdrawn)

    def move(self, task_id: str, band: str) -> int:
        """Let held tickets of a task wait in another band; tell how many."""
        with self.lock:
            moved = self.dispatcher.move(task_id, band, time())
            self.pump()
            return moved

    def drop_stale(self, task_id: str) -> int:
        """Drop held messages of a task that a newer copy has replaced; tell how many."""
        with self.lock:
            kept: list[Held] = []
            dropped = 0
            for ticket in self.dispatcher.withdraw(task_id):
                held = cast("Held", ticket)
                if self._moves.is_current(held):
                    kept.append(held)
                else:
                    self._drop_stale(held)
                    dropped += 1
            for held in kept:
                self.dispatcher.offer(held, time())
            self.pump()
            return dropped

    def _drop_stale(self, held: Held) -> None:
        logger.info(
            "Task %s[%s] was moved: this copy of it is dropped, the newer one runs.",
            held.task,
            held.id,
        )
        held.request.acknowledge()
        seams.forget(held.request)

    def close(self) -> list[Held]:
        """Start nothing more, and let go of what is held; give it, in order of arrival."""
        with self.lock:
            self.is_open = False
            self.preempter.close()
            drained = cast("list[Held]", self.dispatcher.drain())
            for held in drained:
                seams.forget(held.request)
            return drained

    def open(self) -> None:
        """Start work again, after a reconnect."""
        with self.lock:
            self.is_open = True
            if self.pool.discards:
                # Of a task that no child had taken yet when the connection broke, no end is told.
                for held in [held for held in self._running if not seams.is_accepted(held.request)]:
                    self._settle(held, ran=False)
            self.settle_over()
