"""The stamp: puts settled Terms into a message.

The router calls it with the options of a publish, so that whoever sees the message later, other
receivers of Celery's signals among them, sees a whole header. Two things must wait for the signal:
the expiry is Celery's own field, of which the options tell nothing and which the call may have set;
and so is the group whose parts share an envelope. Messages of apps without celery-budget pass
untouched.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid4, uuid5

from celery.signals import before_task_publish
from msgspec.structs import replace

from celery_budget.headers import HEADER, Stamp, read, write
from celery_budget.policy.names import is_name

if TYPE_CHECKING:
    from celery_budget.policy.terms import Terms
    from celery_budget.producer.backpressure import Answer

#: Publish option that tells the signal how long the message may live. Celery hands options it
#: does not know on as properties; unlike headers they never come back with a retry.
EXPIRES_S = "budget_expires_s"

#: The same of an envelope that was made for this call: its id, unless others share it.
FRESH = "budget_envelope"


#: The same that tells it not to let the task start before so many seconds.
DELAY_S = "budget_delay_s"


def stamp(options: dict[str, object], terms: Terms, now: float, answer: Answer) -> None:
    """Put the Terms of one call into the options it is published with.

    Args:
        options: Of the publish; modified.
        terms: Settled for this call.
        now: Time of publishing, Unix seconds.
        answer: What back-pressure says of it.
    """
    if answer.delay_s:
        options[DELAY_S] = answer.delay_s
    envelopes = terms.envelopes
    if envelopes and not envelopes[-1].id:
        options[FRESH] = name = uuid4().hex
        envelopes = (*envelopes[:-1], replace(envelopes[-1], id=name))
    headers = options.get("headers")
    options["headers"] = {
        **(headers if isinstance(headers, Mapping) else {}),
        HEADER: write(
            Stamp(
                terms.band,
                terms.tenant,
                terms.deadline,
                terms.correlation_id,
                at=now,
                cost=dict(terms.cost),
                envelopes=envelopes,
                degraded=answer.is_degraded,
            )
        ),
    }
    if terms.expires is not None:
        options[EXPIRES_S] = terms.expires


def complete(
    headers: dict[str, object] | None = None,
    body: object = None,
    properties: dict[str, Any] | None = None,
    **_signal: object,
) -> None:
    """Add to a message that is about to leave what only Celery's own fields can tell."""
    if properties is None:
        return
    expires_s = properties.pop(EXPIRES_S, None)
    if expires_s is not None:
        _expire(fields(headers, body), expires_s)
    delay_s = properties.pop(DELAY_S, None)
    if delay_s is not None:
        _delay(fields(headers, body), delay_s)
    fresh = properties.pop(FRESH, None)
    if fresh is not None and headers:
        _share(headers, body, fresh)


def _expire(found: dict[str, object], expires_s: float) -> None:
    """Give a message the expiry of its Terms, if the call gave none."""
    if found.get("expires") is None:
        found["expires"] = (datetime.now(UTC) + timedelta(seconds=expires_s)).isoformat()


def _delay(found: dict[str, object], delay_s: float) -> None:
    """Let a message start later, unless the call says when."""
    if found.get("eta") is None:
        found["eta"] = (datetime.now(UTC) + timedelta(seconds=delay_s)).isoformat()


def _share(headers: dict[str, object], body: object, fresh: str) -> None:
    """Let the parts of one group have one envelope: each was given its own when it was routed."""
    found = fields(headers, body)
    group = found.get("group") or found.get("taskset") or _group_of_chain(body)
    if not isinstance(group, str):
        return
    name = group if is_name(group) else uuid5(NAMESPACE_OID, group).hex
    stamp = read(headers[HEADER])
    headers[HEADER] = write(
        replace(
            stamp,
            envelopes=tuple(
                replace(each, id=name) if each.id == fresh else each for each in stamp.envelopes
            ),
        )
    )


def _group_of_chain(body: object) -> object:
    """Find the group that a chain is a part of: its last task names it."""
    match body:
        case (_, _, {"chain": [{"options": {"group_id": group}}, *_]}):
            return group
    return None


def fields(headers: dict[str, object] | None, body: object) -> dict[str, object]:
    """Find Celery's fields of a message that is about to leave; changing them changes it.

    Args:
        headers: As `before_task_publish` has them.
        body: As well: protocol 1 keeps the task's fields there.
    """
    if headers and "id" in headers:
        return headers
    return body if isinstance(body, dict) else {}


def connect() -> None:
    """Look at everything this process publishes; connecting again changes nothing."""
    before_task_publish.connect(complete, weak=False, dispatch_uid="celery_budget.complete")
