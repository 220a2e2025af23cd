"""`BudgetTask`, the task base class, and `budget`, what a running task sees, and tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import inf
from typing import Any

from celery import Task, current_app
from celery._state import get_current_task
from celery.utils.imports import symbol_by_name

from celery_budget.child.charge import charge, is_degraded
from celery_budget.child.checkpoint import checkpoint, progress
from celery_budget.child.run import current
from celery_budget.producer.envelope import Opening, make


class BudgetTask(Task):
    """A task that may declare its band, tenant, deadline and cost.

    `install` makes it the base of every task of the app that names no base of its own. As an
    explicit base class it sets defaults for a family of tasks:

        class Reports(BudgetTask):
            band = "optional"

    Tasks with another base work the same: the options are read from the task, not the class.

    Attributes:
        band: Name of a band of the policy; None: the policy decides.
        tenant: Whose work a call is: a name, or a template over the arguments such as
            `"{customer_id}"`; None: nobody's.
        deadline: Soft deadline, from publish: `"2s"` or seconds; None: none.
        cost: What one execution is expected to use, `{"cpu": "3s", "usd": "0.02"}`; what it leaves
            out is learned from executions that ended.
        preempt: How it may give way while it runs, `["freeze"]`; an empty list: not at all; None:
            the policy decides.
        degrade: Whether it looks at `budget.degraded`, and so can be asked to do less where it
            would have to wait; None: the policy decides.
    """

    abstract = True
    band: str | None = None
    tenant: str | None = None
    deadline: str | float | None = None
    cost: Mapping[str, str | float] | None = None
    preempt: Sequence[str] | None = None
    degrade: bool | None = None


def task_class(base: type[Task] | str) -> type[Task]:
    """Derive the app's task class from the one it has, e.g. Django's with `delay_on_commit`."""
    found: type[Task] = symbol_by_name(base)
    if issubclass(found, BudgetTask):
        return found
    if found is Task:
        return BudgetTask
    return type("BudgetTask", (BudgetTask, found), {"abstract": True})


class Budget:
    """What the running task may know of its own Terms, and tell; use the instance `budget`.

    Usable anywhere below a task's body. In plain and eager calls it works, knows no band and
    charges nothing, unless they are made in the body of a task: then it is that task's.
    Threads and processes that a body starts are outside of the task.

    Raises:
        NotInTask: on each attribute but `envelope`, where no task is running.
    """

    __slots__ = ()

    @property
    def band(self) -> str | None:
        """Name of the band the task runs in; None in an eager call."""
        stamp = current("band").stamp
        return None if stamp is None else stamp.band

    @property
    def tenant(self) -> str | None:
        """Whose work this is; None when nobody said."""
        stamp = current("tenant").stamp
        return None if stamp is None else stamp.tenant or None

    @property
    def deadline(self) -> float | None:
        """Soft deadline, Unix seconds; None without one."""
        stamp = current("deadline").stamp
        return None if stamp is None or stamp.deadline == inf else stamp.deadline

    @property
    def attempt(self) -> int:
        """Which execution this is: 1, and one more for each retry."""
        return current("attempt").attempt

    @property
    def correlation_id(self) -> str:
        """The id shared by a task and all the tasks it calls; the first one's task id."""
        run = current("correlation_id")
        return (run.stamp.correlation_id if run.stamp else "") or run.task_id

    @property
    def degraded(self) -> bool:
        """Whether the task should do less than usual, because a budget asks for it."""
        return is_degraded()

    def charge(self, /, **amounts: str | float) -> None:
        """Charge the budgets for what this execution has used, once it is known.

            budget.charge(usd=answer.cost, tokens=answer.tokens)

        Amounts add up over the execution. A call with a mistake charges nothing of itself.

        Args:
            amounts: By resource, as the policy writes them: `usd="0.03"`, `network="2MiB"`.

        Raises:
            UnknownResource: the policy does not name the resource.
            AmountError: an amount cannot be read or is negative.
            OptionError: the resource is metered, as cpu is.

        .. versionadded:: 0.1
        """
        charge(amounts)

    def checkpoint(self, state: object, /) -> None:
        """Save how far the task has come, and make room for a more urgent one if that is needed.

            for page in range(budget.progress(default=0), 1_000):
                index(page)
                budget.checkpoint(page + 1)

        Cheap: it saves at most every `checkpoint_every` of the policy. When its worker needs the
        slot, it saves at once and leaves the task by an exception that `except Exception` does not
        catch; the task goes back to its queue, and goes on from there. Once it has succeeded, its
        checkpoint is dropped.

        Args:
            state: As the task's serializer takes it: for JSON, of dicts, lists, text and numbers.

        Raises:
            CheckpointTooLarge: it takes more bytes than `max_checkpoint`.
            EncodeError: the serializer (kombu's error) cannot write it.
            ImproperlyConfigured: the app has no state store.

        .. versionadded:: 0.1
        """
        checkpoint(state)

    def progress(self, default: Any = None) -> Any:
        """Give what the latest checkpoint of this task has saved, or a default.

        An execution before this one may have saved it: it made room, was retried, or was lost with
        its worker.

        Raises:
            StateUnavailable: the state store did not answer for some seconds.
            ImproperlyConfigured: the app has no state store.

        .. versionadded:: 0.1
        """
        return progress(default)

    def envelope(
        self,
        /,
        *,
        deadline: str | float | timedelta | datetime | None = None,
        **amounts: str | float,
    ) -> Opening:
        """Let the parts of a workflow share amounts and a deadline; also outside of tasks.

            with budget.envelope(usd=2, deadline="10m") as envelope_id:
                chord(map(page.s, urls))(summary.s())

        Everything that is published inside draws on it, and whatever that publishes: later tasks
        of a chain, the body of a chord, callbacks, retries. It may be given to a call or a canvas
        instead, as `apply_async(envelope=…)` or `.set(envelope=…)`. Inside of another one a part
        draws on both.

        Args:
            deadline: From now, or a datetime: parts are to have started by then, and none starts
                later. At most 30 days, after which every envelope ends.
            amounts: By resource, as the policy writes them: `usd=2`, `cpu="30m"`, `starts=100`.

        Raises:
            NotInstalled: `install` was not called on the current app.
            OptionError: an amount or the deadline means nothing, or the policy keeps no accounts.
            UnknownResource: the policy does not name the resource.

        .. versionadded:: 0.1
        """
        task = get_current_task()
        return make(current_app if task is None else task.app, deadline, amounts)


budget = Budget()
