"""Which state store an app's settings name; none of them is connected to."""

from __future__ import annotations

import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured

from celery_budget.state import state, state_url
from celery_budget.stores.memory_checkpoints import MemoryCheckpoints
from celery_budget.stores.redis.checkpoints import RedisCheckpoints


def app(broker: str, **settings: object) -> Celery:
    """Make an app that connects to nothing."""
    made = Celery("settings", broker=broker, set_as_current=False)
    made.conf.update(settings)
    return made


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (
            {"budget_state_url": "redis://state/3", "budget_ledger_url": "redis://x"},
            "redis://state/3",
        ),
        ({"budget_state_url": "redis+socket:///run/redis"}, "unix:///run/redis"),
        ({"budget_ledger_url": "redis://books/1"}, "redis://books/1"),
        ({}, "redis://broker:6379/0"),
    ],
)
def test_the_setting_goes_before_the_ledger_and_that_before_the_broker(
    settings: dict[str, object], url: str
) -> None:
    """Progress may have to outlive what the books may lose."""
    assert url == state_url(app("redis://broker:6379/0", **settings))


def test_another_broker_needs_the_setting() -> None:
    """The text says what to set."""
    with pytest.raises(ImproperlyConfigured, match="checkpoints need a state store: set budget_st"):
        state_url(app("amqp://guest:secret@broker//"))


def test_what_is_no_store_is_refused_without_its_password() -> None:
    """Errors are logged."""
    made = app("redis://broker", budget_state_url="mongodb://me:secret@docs/state")
    with pytest.raises(ImproperlyConfigured, match="begins with 'mongodb'") as raised:
        state_url(made)

    assert "secret" not in str(raised.value)


def test_the_store_is_what_the_url_says() -> None:
    """In memory for one process, else on Redis; neither connects here."""
    alone = state(app("memory://", budget_state_url="memory://"))
    shared = state(app("redis://nobody:1"))

    assert isinstance(alone.checkpoints, MemoryCheckpoints)
    assert not alone.is_shared
    assert isinstance(shared.checkpoints, RedisCheckpoints)
    assert shared.is_shared
