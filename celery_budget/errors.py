"""Every error this package raises, one tree under `BudgetError`.

Fields travel in `args` and the text is built in `__str__`, so that an error pickles by
itself on its way from a child process. "Not admitted yet" is a decision, not an error.
Raised by every layer above; this module imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from billiard.exceptions import SoftTimeLimitExceeded


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a policy.

    Attributes:
        path: Where, as the author writes it: `bands.critical.weight`, or file:line:column.
        message: What is wrong there.
        suggestion: What to write instead; "" when nothing is close.
    """

    path: str
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" if self.path else self.message
        return f"{text}; {self.suggestion}" if self.suggestion else text


class BudgetError(Exception):
    """Catch whatever celery-budget raises."""


class DurationError(BudgetError, ValueError):
    """Fix a duration: it was not one such as "250ms", "1h30m" or a number of seconds.

    Attributes:
        value: What was given, shortened for display.
        problem: What is wrong with it.
    """

    def __init__(self, value: str, problem: str) -> None:
        super().__init__(value, problem)
        self.value = value
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.value} is not a duration: {self.problem}"


class AmountError(BudgetError, ValueError):
    """Fix an amount, a share or a window: it cannot be read, or is out of bounds.

    Attributes:
        wanted: What it should have been, with its article, e.g. "an amount of memory".
        value: What was given, shortened for display.
        problem: What is wrong with it.
    """

    def __init__(self, wanted: str, value: str, problem: str) -> None:
        super().__init__(wanted, value, problem)
        self.wanted = wanted
        self.value = value
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.value} is not {self.wanted}: {self.problem}"


class PolicyError(BudgetError):
    """Fix the policy: it was refused whole, with every mistake found in it.

    Attributes:
        problems: In the order of the file; never empty.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        head = "the policy has a mistake" if count == 1 else f"the policy has {count} mistakes"
        return "\n".join([f"{head}:", *(f"  {problem}" for problem in self.problems)])


class HeaderError(BudgetError):
    """Fix the sender: its message carries a `budget` header that nobody can read.

    Attributes:
        field: The key of the header, "" for the header as a whole.
        problem: What the sender did wrong.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        where = f"header budget, field {self.field}" if self.field else "header budget"
        return f"{where}: {self.problem}"


class OptionError(BudgetError, ValueError):
    """Fix the call or the decorator: an option such as `band` has an impossible value.

    Attributes:
        option: Name of the option, e.g. "band".
        problem: What is wrong with its value.
        suggestion: What to write instead; "" when nothing is close.
    """

    def __init__(self, option: str, problem: str, suggestion: str = "") -> None:
        super().__init__(option, problem, suggestion)
        self.option = option
        self.problem = problem
        self.suggestion = suggestion

    def __str__(self) -> str:
        text = f"option {self.option}: {self.problem}"
        return f"{text}; {self.suggestion}" if self.suggestion else text


class LedgerUnavailable(BudgetError):  # noqa: N818 - says what is the case
    """Wait: the ledger could not be reached, or did not answer in time.

    Attributes:
        operation: What was asked of it, e.g. "exchange".
        problem: What the connection said.
    """

    def __init__(self, operation: str, problem: str) -> None:
        super().__init__(operation, problem)
        self.operation = operation
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"the ledger is unavailable ({self.operation}: {self.problem}); "
            "check the server behind budget_ledger_url"
        )


class StateUnavailable(BudgetError):  # noqa: N818 - says what is the case
    """Try again: the store of checkpoints could not be reached, or did not answer in time.

    Attributes:
        operation: What was asked of it, e.g. "load".
        problem: What the connection said.
    """

    def __init__(self, operation: str, problem: str) -> None:
        super().__init__(operation, problem)
        self.operation = operation
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"the state store is unavailable ({self.operation}: {self.problem}); "
            "check the server behind budget_state_url"
        )


class CheckpointTooLarge(BudgetError, ValueError):  # noqa: N818 - says what is the case
    """Keep less in a checkpoint, or raise `max_checkpoint`.

    Attributes:
        size: Bytes of the checkpoint as it would be stored.
        limit: Bytes that are possible.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"a checkpoint of {self.size} bytes is larger than the {self.limit} that are possible; "
            "keep the data elsewhere and its place in the checkpoint, or raise max_checkpoint "
            "under [preemption]"
        )


class TaskYielded(BaseException):
    """Let it pass: the task makes room for a more urgent one, and is run again later.

    Raised on a worker that needs the slot: by `budget.checkpoint`, once the progress is saved, or
    anywhere in the body of a task that may be evicted. No `except Exception` catches it; `finally`
    and context managers clean up as always. The task's message goes back to its queue, and what
    runs it next goes on from `budget.progress()`.
    """


class BudgetRefused(BudgetError):  # noqa: N818 - says what is the case
    """Try later, or ask for more: a budget is used up, and the policy sheds what comes then.

    Attributes:
        account: The account that is used up, e.g. "tenant:acme usd".
        budget: Place of its budget in the policy.
    """

    def __init__(self, account: str, budget: str) -> None:
        super().__init__(account, budget)
        self.account = account
        self.budget = budget

    def __str__(self) -> str:
        return f"{self.account} is used up, and {self.budget} sheds what comes then"


class BandOverloaded(BudgetError):  # noqa: N818 - says what is the case
    """Try later: too many tasks of a band wait, and the policy refuses more.

    Raised where the task would be published, which was not sent.

    Attributes:
        band: Name of the band.
        queued: Messages that are believed to wait in its queues.
        retry_after: In how many seconds there may be room.
    """

    def __init__(self, band: str, queued: int, retry_after: float) -> None:
        super().__init__(band, queued, retry_after)
        self.band = band
        self.queued = queued
        self.retry_after = retry_after

    def __str__(self) -> str:
        return (
            f"{self.queued} tasks of band {self.band} wait, more than bands.{self.band}.max_queued;"
            f" try again in {self.retry_after:.0f} s"
        )


class CeilingExceeded(BudgetError, SoftTimeLimitExceeded):  # noqa: N818 - as its Celery base
    """Use less, or raise the ceiling: one execution went beyond what it may use.

    Raised in the body of the task, wherever that is. A body that lets it pass, or cleans up and
    raises it again, ends with this as its result; one that goes on is killed after the grace of
    the ceiling, with the same result. Who catches Celery's `SoftTimeLimitExceeded` catches it.

    Attributes:
        resource: "cpu", "memory" or "runtime".
        used: What the execution had used, e.g. "530MiB".
        limit: What it may use, e.g. "512MiB".
        ceiling: Place of the ceiling in the policy.
    """

    def __init__(self, resource: str, used: str, limit: str, ceiling: str) -> None:
        super().__init__(resource, used, limit, ceiling)
        self.resource = resource
        self.used = used
        self.limit = limit
        self.ceiling = ceiling

    def __str__(self) -> str:
        return f"{self.resource} {self.used} is above the {self.limit} of {self.ceiling}"


class NotInTask(BudgetError, RuntimeError):  # noqa: N818 - says what is the case, as LookupError does
    """Use `budget` under a running task only; here is none.

    Attributes:
        attribute: What was asked of `budget`, e.g. "deadline".
    """

    def __init__(self, attribute: str) -> None:
        super().__init__(attribute)
        self.attribute = attribute

    def __str__(self) -> str:
        return (
            f"budget.{self.attribute} was used outside a task; "
            "call it from the task's body or from code that the body runs"
        )


class TaskNotFound(BudgetError, LookupError):  # noqa: N818 - says what is the case
    """Look elsewhere: no place that was searched knows the task id.

    Attributes:
        task_id: The id that was asked for.
        searched: The places that answered, e.g. ("worker1@host", "queue celery").
    """

    def __init__(self, task_id: str, searched: Sequence[str]) -> None:
        self.task_id = task_id
        self.searched = tuple(searched)
        super().__init__(task_id, self.searched)

    def __str__(self) -> str:
        if not self.searched:
            return f"task {self.task_id} was not found: nobody answered; is a worker running?"
        return f"task {self.task_id} was not found; searched: {', '.join(self.searched)}"


class MoveError(BudgetError):
    """Leave the task where it is, or do what the text says: it cannot be moved as asked.

    Attributes:
        task_id: Whose move it was.
        problem: Why not, and what to do.
    """

    def __init__(self, task_id: str, problem: str) -> None:
        super().__init__(task_id, problem)
        self.task_id = task_id
        self.problem = problem

    def __str__(self) -> str:
        return f"task {self.task_id} was not moved: {self.problem}"


class NotInstalled(BudgetError):  # noqa: N818 - says what is the case
    """Call `install(app)` first: the app is plain Celery.

    Attributes:
        app: Name of the app.
    """

    def __init__(self, app: str) -> None:
        super().__init__(app)
        self.app = app

    def __str__(self) -> str:
        return (
            f"the app {self.app} has no celery-budget; where it is made, add: "
            "from celery_budget import install; install(app)"
        )


class UnknownResource(BudgetError, LookupError):  # noqa: N818 - says what is the case
    """Name a resource that the policy names, or name this one in the policy.

    Attributes:
        resource: What was to be charged, or the amount of an envelope.
        known: The resources that are possible there under this policy.
        suggestion: "did you mean usd?"; "" when nothing is close.
    """

    def __init__(self, resource: str, known: Sequence[str], suggestion: str = "") -> None:
        self.resource = resource
        self.known = tuple(known)
        self.suggestion = suggestion
        super().__init__(resource, self.known, suggestion)

    def __str__(self) -> str:
        text = f"resource {self.resource} is unknown: the policy does not name it"
        if self.known:
            text = f"{text}; it names {', '.join(self.known)}"
        return f"{text}; {self.suggestion}" if self.suggestion else text
