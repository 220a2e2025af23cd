"""The stamp: puts settled Terms into a message.

The router calls it with the options of a publish, so that whoever sees the message later, other
receivers of Celery's signals among them, sees a whole header. Only the expiry must wait for the
signal: it is Celery's own field, of which the options tell nothing and which the call may have
set. Messages of apps without celery-budget pass untouched.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from celery.signals import before_task_publish

from celery_budget.headers import HEADER, Stamp, write

if TYPE_CHECKING:
    from celery_budget.policy.terms import Terms

#: Publish option that tells the signal how long the message may live. Celery hands options it
#: does not know on as properties; unlike headers they never come back with a retry.
EXPIRES_S = "budget_expires_s"


def stamp(options: dict[str, object], terms: Terms, now: float) -> None:
    """Put the Terms of one call into the options it is published with.

    Args:
        options: Of the publish; modified.
        terms: Settled for this call.
        now: Time of publishing, Unix seconds.
    """
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
            )
        ),
    }
    if terms.expires is not None:
        options[EXPIRES_S] = terms.expires


def expire(
    headers: dict[str, object] | None = None,
    body: object = None,
    properties: dict[str, Any] | None = None,
    **_signal: object,
) -> None:
    """Give a message that is about to leave the expiry of its Terms, if the call gave none."""
    expires_s = None if properties is None else properties.pop(EXPIRES_S, None)
    if expires_s is None:
        return
    found = fields(headers, body)
    if found.get("expires") is None:
        found["expires"] = (datetime.now(UTC) + timedelta(seconds=expires_s)).isoformat()


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
    before_task_publish.connect(expire, weak=False, dispatch_uid="celery_budget.expire")
