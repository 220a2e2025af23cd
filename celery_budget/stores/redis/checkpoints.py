"""Checkpoints on Redis: a string for each task, one command a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import msgpack

from celery_budget.errors import StateUnavailable
from celery_budget.stores.redis.connect import prefix, translated
from celery_budget.stores.state import KEPT_S, Checkpoint

if TYPE_CHECKING:
    from redis import Redis


class RedisCheckpoints:
    """Checkpoints as packed strings that expire.

    Args:
        client: Of a server of any version that Celery takes.
        namespace: Keeps fleets on one server apart.
    """

    def __init__(self, client: Redis, namespace: str) -> None:
        self._client = client
        self._prefix = f"{prefix(namespace)}checkpoint:"

    def save(self, task_id: str, checkpoint: Checkpoint) -> None:
        """Replace the one before; see `CheckpointStore.save`."""
        with translated("save", StateUnavailable):
            self._client.set(self._prefix + task_id, msgpack.encode(checkpoint), ex=KEPT_S)

    def load(self, task_id: str) -> Checkpoint | None:
        """Look it up; see `CheckpointStore.load`."""
        with translated("load", StateUnavailable):
            packed: Any = self._client.get(self._prefix + task_id)
        return None if packed is None else msgpack.decode(packed, type=Checkpoint)

    def forget(self, task_id: str) -> None:
        """Drop it; see `CheckpointStore.forget`."""
        with translated("forget", StateUnavailable):
            self._client.delete(self._prefix + task_id)
