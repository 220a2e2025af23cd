"""Connections to Redis for the stores, and what their failures mean.

Errors of the client are translated here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from celery_budget.errors import LedgerUnavailable, StateUnavailable

if TYPE_CHECKING:
    from redis import Redis

#: How long to wait for a connection and for an answer, seconds. An exchange takes a few
#: milliseconds; a server that needs longer than this is as good as gone, and a lease is longer.
TIMEOUT_S = 1.0


def prefix(namespace: str) -> str:
    """Tell how all keys of a fleet begin; the braces make a cluster keep them in one slot."""
    return f"{{celery-budget:{namespace}}}:"


def connect(url: str) -> Redis:
    """Make a client; it connects when it is first used.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
    """
    from redis import Redis  # noqa: PLC0415 - only where Redis is used
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    return Redis.from_url(
        url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        # A report may be repeated, but by whoever sent it: only he knows whether it still counts.
        retry=Retry(NoBackoff(), 0),
    )


@contextmanager
def translated(
    operation: str, unavailable: type[LedgerUnavailable | StateUnavailable] = LedgerUnavailable
) -> Iterator[None]:
    """Turn the client's errors into ours.

    Raises:
        LedgerUnavailable: the server cannot be reached, does not answer in time, or refuses;
            or another error that says so.
    """
    from redis.exceptions import RedisError  # noqa: PLC0415

    try:
        yield
    except (RedisError, OSError) as error:
        raise unavailable(operation, str(error)) from error


def text(value: str | bytes) -> str:
    """Read a text that a client may or may not have decoded."""
    return value.decode() if isinstance(value, bytes) else value
