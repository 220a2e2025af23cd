"""`budget.checkpoint` and `budget.progress`: what a task keeps, and when it makes room for others.

Whether it is asked to is a word of shared memory, so that a call which does neither costs next to
nothing. Saving and loading talk to the state store, in the task's own thread or process.
"""

from __future__ import annotations

import os
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.utils.log import get_logger
from kombu.serialization import dumps, loads, prepare_accept_content

from celery_budget.board import Flag
from celery_budget.child.execution import execution
from celery_budget.child.run import running
from celery_budget.errors import (
    CheckpointTooLarge,
    NotInstalled,
    NotInTask,
    StateUnavailable,
    TaskYielded,
)
from celery_budget.stores.state import Checkpoint

if TYPE_CHECKING:
    from celery import Task

    from celery_budget.policy.preemption import PreemptionRule
    from celery_budget.stores.state import CheckpointStore

logger = get_logger(__name__)

#: Where the progress of an execution is kept: on its request, and gone with it.
_PLACE = "_budget_progress"

#: How often the store is asked for what was saved, and how long between two tries, seconds: a
#: server that starts again is back within that. To begin anew instead would do work twice.
LOADS = 5
LOAD_PAUSE_S = 1.0

#: Longest time between two tries to save where the store cannot be reached, seconds.
LONGEST_PAUSE_S = 60.0


class Progress:
    """What one execution has saved, and may go on from.

    Args:
        task: Runs now, by a worker.
    """

    def __init__(self, task: Task) -> None:
        amqp = task.app.amqp
        if not hasattr(amqp, "state"):
            raise NotInstalled(str(task.app.main))
        rule: PreemptionRule = amqp.policy().preemption
        self._store: CheckpointStore = amqp.state().checkpoints
        self._task_id: str = task.request.id
        self._name: str = task.name
        self._serializer: str = task.serializer
        self._accept = prepare_accept_content(task.app.conf.accept_content)
        self._every_s = rule.checkpoint_every_s
        self._most = rule.max_checkpoint
        self._latest: Checkpoint | None = None
        self._is_loaded = False
        run = execution.get()
        begun = monotonic() if run is None else run.started_ns / 1e9
        self._next = begun + self._every_s
        self._failures = 0
        self.is_stored = False

    @property
    def is_due(self) -> bool:
        """Whether it is time to save without being asked to."""
        return monotonic() >= self._next

    def save(self, state: object) -> bool:
        """Put a state in the place of the one before; tell whether the store has it.

        Raises:
            CheckpointTooLarge: it takes more bytes than the policy allows.
            EncodeError: the task's serializer cannot write it.
        """
        content_type, encoding, body = dumps(state, self._serializer)
        data = body.encode(encoding) if isinstance(body, str) else bytes(body)
        if len(data) > self._most:
            raise CheckpointTooLarge(len(data), self._most)
        checkpoint = Checkpoint(content_type, encoding, data)
        try:
            self._store.save(self._task_id, checkpoint)
        except StateUnavailable as error:
            self._failures += 1
            pause_s = min(self._every_s * 2**self._failures, LONGEST_PAUSE_S)
            self._next = monotonic() + pause_s
            logger.warning(
                "Task %s[%s] runs on without a checkpoint, and tries again in %.1f s: %s.",
                self._name,
                self._task_id,
                pause_s,
                error,
            )
            return False
        self._failures = 0
        self._next = monotonic() + self._every_s
        self._latest, self._is_loaded, self.is_stored = checkpoint, True, True
        return True

    def load(self, default: object) -> Any:
        """Give the latest state that was saved, by this execution or one before it.

        Raises:
            StateUnavailable: nobody can tell, after several tries.
            ContentDisallowed: the app does not accept what the state was written with.
        """
        if not self._is_loaded:
            self._latest = self._read()
            self._is_loaded = True
            self.is_stored = self._latest is not None
        if self._latest is None:
            return default
        content_type, encoding, body = self._latest
        return loads(body, content_type, encoding, accept=self._accept)

    def _read(self) -> Checkpoint | None:
        for _ in range(LOADS - 1):
            try:
                return self._store.load(self._task_id)
            except StateUnavailable as error:
                logger.warning("Task %s[%s] waits: %s.", self._name, self._task_id, error)
                sleep(LOAD_PAUSE_S)
        return self._store.load(self._task_id)

    def forget(self) -> None:
        """Drop what was saved: the task has succeeded."""
        try:
            self._store.forget(self._task_id)
        except StateUnavailable as error:  # it expires by itself
            logger.warning("The checkpoint of %s[%s] stays: %s.", self._name, self._task_id, error)


def checkpoint(state: object) -> None:
    """Save how far the current execution has come, now and then, and leave if that is asked for.

    Args:
        state: What `progress` gives to whoever goes on; as the task's serializer takes it.

    Raises:
        NotInTask: No task is running in this thread, greenlet or process.
        TaskYielded: The state is saved, and the slot is needed.
        CheckpointTooLarge, EncodeError: When it is to be saved.
    """
    task = running("checkpoint")
    if not _is_worked(task):
        return
    run = execution.get()
    if run is not None and run.pid != os.getpid():
        raise NotInTask("checkpoint")
    is_asked = run is not None and run.cell.has(Flag.YIELD)
    kept = _progress(task)
    if not is_asked and not kept.is_due:
        return
    if kept.save(state) and is_asked:
        raise TaskYielded


def progress(default: object) -> Any:
    """Give what the latest checkpoint of the current task has saved.

    Args:
        default: Given where there is none.

    Raises:
        NotInTask: No task is running in this thread or greenlet.
        StateUnavailable: The store could not be asked, for some seconds.
    """
    task = running("progress")
    return _progress(task).load(default) if _is_worked(task) else default


def _is_worked(task: Task) -> bool:
    """Tell whether a worker runs the task, and not a caller in its own code."""
    request = task.request
    return not request.called_directly and not request.is_eager


def _progress(task: Task) -> Progress:
    request = task.request
    kept: Progress | None = getattr(request, _PLACE, None)
    if kept is None:
        kept = Progress(task)
        setattr(request, _PLACE, kept)
        signals.task_success.connect(_succeeded, dispatch_uid=_PLACE)
    return kept


def _succeeded(sender: Task, **_: object) -> None:
    kept: Progress | None = getattr(sender.request, _PLACE, None)
    if kept is not None and kept.is_stored:
        kept.forget()
