"""Which ledger an app's budgets are kept in, by its settings."""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING

from celery.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from celery import Celery

    from celery_budget.stores.protocols import Ledger

#: The settings; `CELERY_BUDGET_...` in Django.
URL = "budget_ledger_url"
NAMESPACE = "budget_namespace"

_REDIS = ("redis://", "rediss://", "unix://", "redis+socket://")
_MEMORY = "memory://"


def ledger(app: Celery, lease_us: int) -> Ledger:
    """Make the ledger of an app; it connects when it is first used.

    Args:
        app: Its setting `budget_ledger_url` decides, else its broker if that is Redis.
        lease_us: Length of a lease, microseconds.

    Raises:
        ImproperlyConfigured: no setting names one, or it names what is none.
    """
    url = ledger_url(app)
    if url == _MEMORY:
        from celery_budget.stores.memory import MemoryLedger  # noqa: PLC0415 - rarely used

        return MemoryLedger(lambda: time_ns() // 1_000, lease_us)
    from celery_budget.stores.redis.connect import connect  # noqa: PLC0415
    from celery_budget.stores.redis.ledger import RedisLedger  # noqa: PLC0415

    return RedisLedger(connect(url), app.conf.get(NAMESPACE) or "default", lease_us)


def ledger_url(app: Celery) -> str:
    """Find the URL of an app's ledger.

    Raises:
        ImproperlyConfigured: no setting names one, or it names what is none.
    """
    named = app.conf.get(URL)
    url: str = named or app.connection_for_read().as_uri(include_password=True)
    if url.startswith(_REDIS) or url == _MEMORY:
        return url.replace("redis+socket://", "unix://", 1)
    if named:
        scheme = url.partition("://")[0]
        raise ImproperlyConfigured(
            f"{URL} begins with {scheme!r}: give the URL of a Redis server, such as "
            f"redis://localhost:6379/1, or {_MEMORY!r} for budgets of each worker by itself"
        )
    raise ImproperlyConfigured(
        f"the policy has budgets, and the broker is not Redis: set {URL} to the URL of a Redis "
        f"server, such as redis://localhost:6379/1, or to {_MEMORY!r} for budgets of each worker "
        "by itself"
    )
