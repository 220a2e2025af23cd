"""Publishing a task anew under its id, so that the copy that cannot be reached is dropped.

Called by the client when it was given the task's signature.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from celery.signals import before_task_publish
from msgspec.structs import replace

from celery_budget.client.copy import carried
from celery_budget.headers import HEADER, Stamp, write
from celery_budget.producer.stamp import fields
from celery_budget.worker.moves import HANDED_ON

if TYPE_CHECKING:
    from celery.canvas import Signature

    from celery_budget.client.copy import Target


def publish_again(signature: Signature, task_id: str, target: Target, known: int) -> int:
    """Publish a copy of a task and tell its move number.

    Args:
        signature: The task's own call.
        task_id: The id of the task and of the copy.
        target: Where the copy goes.
        known: Highest version the workers know of.
    """
    # The message that cannot be reached may have been moved before, by how much nobody knows:
    # seconds since 1970 are above any count of moves, and stay below 2**31 until 2038.
    number = max(known % HANDED_ON + 1, int(time()))

    def count(
        headers: dict[str, object] | None = None, body: object = None, **_signal: object
    ) -> None:
        stamp = None if headers is None else carried(headers)
        is_copy = fields(headers, body).get("id") == task_id
        if headers is not None and is_copy and stamp is not None:
            headers[HEADER] = write(replace(stamp, move=number))

    before_task_publish.connect(count, weak=False)
    try:
        signature.apply_async(
            task_id=task_id,
            queue=target.queue,
            headers={
                **(signature.options.get("headers") or {}),
                # As a retry brings it: no option of a caller, so `caller_options` does not bind it.
                HEADER: write(Stamp(target.band)),
            },
        )
    finally:
        before_task_publish.disconnect(count)
    return number
