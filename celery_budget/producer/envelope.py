"""Makes envelopes: `budget.envelope` around calls, and the option `envelope` of one call.

An option is a plain mapping, because Celery copies it into the messages of other parts. Made by
`budget.envelope` it names its id, which all copies share; a mapping without one is the envelope
of the one workflow that is published with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from celery_budget.errors import AmountError, NotInstalled, OptionError
from celery_budget.policy.envelope import DEADLINE, LIFE_S, MAX_LIMITS, Envelope, nest
from celery_budget.policy.limit import CAPACITIES
from celery_budget.policy.names import is_name
from celery_budget.policy.terms import permit
from celery_budget.producer.declared import absolute
from celery_budget.producer.inherited import inherited, opened
from celery_budget.units import amount, format_amount

if TYPE_CHECKING:
    from types import TracebackType

    from celery import Celery

#: What an option has beside the amounts of resources.
_KEYS = frozenset({"id", "at", DEADLINE})


class Opening(dict[str, str | float]):
    """An envelope, to be opened around calls or given to calls as their option.

    As a context manager it gives its id. What is published inside draws on it, as does whatever
    that publishes. It may be opened again, and is the same envelope then.
    """

    def __enter__(self) -> str:
        envelope = read_envelope(self, time())
        nest(inherited().envelopes or (), envelope)
        opened.set((*opened.get(), envelope))
        return envelope.id

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        opened.set(opened.get()[:-1])


def make(app: Celery, deadline: object, amounts: Mapping[str, object]) -> Opening:
    """Make an envelope with an id of its own.

    Args:
        app: Under whose policy.
        deadline: From now; None: none.
        amounts: By resource.

    Raises:
        NotInstalled: `install` was not called on the app.
        OptionError: something of it means nothing, or no worker could keep it.
        UnknownResource: the policy does not name a resource.
    """
    policy = getattr(app.amqp, "policy", None)
    if policy is None:
        raise NotInstalled(str(app.main))
    now = time()
    envelope = read_envelope({"id": uuid4().hex, "at": now, DEADLINE: deadline, **amounts}, now)
    permit(policy(), envelope)
    opening = Opening(id=envelope.id, at=now)
    if deadline is not None:
        opening[DEADLINE] = envelope.deadline - now
    for resource, units in envelope.limits.items():
        opening[resource] = format_amount(resource, units)
    return opening


def read_envelope(value: object, now: float) -> Envelope:
    """Read the option of a call.

    Args:
        value: `{"usd": 2, "deadline": "10m"}`; with an id, also when it was made (`at`, Unix
            seconds), from when on a deadline counts.
        now: Unix seconds.

    Raises:
        OptionError: it is no such mapping.
    """
    if not isinstance(value, Mapping):
        raise _wrong(f'is {value!r}; give a mapping such as {{"usd": 2, "deadline": "10m"}}')
    name, at = _origin(value, now)
    given = value.get(DEADLINE)
    fields: dict[str, Any] = {}
    if given is not None:
        fields["deadline"] = absolute("envelope", given, at)
        if fields["deadline"] > at + LIFE_S:
            raise _wrong("has a deadline beyond 30 days, when every envelope ends")
    limits = {
        resource: _units(resource, said)
        for resource, said in value.items()
        if resource not in _KEYS
    }
    if not limits and not fields:
        raise _wrong("names neither an amount nor a deadline")
    if len(limits) > MAX_LIMITS:
        raise _wrong(f"names more than {MAX_LIMITS} resources")
    return Envelope(name, at, limits=limits, **fields)


def _origin(value: Mapping[str, object], now: float) -> tuple[str, float]:
    """Tell the id of an option, "" without one, and when it was made."""
    name, at = value.get("id"), value.get("at")
    if name is None and at is None:
        return "", now
    if not isinstance(name, str) or not is_name(name):
        raise _wrong(f"has the id {name!r}, which is no name")
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at <= now + LIFE_S:
        raise _wrong("has an id and not when it was made; make it with budget.envelope(...)")
    return name, float(at)


def _units(resource: object, value: object) -> int:
    if not isinstance(resource, str) or not is_name(resource):
        raise _wrong(f"names {resource!r}, which no resource can be called")
    if resource in CAPACITIES:
        raise _wrong(
            f"names {resource}, which is held and given back: a budget limits it; name what is "
            "used up, such as starts or cpu"
        )
    try:
        units = amount(resource, value)  # type: ignore[arg-type]  # it refuses what is no amount
    except AmountError as error:
        raise OptionError("envelope", str(error)) from error
    if not units:
        raise _wrong(f"has nothing of {resource}; give more than zero")
    return units


def _wrong(problem: str) -> OptionError:
    return OptionError("envelope", problem)
