"""Where an app keeps what has to outlive its workers, by its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery.exceptions import ImproperlyConfigured

from celery_budget.ledger import MEMORY, NAMESPACE, ledger_url, now_us, store_url
from celery_budget.stores.state import State

if TYPE_CHECKING:
    from celery import Celery


#: The setting; `CELERY_BUDGET_STATE_URL` in Django.
URL = "budget_state_url"


def state(app: Celery) -> State:
    """Make the state store of an app; it connects when first used.

    Args:
        app: Its setting `budget_state_url` decides, else where its ledger is.

    Raises:
        ImproperlyConfigured: no setting names one, or it names what is none.
    """
    url = state_url(app)
    if url == MEMORY:
        from celery_budget.stores.memory_checkpoints import MemoryCheckpoints  # noqa: PLC0415

        return State(False, MemoryCheckpoints(now_us))
    from celery_budget.stores.redis.checkpoints import RedisCheckpoints  # noqa: PLC0415
    from celery_budget.stores.redis.connect import connect  # noqa: PLC0415

    client, namespace = connect(url), app.conf.get(NAMESPACE) or "default"
    return State(True, RedisCheckpoints(client, namespace))


def state_url(app: Celery) -> str:
    """Find the URL of an app's state store.

    Raises:
        ImproperlyConfigured: no setting names one, or it names what is none.
    """
    named = app.conf.get(URL)
    if not named:
        try:
            return ledger_url(app)
        except ImproperlyConfigured:
            raise ImproperlyConfigured(
                f"checkpoints need a state store: set {URL} to the URL of a Redis server, such as "
                "redis://localhost:6379/1"
            ) from None
    found = store_url(named)
    if found is None:
        scheme = named.partition("://")[0]
        raise ImproperlyConfigured(
            f"{URL} begins with {scheme!r}: give the URL of a Redis server, such as "
            f"redis://localhost:6379/1, or {MEMORY!r} for checkpoints of each process by itself"
        )
    return found
