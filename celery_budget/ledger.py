"""Which ledger an app's budgets are kept in, by its settings."""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING

from celery.exceptions import ImproperlyConfigured

from celery_budget.stores.protocols import Stores

if TYPE_CHECKING:
    from celery import Celery

#: The settings; `CELERY_BUDGET_...` in Django.
URL = "budget_ledger_url"
NAMESPACE = "budget_namespace"

_REDIS = ("redis://", "rediss://", "unix://", "redis+socket://")
#: The URL of a ledger that each worker keeps by itself.
MEMORY = "memory://"


def stores(app: Celery, lease_us: int) -> Stores:
    """Make the ledger of an app and what is kept beside it; they connect when first used.

    Args:
        app: Its setting `budget_ledger_url` decides, else its broker if that is Redis.
        lease_us: Length of a lease, microseconds.

    Raises:
        ImproperlyConfigured: no setting names one, or it names what is none.
    """
    url = ledger_url(app)
    if url == MEMORY:
        from celery_budget.stores.memory import MemoryLedger  # noqa: PLC0415 - rarely used
        from celery_budget.stores.memory_arrivals import MemoryArrivals  # noqa: PLC0415
        from celery_budget.stores.memory_profiles import MemoryProfiles  # noqa: PLC0415

        ledger = MemoryLedger(now_us, lease_us)
        return Stores(ledger, MemoryProfiles(now_us), MemoryArrivals(now_us))
    from celery_budget.stores.redis.arrivals import RedisArrivals  # noqa: PLC0415
    from celery_budget.stores.redis.connect import connect  # noqa: PLC0415
    from celery_budget.stores.redis.ledger import RedisLedger  # noqa: PLC0415
    from celery_budget.stores.redis.profiles import RedisProfiles  # noqa: PLC0415

    client = connect(url)
    namespace = app.conf.get(NAMESPACE) or "default"
    return Stores(
        RedisLedger(client, namespace, lease_us),
        RedisProfiles(client, namespace),
        RedisArrivals(client, namespace),
    )


def now_us() -> int:
    """Tell the time of this machine, microseconds since 1970."""
    return time_ns() // 1_000


def store_url(url: str) -> str | None:
    """Write a URL as stores take it; None when it is not one of a store."""
    if url.startswith(_REDIS) or url == MEMORY:
        return url.replace("redis+socket://", "unix://", 1)
    return None


def ledger_url(app: Celery) -> str:
    """Find the URL of an app's ledger.

    Raises:
        ImproperlyConfigured: no setting names one, or it names what is none.
    """
    named = app.conf.get(URL)
    url: str = named or app.connection_for_read().as_uri(include_password=True)
    found = store_url(url)
    if found is not None:
        return found
    if named:
        scheme = url.partition("://")[0]
        raise ImproperlyConfigured(
            f"{URL} begins with {scheme!r}: give the URL of a Redis server, such as "
            f"redis://localhost:6379/1, or {MEMORY!r} for budgets of each worker by itself"
        )
    raise ImproperlyConfigured(
        "budgets, envelopes and what operators change while workers run need a ledger, and the "
        f"broker is not Redis: set {URL} to the URL of a Redis server, such as "
        f"redis://localhost:6379/1, or to {MEMORY!r} for budgets of each worker by itself"
    )
