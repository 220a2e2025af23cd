"""Which ledger an app's settings name; none of them is connected to."""

from __future__ import annotations

import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured

from celery_budget.core.exchange import Report
from celery_budget.ledger import ledger_url, stores
from celery_budget.stores.memory import MemoryLedger
from celery_budget.stores.redis.arrivals import RedisArrivals
from celery_budget.stores.redis.ledger import RedisLedger
from celery_budget.stores.redis.profiles import RedisProfiles


def app(broker: str, **settings: object) -> Celery:
    """Make an app that connects to nothing."""
    made = Celery("settings", broker=broker, set_as_current=False)
    made.conf.update(settings)
    return made


def test_the_setting_goes_before_the_broker() -> None:
    """A busy broker need not keep the books as well."""
    made = app("redis://broker:6379/0", budget_ledger_url="redis://books:6379/3")

    assert "redis://books:6379/3" == ledger_url(made)


@pytest.mark.parametrize(
    ("broker", "url"),
    [
        ("redis://:secret@broker:6379/2", "redis://:secret@broker:6379/2"),
        ("rediss://broker:6379/2", "rediss://broker:6379/2"),
    ],
)
def test_a_redis_broker_is_the_ledger_where_nothing_is_said(broker: str, url: str) -> None:
    """With its password, or nobody could connect."""
    assert url == ledger_url(app(broker))


def test_a_socket_of_redis_is_written_as_kombu_or_as_redis_does() -> None:
    """Both spellings are in people's settings."""
    for url in ("redis+socket:///run/redis.sock", "unix:///run/redis.sock"):
        assert "unix:///run/redis.sock" == ledger_url(app("memory://", budget_ledger_url=url))


def test_another_broker_needs_the_setting() -> None:
    """The text says what to set; a guess would count each fleet by itself."""
    with pytest.raises(ImproperlyConfigured, match="broker is not Redis: set budget_ledger_url"):
        ledger_url(app("amqp://guest:secret@broker//"))


def test_what_is_no_ledger_is_refused_without_its_password() -> None:
    """Errors are logged."""
    made = app("redis://broker", budget_ledger_url="postgresql://me:secret@books/budget")

    with pytest.raises(ImproperlyConfigured, match="begins with 'postgresql'") as raised:
        ledger_url(made)
    assert "secret" not in str(raised.value)


def test_memory_is_a_ledger_for_one_worker() -> None:
    """It answers without any server."""
    made = stores(app("amqp://broker", budget_ledger_url="memory://"), 5_000_000)
    answer = made.ledger.exchange(Report("worker", 1, "", 50_000))

    assert isinstance(made.ledger, MemoryLedger)
    assert {} == made.profiles.profiles()
    assert 5_000_000 == answer.until - answer.now


def test_a_namespace_keeps_fleets_apart() -> None:
    """Two fleets of one server have accounts of the same names."""
    made = [
        stores(app("redis://nowhere:1", budget_namespace=name), 5_000_000)
        for name in (None, "shop", "mail")
    ]

    for ledger, profiles, arrivals in made:
        assert isinstance(ledger, RedisLedger)
        assert isinstance(profiles, RedisProfiles)
        assert isinstance(arrivals, RedisArrivals)
        # A worker has one connection for all.
        assert ledger._client is profiles._client is arrivals._client
        assert ledger._prefix == profiles._prefix == arrivals._prefix
    assert 3 == len({ledger._prefix for ledger, *_ in made})  # type: ignore[attr-defined]
