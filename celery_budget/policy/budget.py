"""Budgets, ceilings and tenants' weights as values: what a checked policy says of them.

Built by `policy/budgets.py` and `policy/ceilings.py`, held by `policy/model.py`. What was
spent lives elsewhere; nothing here counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from math import inf

#: Pairs of a resource and its units, sorted by resource.
Cost = tuple[tuple[str, int], ...]

#: Resources that one cost may name: above the seven built-in and sixteen custom ones that a
#: policy can have, and a bound for what a message carries.
MAX_COSTS = 32


class Scope(StrEnum):
    """What one account of a budget belongs to."""

    FLEET = "fleet"  # all workers together; the one scope without names
    REGION = "region"
    NODE = "node"  # a machine, with all workers on it
    WORKER = "worker"
    BAND = "band"
    QUEUE = "queue"
    TASK = "task"  # a task name
    TENANT = "tenant"
    HEADER = "header"  # the value of a message header
    ENVELOPE = "envelope"  # an envelope's id; no table of the policy names one


class Action(StrEnum):
    """What happens to tasks of a budget that is used up to some share of its limit."""

    HOLD = "hold"  # they wait until there is room again
    DEGRADE = "degrade"  # they run and can see that they should do less
    DEMOTE = "demote"  # they wait in a lower band
    SHED = "shed"  # they are dropped


@dataclass(frozen=True, slots=True)
class Window:
    """The time that a budget's limit is for.

    Attributes:
        length_us: Microseconds, > 0; 0 for a calendar window and that of an envelope.
        calendar: "day", "week" (from Monday), "month", or "" for one with a length.
        time_zone: IANA name; means something to calendar windows only.
        turns: True when the whole limit is there as a window begins, False when it refills
            steadily.
        kept_us: Of the one window of an envelope, whose limit never comes back: until when its
            account is kept, microseconds since 1970; 0 otherwise.
        ends: Of the same: from when on nothing of it is left, Unix seconds; inf otherwise.
    """

    length_us: int
    calendar: str = ""
    time_zone: str = "UTC"
    turns: bool = False
    kept_us: int = 0
    ends: float = inf


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """The budget of one resource for each name that matches; each name has an account.

    Attributes:
        path: Place in the file, e.g. `budgets."tenant:*".usd`; names it in reasons.
        scope: What the names are names of.
        header: Name of the message header; "" unless `scope` is HEADER.
        pattern: Shell pattern over the names; "*" for the fleet.
        resource: Built in or custom.
        limit: Units for each window, or held at once; > 0.
        window: None for a capacity: what may be held at once.
        burst: Units on top of `limit` at most in any window: carried over where windows
            turn, saved up where they refill; 0 for a capacity.
        actions: Shares of the limit (0 < share <= 1) and what happens from there on,
            ascending; never empty.
        reserve: Bands and the share of the limit that is kept for each and the bands above
            it; most urgent first, together < 1.
    """

    path: str
    scope: Scope
    header: str
    pattern: str
    resource: str
    limit: int
    window: Window | None
    burst: int = 0
    actions: tuple[tuple[float, Action], ...] = ((1.0, Action.HOLD),)
    reserve: tuple[tuple[str, float], ...] = ()

    def is_match(self, name: str) -> bool:
        """Tell whether the rule speaks of this name of its scope."""
        return fnmatchcase(name, self.pattern)


@dataclass(frozen=True, slots=True)
class CeilingRule:
    """What one execution may use at most, where the name matches; None: no ceiling.

    Attributes:
        path: Place in the file, e.g. `ceilings."task:*"`.
        scope: TASK, BAND, TENANT or QUEUE.
        pattern: Shell pattern over the names of the scope.
        cpu: Microseconds of processor time.
        memory: Bytes at the peak.
        runtime: Microseconds of wall time.
        grace_us: From being told to stop to being stopped; >= 0.
    """

    path: str
    scope: Scope
    pattern: str
    cpu: int | None = None
    memory: int | None = None
    runtime: int | None = None
    grace_us: int = 0

    @property
    def limits(self) -> Cost:
        """The resources that it limits, and their units."""
        named = (("cpu", self.cpu), ("memory", self.memory), ("runtime", self.runtime))
        return tuple((resource, units) for resource, units in named if units is not None)

    def is_match(self, name: str) -> bool:
        """Tell whether the rule speaks of this name of its scope."""
        return fnmatchcase(name, self.pattern)


@dataclass(frozen=True, slots=True)
class Bound:
    """The ceiling of one resource for one execution.

    Attributes:
        units: As of its resource; > 0.
        grace_us: From being told to stop to being stopped; >= 0.
        path: Place of the rule, e.g. `ceilings."task:*".memory`; names it in reasons.
    """

    units: int
    grace_us: int
    path: str


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What one execution may use at most; None: as much as it likes.

    Attributes:
        cpu: Processor time.
        memory: Peak.
        runtime: Wall time.
    """

    cpu: Bound | None = None
    memory: Bound | None = None
    runtime: Bound | None = None


@dataclass(frozen=True, slots=True)
class TenantRule:
    """The weight of the tenants whose names match.

    Attributes:
        pattern: Shell pattern over tenants.
        weight: Share against the other tenants of the same band; > 0.
    """

    pattern: str
    weight: float = 1.0

    def is_match(self, tenant: str) -> bool:
        """Tell whether the rule speaks of this tenant."""
        return fnmatchcase(tenant, self.pattern)


#: Of most executions of most policies.
NO_CEILING = Ceiling()


def tightest(rules: Iterable[CeilingRule], names: Iterable[tuple[Scope, str]]) -> Ceiling:
    """Find the ceiling of one execution.

    Within a scope the most specific rule that names a resource decides, so that an exact
    name may be given more than the rest; between scopes the lowest holds.

    Args:
        rules: Most specific pattern first.
        names: The execution's name in each scope.
    """
    lowest: dict[str, Bound] = {}
    applying = tuple(rules)
    for scope, name in names:
        decided: set[str] = set()
        for rule in applying:
            if rule.scope is not scope or not rule.is_match(name):
                continue
            for resource, units in rule.limits:
                if resource in decided:
                    continue
                decided.add(resource)
                if resource not in lowest or units < lowest[resource].units:
                    lowest[resource] = Bound(units, rule.grace_us, f"{rule.path}.{resource}")
    return Ceiling(lowest.get("cpu"), lowest.get("memory"), lowest.get("runtime"))
