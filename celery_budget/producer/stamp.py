"""The stamp: completes the header at the moment of publishing.

The router settled the Terms; only here is the message known as it leaves. Connected to
`before_task_publish` once for each process; messages of apps without celery-budget carry no
header of ours and pass untouched.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import time

from celery.signals import before_task_publish

from celery_budget.headers import HEADER
from celery_budget.producer.router import EXPIRES_S


def stamp(headers: dict[str, object] | None = None, body: object = None, **_signal: object) -> None:
    """Complete our header with the time of publish, and the message with its expiry."""
    header = None if headers is None else headers.get(HEADER)
    if headers is None or not isinstance(header, dict):
        return
    header["at"] = time()
    expires_s = header.pop(EXPIRES_S, None)
    if expires_s is None:
        return
    # Protocol 1 keeps the task's fields in the body.
    fields = headers if "id" in headers else body
    if isinstance(fields, dict) and fields.get("expires") is None:
        fields["expires"] = (datetime.now(UTC) + timedelta(seconds=expires_s)).isoformat()


def connect() -> None:
    """Stamp everything this process publishes; connecting again changes nothing."""
    before_task_publish.connect(stamp, weak=False, dispatch_uid="celery_budget.stamp")
