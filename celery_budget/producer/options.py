"""The options of one call that are ours: taken out of Celery's options, checked, made absolute.

Celery passes options it does not know on to the broker as message properties, so ours must be
taken out before it sees them, whoever called: `apply_async`, `send_task`, canvas or beat.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from celery_budget.errors import HeaderError, OptionError
from celery_budget.headers import HEADER, read
from celery_budget.policy.terms import NOTHING_ASKED, Asked
from celery_budget.producer.declared import absolute, cost
from celery_budget.producer.envelope import read_envelope

if TYPE_CHECKING:
    from collections.abc import MutableMapping

#: Options of `apply_async` and `send_task` that belong to us.
OPTIONS = frozenset({"band", "tenant", "deadline", "correlation_id", "cost", "envelope"})


def take(options: MutableMapping[str, object], now: float) -> tuple[Asked, Asked]:
    """Take our options out of `options`.

    Args:
        options: Of one call; ours, and a header brought along, are removed.
        now: Unix seconds; relative deadlines count from here.

    Returns:
        What the call asks for, and what a header brought along had settled: a retry brings
        the header of the run before it.

    Raises:
        OptionError: an option has a value that means nothing.
    """
    headers = options.get("headers")
    carried = NOTHING_ASKED
    if isinstance(headers, dict) and HEADER in headers:
        headers = dict(headers)
        carried = _carried(headers.pop(HEADER))
        options["headers"] = headers
    if OPTIONS.isdisjoint(options):
        return NOTHING_ASKED, carried
    deadline = options.pop("deadline", None)
    envelope = options.pop("envelope", None)
    call = Asked(
        band=_text(options, "band"),
        tenant=_text(options, "tenant"),
        deadline=None if deadline is None else absolute("deadline", deadline, now),
        correlation_id=_text(options, "correlation_id"),
        cost=cost(options.pop("cost", None)),
        envelopes=None if envelope is None else (read_envelope(envelope, now),),
    )
    return call, carried


def _carried(value: object) -> Asked:
    """Read a header brought along; a bad one asks for nothing, as at the worker."""
    try:
        stamp = read(value)
    except HeaderError:
        return NOTHING_ASKED
    found = asked(stamp.band, stamp.tenant, stamp.deadline, stamp.correlation_id)
    if stamp.cost:
        found = replace(found, cost=tuple(stamp.cost.items()))
    # None too is what was settled: what is open around a retry is not the task's.
    return replace(found, envelopes=stamp.envelopes)


def asked(band: str, tenant: str, deadline: float, correlation_id: str) -> Asked:
    """Turn the fields of a stamp into what a call would ask to get the same."""
    return Asked(
        band=band,
        tenant=tenant or None,
        deadline=None if deadline == float("inf") else deadline,
        correlation_id=correlation_id or None,
    )


def _text(options: MutableMapping[str, object], option: str) -> str | None:
    value = options.pop(option, None)
    if value is None:
        return None
    if not isinstance(value, str):
        raise OptionError(option, f"is {value!r}, not a string")
    return value
