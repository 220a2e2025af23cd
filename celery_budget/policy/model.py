"""The policy as values: what a checked policy file means to the rest of the program.

Built by `policy/load.py` from the file's own shape (`policy/document.py`); read by
`policy/terms.py`, the router, the dispatcher and the worker. Nothing here reads a file.
Budgets, ceilings and tenants are in `policy/budget.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from hashlib import sha256

from celery_budget.policy.budget import (
    NO_CEILING,
    BudgetRule,
    Ceiling,
    CeilingRule,
    Cost,
    Scope,
    TenantRule,
    tightest,
)
from celery_budget.policy.envelope import EnvelopeRule
from celery_budget.policy.lanes import lanes_of, queue_of
from celery_budget.policy.preemption import DEFAULT_PREEMPTION, Method, PreemptionRule
from celery_budget.policy.pressure import PressureRule


class OnLoss(StrEnum):
    """What a band's tasks do while the ledger of the budgets cannot be reached."""

    OPEN = "open"  # they run, and what they spend is told later
    LOCAL = "local"  # they run at the share that their worker had last
    CLOSED = "closed"  # they wait


class OnOverload(StrEnum):
    """What a sender does with a task of a band that has too much waiting."""

    DELAY = "delay"  # it starts some time later
    DEGRADE = "degrade"  # it is asked to do less
    RAISE = "raise"  # it is not sent: the caller gets `BandOverloaded`


@dataclass(frozen=True, slots=True)
class Band:
    """One priority band; its place in `Policy.bands` is its rank.

    Attributes:
        name: As in the policy file, e.g. `"critical"`.
        rank: 0 is the most urgent.
        queues: Broker queues the band owns; tasks are published to the first.
        weight: Share against the other bands that do not preempt; > 0.
        reserve: Slots of each worker kept for this band; >= 0.
        reserve_most: Slots of each worker that may be kept for it by forecast, those of `reserve`
            among them; None: its arrivals are not even counted.
        lend: Of these, how many others may use with tasks that cannot give way; >= 0.
        min_share: Part of each worker's slot time the band gets at least while it has
            work waiting, however busy higher bands are; 0 <= min_share < 1.
        preempts: Whether the band is served strictly by rank, before weights.
        latency_target: Wanted time from publish to start, seconds; None: no target.
        deadline: Soft deadline for tasks that name none, seconds from publish.
        expires: Hard expiry for tasks that name none, seconds from publish.
        on_ledger_loss: What its tasks do while the ledger cannot be reached.
        preempt: How its running tasks may give way; None: not at all, unless a task says more.
        degrade: Whether its tasks can do less instead of waiting; None: not, unless a task says so.
        lanes: Sub-queues of the first queue, over which tenants are spread; 1: none.
        max_queued: Messages that may wait in its queues; None: any number.
        on_overload: What senders do with its tasks beyond that.
    """

    name: str
    rank: int
    queues: tuple[str, ...] = ()
    weight: float = 1.0
    reserve: int = 0
    reserve_most: int | None = None
    lend: int = 0
    min_share: float = 0.0
    preempts: bool = False
    latency_target: float | None = None
    deadline: float | None = None
    expires: float | None = None
    on_ledger_loss: OnLoss = OnLoss.LOCAL
    preempt: tuple[Method, ...] | None = None
    degrade: bool | None = None
    lanes: int = 1
    max_queued: int | None = None
    on_overload: OnOverload = OnOverload.DELAY

    @property
    def lane_queues(self) -> tuple[str, ...]:
        """Names of its lanes."""
        return lanes_of(self.queues[0], self.lanes) if self.queues else ()


@dataclass(frozen=True, slots=True)
class TaskRule:
    """What the policy says of the task names that match a pattern.

    Attributes:
        pattern: Shell pattern over task names, e.g. `"payments.*"`; case matters.
        band: Band name, or None to leave it to the task.
        tenant: Template over the call's arguments, e.g. `"{customer_id}"`, or None.
        deadline: Soft deadline, seconds from publish, or None.
        expires: Hard expiry, seconds from publish, or None.
        cost: What one execution is expected to use, or None.
        preempt: How they may give way while they run; () for not at all, or None.
        degrade: Whether they can do less instead of waiting, or None.
    """

    pattern: str
    band: str | None = None
    tenant: str | None = None
    deadline: float | None = None
    expires: float | None = None
    cost: Cost | None = None
    preempt: tuple[Method, ...] | None = None
    degrade: bool | None = None

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
        budgets: Most specific pattern first.
        ceilings: Most specific pattern first.
        tenants: Most specific pattern first, so that the first match decides.
        envelopes: What `[envelopes]` says; None without that table.
        preemption: What `[preemption]` says.
        pressure: What `[pressure]` says; None without that table: nodes are not looked at.
        resources: Names of all resources that a budget, ceiling, cost or `[envelopes]` mentions,
            sorted: what has to be metered or charged.
        has_bands: Whether bands were declared; without them the one default band owns
            every queue.
    """

    bands: tuple[Band, ...] = (EMPTY_BAND,)
    default_band: str = EMPTY_BAND.name
    tasks: tuple[TaskRule, ...] = ()
    caller_options: frozenset[str] = frozenset({"band", "tenant", "deadline", "expires", "cost"})
    seed: int = 0
    budgets: tuple[BudgetRule, ...] = ()
    ceilings: tuple[CeilingRule, ...] = ()
    tenants: tuple[TenantRule, ...] = ()
    envelopes: EnvelopeRule | None = None
    preemption: PreemptionRule = DEFAULT_PREEMPTION
    pressure: PressureRule | None = None
    resources: tuple[str, ...] = field(init=False, repr=False, compare=False)
    has_bands: bool = field(init=False, repr=False, compare=False)
    _by_name: dict[str, Band] = field(init=False, repr=False, compare=False)
    _by_queue: dict[str, str] = field(init=False, repr=False, compare=False)
    _owner_of_rest: str | None = field(init=False, repr=False, compare=False)
    _by_scope: dict[tuple[Scope, str], list[BudgetRule]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {band.name: band for band in self.bands})
        owners = {queue: band.name for band in self.bands for queue in band.queues}
        object.__setattr__(self, "_by_queue", owners)
        object.__setattr__(self, "has_bands", self.bands != (EMPTY_BAND,))
        takes_all = not self.has_bands and not self.is_empty
        object.__setattr__(self, "_owner_of_rest", self.default_band if takes_all else None)
        by_scope: dict[tuple[Scope, str], list[BudgetRule]] = {}
        for budget in self.budgets:
            by_scope.setdefault((budget.scope, budget.header), []).append(budget)
        object.__setattr__(self, "_by_scope", by_scope)
        object.__setattr__(self, "resources", self._named_resources())

    @property
    def is_empty(self) -> bool:
        """Whether nothing was declared, so that the app must behave as without us."""
        return not (
            self.has_bands
            or self.tasks
            or self.budgets
            or self.ceilings
            or self.tenants
            or self.envelopes
            or self.pressure
        )

    @property
    def has_accounts(self) -> bool:
        """Whether anything may be kept in a ledger."""
        return bool(self.budgets or self.envelopes)

    def band(self, name: str) -> Band | None:
        """Find a band by name."""
        return self._by_name.get(name)

    def owner(self, queue: str) -> str | None:
        """Name the band that owns a queue, or the queue of which it is a lane.

        Without declared bands that is the default band for every queue, or none at all if
        the policy is empty and leaves the queues alone.
        """
        return self._by_queue.get(self.base(queue), self._owner_of_rest)

    def base(self, queue: str) -> str:
        """Name the queue of which one is a lane; a queue that is none is its own base.

        Lanes beyond this policy's number count: others may have another policy.
        """
        if ".lane" not in queue or queue in self._by_queue:
            return queue
        base = queue_of(queue)
        band = None if base is None else self._by_name.get(self._by_queue.get(base, ""))
        return queue if band is None or band.queues[0] != base else base

    def rule(self, task: str) -> TaskRule | None:
        """Find the most specific rule for a task name."""
        for rule in self.tasks:
            if rule.is_match(task):
                return rule
        return None

    def budgets_for(self, scope: Scope, name: str, header: str = "") -> tuple[BudgetRule, ...]:
        """Find the budgets that one name of a scope has.

        Args:
            scope: What the name is a name of.
            name: For example a tenant; the value of the header; anything for the fleet.
            header: Name of the message header, if `scope` is HEADER.

        Returns:
            For each resource the most specific rule, sorted by resource.
        """
        found: dict[str, BudgetRule] = {}
        for rule in self._by_scope.get((scope, header), ()):
            if rule.resource not in found and rule.is_match(name):
                found[rule.resource] = rule
        return tuple(found[resource] for resource in sorted(found))

    def ceiling(self, task: str, band: str, tenant: str, queue: str) -> Ceiling:
        """Find what one execution may use at most; see `tightest`."""
        if not self.ceilings:
            return NO_CEILING
        names = (
            (Scope.TASK, task),
            (Scope.BAND, band),
            (Scope.TENANT, tenant),
            (Scope.QUEUE, queue),
        )
        return tightest(self.ceilings, names)

    @property
    def fingerprint(self) -> str:
        """A short text that differs where anything that was declared differs.

        Holds for one release of celery-budget: another one may know more of a policy.
        """
        declared = (
            self.bands,
            self.default_band,
            self.tasks,
            sorted(self.caller_options),
            self.seed,
            self.budgets,
            self.ceilings,
            self.tenants,
            self.envelopes,
            self.preemption,
            self.pressure,
        )
        return sha256(repr(declared).encode()).hexdigest()[:16]

    def tenant_weight(self, name: str) -> float:
        """Find a tenant's share against the other tenants of its band; 1.0 if none is declared."""
        for rule in self.tenants:
            if rule.is_match(name):
                return rule.weight
        return 1.0

    def _named_resources(self) -> tuple[str, ...]:
        found = {budget.resource for budget in self.budgets}
        for ceiling in self.ceilings:
            found.update(resource for resource, _ in ceiling.limits)
        for rule in self.tasks:
            found.update(resource for resource, _ in rule.cost or ())
        if self.envelopes is not None:
            found.update(self.envelopes.resources)
        if self.pressure is not None:
            found.add("memory")  # what a task type takes is learned
            if self.pressure.cpu is not None:
                found.add("cpu")  # the same
        return tuple(sorted(found))
