"""What a call takes over from where it is made: the running task, and the envelopes open there."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import replace
from math import inf

from celery._state import get_current_task

from celery_budget.errors import HeaderError
from celery_budget.headers import HEADER, read
from celery_budget.policy.envelope import Envelope, nest
from celery_budget.policy.terms import NOTHING_ASKED, Asked

#: Envelopes that are open in this thread, greenlet or coroutine, the outermost first.
opened: ContextVar[tuple[Envelope, ...]] = ContextVar("celery_budget_envelopes", default=())


def inherited() -> Asked:
    """Tell what a call made here takes over.

    Raises:
        OptionError: too many envelopes are open.
    """
    found = _from_parent()
    inner = opened.get()
    if not inner:
        return found
    envelopes = found.envelopes or ()
    for envelope in inner:
        envelopes = nest(envelopes, envelope)
    return replace(found, envelopes=envelopes)


def _from_parent() -> Asked:
    parent = get_current_task()
    if parent is None:
        return NOTHING_ASKED
    value = getattr(parent.request, HEADER, None)
    if value is None:
        return NOTHING_ASKED
    try:
        stamp = read(value)
    except HeaderError:
        return NOTHING_ASKED
    return Asked(
        band=stamp.band,
        tenant=stamp.tenant or None,
        deadline=None if stamp.deadline in {0, inf} else stamp.deadline,
        correlation_id=stamp.correlation_id or parent.request.id or None,
        envelopes=stamp.envelopes,
    )
