"""Terms: all options of one call, settled once. The only place where precedence is decided.

Pure: takes the policy, what the call, the task and its parent said, and the time. Called
by the sender's stamp, and by the worker for messages that came without a stamp.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf

from celery_budget.errors import OptionError, UnknownResource
from celery_budget.policy.budget import MAX_COSTS, Cost
from celery_budget.policy.envelope import Envelope, nest
from celery_budget.policy.limit import CAPACITIES
from celery_budget.policy.model import Band, Policy, TaskRule
from celery_budget.policy.names import LATEST, MAX_NAME, MAX_TEXT, closest, is_name, is_text
from celery_budget.policy.preemption import Method
from celery_budget.policy.tenant import Arguments, render_tenant
from celery_budget.units import LARGEST, MAX_SECONDS

#: Rules remembered by task name. Names come from code, yet a stranger's message may bring
#: any; a full cache is emptied, which costs one search of the rules per name.
MAX_CACHED = 4_096


class Source(StrEnum):
    """Who decided the band."""

    CALL = "call"  # option `band` of the call
    CARRIED = "carried"  # an earlier publish of the same task, as with a retry
    NAMED_QUEUE = "named_queue"  # the call named a queue that a band owns
    POLICY = "policy"  # the most specific rule in [tasks]
    DECLARED = "declared"  # the task's decorator or base class
    QUEUE = "queue"  # owner of the queue that routing chose
    INHERITED = "inherited"  # the task that published it
    DEFAULT = "default"  # default_band


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call asks for, or what a parent task hands down; None: nothing said.

    Attributes:
        band: Band name.
        tenant: Whose work it is, as it is, no template; "" for nobody's.
        deadline: Soft deadline, Unix seconds.
        expires: Hard expiry, seconds from publish; not handed down.
        correlation_id: Shared by all tasks of one piece of work.
        cost: What the execution is expected to use, in units; not handed down.
        envelopes: What it draws on beside its budgets, outermost first; a call names one.
    """

    band: str | None = None
    tenant: str | None = None
    deadline: float | None = None
    expires: float | None = None
    correlation_id: str | None = None
    cost: Cost | None = None
    envelopes: tuple[Envelope, ...] | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """What a task's decorator or base class declares; None: nothing said.

    Attributes:
        band: Band name.
        tenant: Template over the call's arguments, or a constant.
        deadline: Soft deadline, seconds from publish.
        expires: Hard expiry, seconds from publish.
        cost: What one execution is expected to use, in units.
        preempt: How it may give way while it runs; () for not at all.
        degrade: Whether it can do less instead of waiting.
    """

    band: str | None = None
    tenant: str | None = None
    deadline: float | None = None
    expires: float | None = None
    cost: Cost | None = None
    preempt: tuple[Method, ...] | None = None
    degrade: bool | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """The settled options of one call.

    Attributes:
        band: Name of a band of the policy.
        tenant: Whose work it is; "" when nobody said.
        deadline: Soft deadline, Unix seconds; inf when it has none.
        expires: Hard expiry, seconds from publish; None when it has none.
        correlation_id: "" when the task starts a piece of work of its own.
        band_source: Who decided the band.
        ignored: Options of the call that the policy does not leave to callers.
        cost: What the execution is expected to use: units by resource, sorted; () when
            nobody said.
        envelopes: What it draws on beside its budgets, outermost first.
    """

    band: str
    tenant: str
    deadline: float
    expires: float | None
    correlation_id: str
    band_source: Source
    ignored: tuple[str, ...] = ()
    cost: Cost = ()
    envelopes: tuple[Envelope, ...] = ()


#: Nothing asked, nothing declared.
NOTHING_ASKED = Asked()
NOTHING_DECLARED = Declared()


def resolve(
    policy: Policy,
    task: str,
    *,
    now: float,
    call: Asked = NOTHING_ASKED,
    carried: Asked = NOTHING_ASKED,
    declared: Declared = NOTHING_DECLARED,
    inherited: Asked = NOTHING_ASKED,
    queue: str | None = None,
    queue_is_explicit: bool = False,
    arguments: Arguments | None = None,
) -> Terms:
    """Settle every option of one call.

    A band goes by, first that speaks: the call, what an earlier publish of the same task
    settled, the queue that the call named, the most specific rule in the policy, decorator
    or base class, the queue it is routed to, the parent task, `default_band`. Other
    options skip the queues and end at the band's own. A deadline that was handed down is
    never loosened, except by the call itself. A cost is settled resource by resource and
    not handed down. Envelopes add up: that of the call is inside of those that were carried
    or else handed down; where calls may set a deadline, none is later than theirs. Under a
    policy without bands there is one band, whatever tasks and calls name.

    Args:
        policy: Decides last and says which options are open to callers.
        task: Task name.
        now: Time of publishing, Unix seconds.
        call: From the call's own options.
        carried: Settled when the same task was published before, as a retry brings it
            along; not an option of a caller, so `caller_options` does not bind it.
        declared: From decorator or base class.
        inherited: From the task that publishes this one.
        queue: Queue the message goes to, if known.
        queue_is_explicit: Whether the call named that queue, rather than routing.
        arguments: Names and values of the call's arguments; called only for a tenant
            template with fields. What it raises passes through.

    Raises:
        OptionError: The call or the task names a band that the policy does not have, or a
            value that no message can carry, or is in too many envelopes.
        UnknownResource: The call's envelope names a resource that the policy does not.

    Source: docs/reference/policy.md, "Precedence".

    .. versionadded:: 0.1
    """
    ignored: tuple[str, ...] = ()
    if call is not NOTHING_ASKED:
        call, ignored = _permit(policy, call)
    rule = rule_of(policy, task)
    owner = None if queue is None else policy.owner(queue)
    name, source = _band(
        policy, rule, call, carried, declared, inherited, owner=owner, is_named=queue_is_explicit
    )
    band = policy.band(name)

    if call.tenant is not None:
        tenant = call.tenant
    elif carried.tenant is not None:
        tenant = carried.tenant
    else:
        template = rule.tenant if rule is not None else None
        if template is None:
            template = declared.tenant
        tenant = (
            render_tenant(template, arguments) if template is not None else inherited.tenant or ""
        )
    deadline = _deadline(rule, call, carried, declared, inherited, band, now)
    envelopes = _envelopes(policy, call, carried, inherited)
    if envelopes and "deadline" in policy.caller_options:
        deadline = min(deadline, *(envelope.deadline for envelope in envelopes))
    expires = _expires(rule, call, carried, declared, band)
    correlation_id = call.correlation_id or carried.correlation_id or inherited.correlation_id or ""
    cost = _cost(rule, call, carried, declared)
    return Terms(name, tenant, deadline, expires, correlation_id, source, ignored, cost, envelopes)


def _band(  # noqa: PLR0911 - a return for each step of the precedence
    policy: Policy,
    rule: TaskRule | None,
    call: Asked,
    carried: Asked,
    declared: Declared,
    inherited: Asked,
    *,
    owner: str | None,
    is_named: bool,
) -> tuple[str, Source]:
    if not policy.has_bands:
        return policy.default_band, Source.DEFAULT
    if call.band is not None:
        return _known(policy, call.band), Source.CALL
    # What was settled elsewhere or earlier may come from another version of the policy: a
    # band that is gone is no reason to fail here.
    if carried.band is not None and policy.band(carried.band) is not None:
        return carried.band, Source.CARRIED
    if owner is not None and is_named:
        return owner, Source.NAMED_QUEUE
    if rule is not None and rule.band is not None:
        return rule.band, Source.POLICY
    if declared.band is not None:
        return _known(policy, declared.band), Source.DECLARED
    if owner is not None:
        return owner, Source.QUEUE
    if inherited.band is not None and policy.band(inherited.band) is not None:
        return inherited.band, Source.INHERITED
    return policy.default_band, Source.DEFAULT


def _deadline(
    rule: TaskRule | None,
    call: Asked,
    carried: Asked,
    declared: Declared,
    inherited: Asked,
    band: Band | None,
    now: float,
) -> float:
    if call.deadline is not None:
        return call.deadline
    if carried.deadline is not None:
        return carried.deadline
    handed_down = inf if inherited.deadline is None else inherited.deadline
    own = rule.deadline if rule is not None else None
    if own is None:
        own = declared.deadline
    if own is None and band is not None:
        own = band.deadline
    return handed_down if own is None else min(handed_down, now + own)


def _expires(
    rule: TaskRule | None, call: Asked, carried: Asked, declared: Declared, band: Band | None
) -> float | None:
    for said in (call, carried, rule, declared, band):
        if said is not None and said.expires is not None:
            return said.expires
    return None


def _cost(rule: TaskRule | None, call: Asked, carried: Asked, declared: Declared) -> Cost:
    ruled = None if rule is None else rule.cost
    if declared.cost is None and ruled is None and carried.cost is None and call.cost is None:
        return ()
    merged: dict[str, int] = {}
    for said in (declared.cost, ruled, carried.cost, call.cost):
        merged.update(said or ())
    return tuple(sorted(merged.items()))


def _envelopes(
    policy: Policy, call: Asked, carried: Asked, inherited: Asked
) -> tuple[Envelope, ...]:
    outer = inherited.envelopes if carried.envelopes is None else carried.envelopes
    found = outer or ()
    for envelope in call.envelopes or ():
        permit(policy, envelope)
        found = nest(found, envelope)
    return found


def permit(policy: Policy, envelope: Envelope) -> None:
    """Check that workers under a policy can keep an envelope.

    Raises:
        OptionError: they keep no accounts.
        UnknownResource: they do not count one of its resources.
    """
    if not policy.has_accounts:
        raise OptionError(
            "envelope",
            "the policy has no budgets, so that workers keep no accounts",
            'add [envelopes], for example with resources = ["usd"]',
        )
    known = {"starts", *policy.resources} - CAPACITIES.keys()
    for resource in envelope.limits:
        if resource not in known:
            raise UnknownResource(resource, sorted(known), closest(resource, known))


def _known(policy: Policy, name: str) -> str:
    if isinstance(name, str) and policy.band(name) is not None:
        return name
    known = [band.name for band in policy.bands]
    if not isinstance(name, str):
        raise OptionError("band", f"must be the name of a band, not {type(name).__name__}")
    raise OptionError(
        "band",
        f"{name[:MAX_NAME]!r} is not a band of the policy",
        closest(name, known) or f"it has {', '.join(known)}",
    )


def _permit(policy: Policy, call: Asked) -> tuple[Asked, tuple[str, ...]]:
    """Check the call's values and drop the options that are not open to callers."""
    if call.tenant is not None and not is_text(call.tenant):
        raise OptionError("tenant", f"must be text of at most {MAX_TEXT} characters")
    if call.correlation_id is not None and not is_text(call.correlation_id):
        raise OptionError("correlation_id", f"must be text of at most {MAX_TEXT} characters")
    if call.deadline is not None and not 0 <= call.deadline <= LATEST:
        raise OptionError("deadline", "must be a time between 1970 and 2200")
    if call.expires is not None and not call.expires <= MAX_SECONDS:
        raise OptionError("expires", "must be at most 100 years from now")
    if call.cost is not None:
        _check_cost(call.cost)
    allowed = policy.caller_options
    ignored = tuple(
        option
        for option, value in (
            ("band", call.band),
            ("tenant", call.tenant),
            ("deadline", call.deadline),
            ("expires", call.expires),
            ("cost", call.cost),
        )
        if value is not None and option not in allowed
    )
    if not ignored:
        return call, ignored
    return (
        Asked(
            band=call.band if "band" in allowed else None,
            tenant=call.tenant if "tenant" in allowed else None,
            deadline=call.deadline if "deadline" in allowed else None,
            expires=call.expires if "expires" in allowed else None,
            correlation_id=call.correlation_id,
            cost=call.cost if "cost" in allowed else None,
            envelopes=call.envelopes,
        ),
        ignored,
    )


def _check_cost(cost: Cost) -> None:
    if len(cost) > MAX_COSTS:
        raise OptionError("cost", f"names more than {MAX_COSTS} resources")
    for resource, units in cost:
        if not isinstance(resource, str) or not is_name(resource):
            raise OptionError("cost", "names a resource with impossible characters")
        if not 0 <= units <= LARGEST:
            raise OptionError("cost", f"of {resource} is out of bounds")


_rules: dict[tuple[int, str], tuple[Policy, TaskRule | None]] = {}


def rule_of(policy: Policy, task: str) -> TaskRule | None:
    """Find the most specific rule for a task name; remembered."""
    if not policy.tasks:
        return None
    # By id: hashing a whole policy would cost more than searching it. The entry holds its
    # policy, so the id cannot come to mean another one while the entry lives.
    key = (id(policy), task)
    found = _rules.get(key)
    if found is not None:
        return found[1]
    rule = policy.rule(task)
    if len(_rules) >= MAX_CACHED:
        _rules.clear()
    _rules[key] = (policy, rule)
    return rule
