"""The preempter: lets running tasks give way and go on, as the dispatcher decides.

One method for each decision about what runs; the means are the freezer's, the evictor's and the
board's. What has left goes back to the broker from here. Everything happens in the loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from celery_budget.board import PoolKind
from celery_budget.core.decisions import Evict, Freeze, Stay, Thaw, Yield
from celery_budget.policy.preemption import Method
from celery_budget.worker import seams

if TYPE_CHECKING:
    from collections.abc import Collection

    from celery.worker.consumer import Consumer

    from celery_budget.policy.model import Policy
    from celery_budget.worker.evictor import Evictor
    from celery_budget.worker.freezer import Freezer
    from celery_budget.worker.intake import Held
    from celery_budget.worker.metering import Metering
    from celery_budget.worker.returns import Returns

#: Decisions about what runs.
Preemptive = Freeze | Thaw | Yield | Stay | Evict


class Preempter:
    """What gives way on one worker, and how.

    Args:
        returns: The way back of what has left.
        metering: Reaches executions; None where nothing can leave.
        freezer: None where nothing can be frozen.
        evictor: None where nothing can be evicted.
        retire: Replaces the child of a process id; None where tasks do not run in children.

    Attributes:
        yields: How many tasks have left at a checkpoint since the worker started.
        guests: How many were asked to leave for urgent ones that waited on other workers.
    """

    def __init__(
        self,
        returns: Returns,
        metering: Metering | None = None,
        freezer: Freezer | None = None,
        evictor: Evictor | None = None,
        retire: Callable[[int], object] | None = None,
    ) -> None:
        self._returns = returns
        self._metering = metering
        self._freezer = freezer
        self._evictor = evictor
        self._retire = retire
        #: Asked to leave for their memory.
        self._bound: set[Held] = set()
        self.yields = self.guests = 0

    @property
    def freezes(self) -> int:
        """How many tasks were frozen since the worker started."""
        return 0 if self._freezer is None else self._freezer.freezes

    @property
    def evictions(self) -> int:
        """How many tasks were evicted since the worker started."""
        return 0 if self._evictor is None else self._evictor.evictions

    def perform(self, decision: Preemptive) -> bool:
        """Do what was decided; tell whether it could be done."""
        # Only what the intake made is in the dispatcher.
        held = cast("Held", decision.ticket)
        match decision:
            case Freeze():
                return self._freezer is not None and self._freezer.freeze(held)
            case Yield():
                is_asked = self._metering is not None and self._metering.ask(held)
                return is_asked and self._note(held, decision)
            case Evict():
                is_told = self._evictor is not None and self._evictor.evict(held, _why(decision))
                return is_told and self._note(held, decision)
            case Thaw() if self._freezer is not None:
                self._freezer.thaw(held)
            case Stay() if self._metering is not None:
                self._metering.excuse(held)
        return True

    def _note(self, held: Held, decision: Yield | Evict) -> bool:
        """Remember for what a task was asked to leave."""
        if decision.is_for_guest:
            self.guests += 1
        elif _is_for_memory(decision):
            self._bound.add(held)
        return True

    def ended(self, held: Held) -> None:
        """Take note that a task has ended, or left; before its slot is anybody else's."""
        if held.frozen_at and self._freezer is not None:
            self._freezer.thaw(held)
        if held in self._bound:
            self._bound.discard(held)
            if held.has_left and self._retire is not None:
                # What a process has taken it seldom gives back.
                self._retire(held.request.worker_pid)
        if self._evictor is not None and self._evictor.ended(held):
            return
        self.yields += held.has_left

    def give_back(self, held: Held) -> None:
        """Return the message of a task that has left, once all else of it is settled."""
        self._returns.give_back(held)

    def hand_back(self, held: Held) -> None:
        """Return the message of a task that was not started."""
        self._returns.hand_back(held)

    def release(self, pid: int) -> None:
        """Let the task in a child go on that gets a signal."""
        if self._freezer is not None:
            self._freezer.release(pid)

    def close(self) -> None:
        """Let everything go on: the worker waits for what runs, or ends it."""
        if self._freezer is not None:
            self._freezer.close()


def _is_for_memory(decision: Yield | Evict) -> bool:
    return decision.cause is None and not (decision.account or decision.is_for_guest)


def _why(decision: Evict) -> str:
    """Tell why a task is evicted, for the log."""
    if _is_for_memory(decision):
        return "as its node is short of memory"
    if decision.account:
        return f"for a more urgent one that needs its part of {decision.account}"
    if decision.is_for_guest:
        return "for a more urgent one that waits on another worker"
    return "for a more urgent one"


def preempter(
    consumer: Consumer,
    policy: Policy,
    ways: Collection[Method],
    metering: Metering | None,
    returns: Returns,
    thawed: Callable[[Held], None],
) -> Preempter:
    """Make the preempter of a worker whose pool has not started.

    Args:
        consumer: Of the worker.
        policy: Says how long things may take.
        ways: That are possible on this worker.
        metering: Of the worker; with ways to leave there is one.
        returns: The way back of what has left.
        thawed: Told of a task that had to go on because of a signal.
    """
    # Both load psutil, which other workers have no use for.
    freezer = evictor = None
    if Method.FREEZE in ways:
        from celery_budget.worker.freezer import Freezer  # noqa: PLC0415

        freezer = Freezer(consumer.pool, consumer.hub, thawed)
    if Method.EVICT in ways and metering is not None:
        from celery_budget.worker.evictor import Evictor  # noqa: PLC0415

        grace_s = policy.preemption.evict_grace_s
        evictor = Evictor(consumer.pool, metering, grace_s, consumer.timer.call_after)
    retire = None
    if seams.pool_kind(consumer.pool) is PoolKind.PREFORK:
        retire = partial(seams.retire, consumer.pool)
    return Preempter(returns, metering, freezer, evictor, retire)
