"""Envelopes: amounts, and a time, that the parts of one workflow share.

Here they are values, and how they nest. They travel in the header, senders make them in
`producer/envelope.py`, and the worker keeps an account for each of their amounts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Annotated

from msgspec import Meta, Struct

from celery_budget.errors import OptionError
from celery_budget.policy.budget import Action, BudgetRule, Scope, Window
from celery_budget.policy.names import LATEST, NAME_PATTERN
from celery_budget.units import LARGEST

#: Envelopes around one call: each brings accounts of its own, which all have to be asked.
MAX_DEPTH = 4

#: Resources of one envelope; four times as many may decide about one start.
MAX_LIMITS = 8

#: An envelope ends after so many seconds, whatever its deadline.
LIFE_S = 30 * 86_400.0

#: The ledger keeps an account for longer, seconds: parts that run at the end are still charged.
KEPT_S = 86_400.0

#: Stands for the time in an account's name; no resource of an envelope can be called so.
DEADLINE = "deadline"

#: Place in the policy that says what happens to parts when an envelope is used up.
PATH = "envelopes.on_exhausted"

_Seconds = Annotated[float, Meta(ge=0, le=LATEST)]
_Name = Annotated[str, Meta(pattern=NAME_PATTERN)]


class Envelope(Struct, frozen=True, gc=False, omit_defaults=True):
    """What the parts of one workflow may use together, as a message carries it.

    Attributes:
        id: Shared by all parts; "" until a call that names none is published.
        at: When it was made, Unix seconds.
        deadline: When its parts are to have started, Unix seconds; inf: it has none.
        limits: Units by resource, each more than zero.
    """

    id: _Name
    at: _Seconds
    deadline: _Seconds = inf
    limits: Annotated[
        dict[_Name, Annotated[int, Meta(gt=0, le=LARGEST)]], Meta(max_length=MAX_LIMITS)
    ] = {}

    def __hash__(self) -> int:
        return hash(self.id)  # the limits are a dict

    @property
    def ends(self) -> float:
        """From when on nothing of it is left, Unix seconds."""
        return min(self.deadline, self.at + LIFE_S)


@dataclass(frozen=True, slots=True)
class EnvelopeRule:
    """What a policy says of all envelopes.

    Attributes:
        actions: Shares of an amount and what happens to parts from there on, as in budgets.
        resources: What envelopes may name beside what the rest of the policy names.
    """

    actions: tuple[tuple[float, Action], ...] = ((1.0, Action.SHED),)
    resources: tuple[str, ...] = ()


def nest(outer: tuple[Envelope, ...], inner: Envelope) -> tuple[Envelope, ...]:
    """Put an envelope inside of others.

    Args:
        outer: The outermost first.
        inner: May be one of them, which changes nothing. Without an id it is left out where it
            asks for nothing that is not asked already: the body of a chord repeats the option
            of its header.

    Raises:
        OptionError: there are too many.
    """
    if any(inner.id == known.id for known in outer):
        return outer
    if not inner.id and _is_covered(inner, outer):
        return outer
    if len(outer) == MAX_DEPTH:
        raise OptionError(
            "envelope", f"is inside of {MAX_DEPTH} others already, and that is the most"
        )
    return (*outer, inner)


def _is_covered(inner: Envelope, outer: Sequence[Envelope]) -> bool:
    """Tell whether others run out no later, as whatever is spent inside is spent there too."""
    if not outer or inner.deadline < min(known.deadline for known in outer):
        return False
    return all(
        any(known.limits.get(resource, inf) <= units for known in outer)
        for resource, units in inner.limits.items()
    )


def budgets_of(envelope: Envelope, rule: EnvelopeRule) -> list[tuple[str, BudgetRule]]:
    """Write an envelope as budgets whose one window is its life: account names and rules.

    Its time is a budget too, of a resource that nobody uses; the ledger never hears of it.
    """
    kept_us = int((envelope.ends + KEPT_S) * 1e6)
    limits = [*envelope.limits.items(), (DEADLINE, 1)]
    return [
        (
            f"{Scope.ENVELOPE}:{envelope.id} {resource}",
            BudgetRule(
                path=PATH,
                scope=Scope.ENVELOPE,
                header="",
                pattern=envelope.id,
                resource=resource,
                limit=units,
                window=Window(0, turns=True, kept_us=kept_us, ends=envelope.ends),
                actions=rule.actions,
            ),
        )
        for resource, units in limits
    ]
