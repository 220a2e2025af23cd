"""Every undocumented attribute of Celery, kombu and py-amqp that the package touches.

Nothing else in the package reaches past a documented interface. Each function names what it
relies on; `tests/compat/test_seams.py` fails when a release moves one of them.
"""

from celery_budget.worker.seams.amqp import (
    acknowledge_directly,
    read_in_bulk,
    send_cancel,
    send_consume,
    send_prefetch,
)
from celery_budget.worker.seams.celery import (
    MINGLE,
    MINGLED,
    child_index,
    fetched,
    flush,
    forget,
    is_accepted,
    is_terminating,
    most_slots,
    newest_greenlet,
    on_mingle,
    parked,
    persistence,
    pool_kind,
    process_task,
    rate_limited,
    revoked_ids,
    scheduled,
    size,
)
from celery_budget.worker.seams.redis import (
    gate,
    reclaim,
    redis_client,
    redis_list,
    redis_lists,
    redis_unacknowledged,
    return_to_front,
    reuse_client,
)

__all__ = [
    "MINGLE",
    "MINGLED",
    "acknowledge_directly",
    "child_index",
    "fetched",
    "flush",
    "forget",
    "gate",
    "is_accepted",
    "is_terminating",
    "most_slots",
    "newest_greenlet",
    "on_mingle",
    "parked",
    "persistence",
    "pool_kind",
    "process_task",
    "rate_limited",
    "read_in_bulk",
    "reclaim",
    "redis_client",
    "redis_list",
    "redis_lists",
    "redis_unacknowledged",
    "return_to_front",
    "reuse_client",
    "revoked_ids",
    "scheduled",
    "send_cancel",
    "send_consume",
    "send_prefetch",
    "size",
]
