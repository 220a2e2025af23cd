"""The policy as values: what a checked policy file means to the rest of the program.

Built by `policy/load.py` from the file's own shape (`policy/document.py`); read by
`policy/terms.py`, the router, the dispatcher and the worker. Nothing here reads a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Band:
    """One priority band; its place in `Policy.bands` is its rank.

    Attributes:
        name: As in the policy file, e.g. `"critical"`.
        rank: 0 is the most urgent.
        queues: Broker queues the band owns; tasks are published to the first.
        weight: Share against the other bands that do not preempt; > 0.
        reserve: Slots of each worker kept for this band; >= 0.
        min_share: Part of each worker's slot time the band gets at least while it has
            work waiting, however busy higher bands are; 0 <= min_share < 1.
        preempts: Whether the band is served strictly by rank, before weights.
        latency_target: Wanted time from publish to start, seconds; None: no target.
        deadline: Soft deadline for tasks that name none, seconds from publish.
        expires: Hard expiry for tasks that name none, seconds from publish.
    """

    name: str
    rank: int
    queues: tuple[str, ...] = ()
    weight: float = 1.0
    reserve: int = 0
    min_share: float = 0.0
    preempts: bool = False
    latency_target: float | None = None
    deadline: float | None = None
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class TaskRule:
    """What the policy says of the task names that match a pattern.

    Attributes:
        pattern: Shell pattern over task names, e.g. `"payments.*"`; case matters.
        band: Band name, or None to leave it to the task.
        tenant: Template over the call's arguments, e.g. `"{customer_id}"`, or None.
        deadline: Soft deadline, seconds from publish, or None.
        expires: Hard expiry, seconds from publish, or None.
    """

    pattern: str
    band: str | None = None
    tenant: str | None = None
    deadline: float | None = None
    expires: float | None = None

    def is_match(self, task: str) -> bool:
        """Tell whether the rule speaks of this task name."""
        return fnmatchcase(task, self.pattern)


#: The one band of an app without a policy; it owns no queue by name and so all of them.
EMPTY_BAND = Band(name="default", rank=0)


@dataclass(frozen=True, slots=True)
class Policy:
    """All that the operator declared, checked.

    Attributes:
        bands: By rank, most urgent first; never empty.
        default_band: Name of the band of tasks that declare none.
        tasks: Most specific pattern first, so that the first match decides.
        caller_options: Options that a call may set; others are ignored with a warning.
        seed: Starts the rotating tie-break; the same seed gives the same order.
    """

    bands: tuple[Band, ...] = (EMPTY_BAND,)
    default_band: str = EMPTY_BAND.name
    tasks: tuple[TaskRule, ...] = ()
    caller_options: frozenset[str] = frozenset({"band", "tenant", "deadline", "expires"})
    seed: int = 0
    _by_name: dict[str, Band] = field(init=False, repr=False, compare=False)
    _by_queue: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {band.name: band for band in self.bands})
        owners = {queue: band.name for band in self.bands for queue in band.queues}
        object.__setattr__(self, "_by_queue", owners)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was declared, so that the app must behave as without us."""
        return self.bands == (EMPTY_BAND,) and not self.tasks

    def band(self, name: str) -> Band | None:
        """Find a band by name."""
        return self._by_name.get(name)

    def owner(self, queue: str) -> str | None:
        """Name the band that owns a queue."""
        return self._by_queue.get(queue)

    def rule(self, task: str) -> TaskRule | None:
        """Find the most specific rule for a task name."""
        for rule in self.tasks:
            if rule.is_match(task):
                return rule
        return None
