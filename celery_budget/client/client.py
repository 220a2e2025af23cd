"""`Client`: where a task is, and moving and cancelling it while it waits.

Asks workers' main processes, which answer from memory, and never one that runs a task. What
each kind of broker can tell is in `polled.py` and `amqp.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING

from celery import states
from celery.backends.base import DisabledBackend

from celery_budget.app import opened
from celery_budget.client.accounts import AccountStatus
from celery_budget.client.accounts import accounts as list_accounts
from celery_budget.client.amqp import AmqpQueues
from celery_budget.client.answers import Answers, ask, fleet_of
from celery_budget.client.catalogue import (
    CatalogueEntry,
    fleets_profiles,
    is_kept_by_workers,
    list_tasks,
    workers_profiles,
)
from celery_budget.client.copy import Target
from celery_budget.client.fleet import Fleet
from celery_budget.client.forecasts import fleets_outlooks, is_counted_alone, workers_outlooks
from celery_budget.client.polled import PolledQueues
from celery_budget.client.reissue import publish_again
from celery_budget.client.search import OtherQueues, Queues, depths
from celery_budget.client.status import State, Status
from celery_budget.client.workers import Workers
from celery_budget.errors import MoveError, OptionError, TaskNotFound
from celery_budget.policy.names import closest

if TYPE_CHECKING:
    from celery import Celery
    from celery.canvas import Signature

    from celery_budget.core.outlook import Outlook

#: Says in which band a task goes on that is in this one; raises what forbids it.
ChooseBand = Callable[[str | None], str]


@dataclass(frozen=True, slots=True)
class Moved:
    """A task that waits in another band now.

    Attributes:
        task_id: Its id, the same as before.
        band: Band it waits in now.
        previous: Band it waited in, where it is known.
        place: Where: "worker NAME", which kept the message, or "queue NAME", which has a copy.
        number: Move number of the copy; 0 where the message itself stayed.
    """

    task_id: str
    band: str
    previous: str | None
    place: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A task that will not start any more, on the workers that answered.

    Attributes:
        task_id: Its id.
        workers: Who answered. Empty: nobody remembers it, and nothing is cancelled.
        dropped: Held messages of it that were dropped at once. One that is still in the broker
            is dropped when it reaches a worker.
        running_on: Worker that runs it and goes on; `app.control.revoke(id, terminate=True)`
            would end it.
    """

    task_id: str
    workers: tuple[str, ...]
    dropped: int
    running_on: str | None


class Client:
    """Asks about the tasks of one app, and moves and cancels them while they wait.

    Usable wherever the app can publish: in a web process, a script, a task. No call blocks a
    worker. Each waits for the workers' answers, whose number nobody knows, so it takes
    `timeout` seconds unless the worker that has the task answers sooner.

    Args:
        app: On which `install` was called.
        timeout: Seconds to wait for the workers' answers.

    Raises:
        NotInstalled: `install` was not called on the app.
        PolicyError: The app's policy has mistakes.

    Source: docs/howto/move-a-task.md.

    .. versionadded:: 0.1
    """

    def __init__(self, app: Celery, *, timeout: float = 1.0) -> None:
        self._app, installation = opened(app)
        self._policy = installation.policy()
        self._timeout = timeout
        self._workers = Workers(self._app)

    def status(self, task_id: str, timeout: float | None = None) -> Status:
        """Tell where a task is.

        Asks the result backend, the broker and the workers. On Redis the queues are searched,
        250,000 messages and 5 s at most; RabbitMQ shows no queue's contents, so that a task
        which nobody has is `queued` without certainty while any message waits.

        Args:
            task_id: Celery's id of the task.
            timeout: Seconds to wait for the workers; None: as the client was made.
        """
        outcome = self._outcome(task_id)
        # A revoke is stored at once, also of a task that another worker is running.
        if outcome is not None and outcome != states.REVOKED:
            return _ended(task_id, outcome)
        # The broker first: what leaves it meanwhile is then met at a worker.
        search = self._queues().find(task_id)
        answers = self._ask(task_id, timeout)
        if answers.status is not None:
            return answers.status
        outcome = outcome or self._outcome(task_id)
        if outcome is not None:
            return _ended(task_id, outcome)
        found = search.found
        if found is None:
            asked = (*answers.workers, *search.places)
            if not isinstance(self._app.backend, DisabledBackend):
                asked = (*asked, "the result backend")
            state = State.UNKNOWN if search.is_complete else State.QUEUED
            return Status(task_id, state, is_certain=search.is_complete, asked=asked)
        return Status(
            task_id,
            State.HELD if found.queue is None else State.QUEUED,
            is_certain=found.queue is not None,
            task=found.task,
            queue=found.queue,
            band=found.band,
            reason="unanswered" if found.queue is None else None,
            for_s=round(time() - found.at, 3) if found.at else None,
        )

    def move(self, task_id: str, band: str, *, signature: Signature | None = None) -> Moved:
        """Let a waiting task wait in another band.

        A worker that holds it moves it there. One that waits in the broker is replaced by a
        copy with the same id: on Redis in one step; on RabbitMQ by taking up to 1,000 messages
        a queue for a moment, which marks them as redelivered. It runs once all the same.

        Args:
            task_id: Celery's id of the task.
            band: Name of a band of the policy.
            signature: The task's own call. Publishes the copy from it where the message cannot
                be reached: behind more messages than are searched, in quorum queues, on
                transports other than Redis and RabbitMQ. On these and on RabbitMQ no message
                is taken when it is given.

        Raises:
            OptionError: the policy has no such band.
            MoveError: the task runs, has ended, is in that band, or cannot be reached.
            TaskNotFound: nobody knows it.
        """
        if self._policy.band(band) is None:
            known = [known.name for known in self._policy.bands]
            raise OptionError(
                "band",
                f"{band!r} is not a band of the policy",
                closest(band, known) or f"it has {', '.join(known)}",
            )

        def choose(current: str | None) -> str:
            if current == band:
                raise MoveError(task_id, f"it is in band {band} already")
            return band

        return self._move(task_id, choose, signature)

    def promote(self, task_id: str) -> Moved:
        """Let a waiting task wait in the next more urgent band; raises as `move` does."""
        return self._move(task_id, lambda current: self._beside(task_id, current, -1))

    def demote(self, task_id: str) -> Moved:
        """Let a waiting task wait in the next less urgent band; raises as `move` does."""
        return self._move(task_id, lambda current: self._beside(task_id, current, +1))

    def cancel(self, task_id: str) -> Cancelled:
        """Keep a task from starting; one that runs goes on.

        Workers drop at once what they hold, and later what reaches them, as with
        `app.control.revoke`, which this does too for workers without celery-budget. Only
        workers that run now learn of it.

        Args:
            task_id: Celery's id of the task.
        """
        self._app.control.revoke(task_id)
        answers = self._workers.ask("budget_cancel", {"task_id": task_id}, self._timeout)
        dropped = 0
        running_on = None
        for worker, reply in answers.items():
            match reply:
                case {"ok": {"cancelled": int(count), "state": state}}:
                    dropped += count
                    running_on = worker if state == State.RUNNING else running_on
        return Cancelled(task_id, tuple(answers), dropped, running_on)

    def fleet(self) -> Fleet:
        """Tell what all workers run and hold, and how many messages wait in each queue."""
        answers = self._workers.ask("budget", {}, self._timeout)
        return fleet_of(self._policy, answers, depths(self._app))

    def accounts(self, most: int = 1_000) -> list[AccountStatus]:
        """List the budgets' accounts that were used last, as the ledger has them.

        Args:
            most: No more than so many.

        Raises:
            LedgerUnavailable: the ledger cannot be reached.
        """
        return list_accounts(self._app, most) if self._policy.has_accounts else []

    def catalogue(self, pattern: str = "*") -> list[CatalogueEntry]:
        """List task types, each with its band and what the fleet has learned of it.

        Asks the workers only where each of them keeps a ledger of its own (`memory://`).

        Args:
            pattern: Shell pattern over task names.

        Raises:
            LedgerUnavailable: the ledger's server cannot be reached.
        """
        profiles = {}
        if self._policy.has_accounts:
            profiles = (
                workers_profiles(self._workers, self._timeout)
                if self.asks_for_profiles
                else fleets_profiles(self._app)
            )
        return list_tasks(self._app, self._policy, profiles, pattern)

    @property
    def asks_for_profiles(self) -> bool:
        """Whether `catalogue` asks the workers."""
        return self._policy.has_accounts and is_kept_by_workers(self._app)

    def forecast(self) -> list[Outlook]:
        """Tell what is expected to arrive, of each band with `reserve_most`.

        Asks the workers only where each of them goes by its own count.

        Raises:
            LedgerUnavailable: the ledger's server cannot be reached.
        """
        if all(band.reserve_most is None for band in self._policy.bands):
            return []
        if self.asks_for_forecasts:
            return workers_outlooks(self._workers, self._timeout)
        return fleets_outlooks(self._app, self._policy)

    @property
    def asks_for_forecasts(self) -> bool:
        """Whether `forecast` asks the workers."""
        return is_counted_alone(self._app)

    def _queues(self) -> Queues:
        match self._workers.driver:
            case "redis":
                return PolledQueues(self._app, self._policy)
            case "amqp":
                return AmqpQueues(self._app, self._policy)
            case _:
                return OtherQueues(self._app)

    def _ask(self, task_id: str, timeout: float | None = None) -> Answers:
        return ask(self._workers, task_id, self._timeout if timeout is None else timeout)

    def _outcome(self, task_id: str) -> str | None:
        """Read the result state of a task that has ended; None where none is stored."""
        if isinstance(self._app.backend, DisabledBackend):
            return None
        state = self._app.AsyncResult(task_id).state
        return str(state) if state in states.READY_STATES else None

    def _beside(self, task_id: str, current: str | None, step: int) -> str:
        """Name the band next to one in rank."""
        band = None if current is None else self._policy.band(current)
        if band is None:
            raise MoveError(task_id, "its band is not known; name one: move(task_id, band)")
        rank = band.rank + step
        if not 0 <= rank < len(self._policy.bands):
            end = "most" if step < 0 else "least"
            raise MoveError(task_id, f"it is in the {end} urgent band, {band.name}, already")
        return self._policy.bands[rank].name

    def _target(self, task_id: str, name: str) -> Target:
        band = self._policy.band(name)
        if band is None or not band.queues:
            raise MoveError(task_id, "the policy declares no bands, so there is no other queue")
        return Target(name, band.queues[0])

    def _move(self, task_id: str, choose: ChooseBand, signature: Signature | None = None) -> Moved:
        # The workers first: what one of them holds or runs must not be copied from a stale
        # message. Then the queues; then those workers once more that may have fetched it.
        answers = self._ask(task_id)
        if answers.status is not None:
            return self._move_held(answers.status, choose)

        def announce(number: int) -> None:
            self._workers.tell("budget_moved", {"task_id": task_id, "number": number})

        places = answers.workers
        is_complete = True
        queues = self._queues()
        if signature is None or not queues.takes:
            moved = queues.move(
                task_id,
                lambda band: self._target(task_id, choose(band)),
                answers.number,
                announce,
            )
            if isinstance(moved, tuple):
                found, target, number = moved
                return Moved(task_id, target.band, found.band, f"queue {target.queue}", number)
            places = (*places, *moved.places)
            is_complete = moved.is_complete
            answers = self._ask(task_id)
            if answers.status is not None:
                return self._move_held(answers.status, choose)
        outcome = self._outcome(task_id)
        if outcome is not None:
            raise MoveError(task_id, f"it has ended ({outcome})")
        if signature is not None:
            target = self._target(task_id, choose(None))
            number = publish_again(signature, task_id, target, answers.number)
            announce(number)
            return Moved(task_id, target.band, None, f"queue {target.queue}", number)
        if not is_complete:
            raise MoveError(
                task_id,
                "it is not among the messages that were searched, and more wait; "
                "give signature= to publish it anew",
            )
        raise TaskNotFound(task_id, tuple(dict.fromkeys((*places, *answers.workers))))

    def _move_held(self, status: Status, choose: ChooseBand) -> Moved:
        task_id, worker = status.task_id, str(status.worker)
        if status.state is State.RUNNING:
            raise MoveError(task_id, f"it runs already, on {worker}")
        band = choose(status.band)
        if status.reason == "fetched":
            raise MoveError(task_id, f"{worker} has fetched it and knows no bands")
        answers = self._workers.ask(
            "budget_move",
            {"task_id": task_id, "band": band},
            self._timeout,
            destination=[worker],
        )
        match answers.get(worker):
            case {"error": str(problem)}:
                raise MoveError(task_id, f"{worker}: {problem}")
            case {"ok": {"moved": int(count)}} if count:
                return Moved(task_id, band, status.band, f"worker {worker}")
            case {"ok": _}:
                raise MoveError(task_id, f"it has just started, or left {worker}; ask again")
            case _:
                raise MoveError(task_id, f"{worker} has not answered; ask again")


def _ended(task_id: str, outcome: str) -> Status:
    state = State.DONE if outcome == states.SUCCESS else State.DEAD
    return Status(task_id, state, outcome=outcome)
