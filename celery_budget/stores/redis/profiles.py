"""The fleet's profiles on Redis: one script call a lesson, all keys in the ledger's slot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct, unpack_from
from typing import TYPE_CHECKING, Any

from msgspec import msgpack

from celery_budget.core.lesson import Lesson
from celery_budget.core.sketch import Profile, Sketch
from celery_budget.stores.redis.connect import prefix, text, translated
from celery_budget.stores.redis.scripts import Script

if TYPE_CHECKING:
    from redis import Redis

#: Profiles that one command reads, so that it keeps the server busy for a moment only.
MOST_READ = 256

_encode = msgpack.Encoder().encode
#: Of a kept sketch: count, total, exceeded, aside, first bucket; see `lua/learn.lua`.
_HEAD = Struct(">dIIIH")
_SIZE = Struct(">I")
#: Place of the first resource in a profile, after the day that the index has.
_FIRST = 4


class RedisProfiles:
    """Profiles as packed strings, each lesson one script.

    Args:
        client: Of a server of version 6.2 or newer.
        namespace: Keeps fleets on one server apart.
    """

    def __init__(self, client: Redis, namespace: str) -> None:
        self._client = client
        self._prefix = prefix(namespace)
        self._learn = Script("learn")

    def _keys(self, tasks: Sequence[str]) -> list[str]:
        return [f"{self._prefix}profile:{task}" for task in tasks]

    def learn(self, lesson: Lesson) -> dict[str, Profile]:
        """Take a lesson in; see `ProfileStore.learn`."""
        keys = [
            f"{self._prefix}lessons:{lesson.worker}",
            f"{self._prefix}profiles",
            *self._keys(lesson.tasks),
        ]
        told = [_flat(task, profile) for task, profile in lesson.told]
        with translated("learn"):
            packed: Any = self._learn(self._client, keys, [_encode((lesson.number, told))])
        return _profiles(lesson.tasks, packed)

    def profiles(self, names: Sequence[str] | None = None, most: int = 1_000) -> dict[str, Profile]:
        """Look profiles up; see `ProfileStore.profiles`."""
        found: dict[str, Profile] = {}
        with translated("profiles"):
            if names is None:
                listed: Any = self._client.zrevrange(f"{self._prefix}profiles", 0, most - 1)
                names = [text(name) for name in listed]
            names = names[:most]
            for first in range(0, len(names), MOST_READ):
                some = names[first : first + MOST_READ]
                packed: Any = self._client.mget(self._keys(some))
                found.update(_profiles(some, packed))
        return found


def _flat(task: str, profile: Profile) -> list[Any]:
    flat: list[Any] = [task]
    for resource, sketch in profile.items():
        flat += (resource, sketch.flat())
    return flat


def _profiles(tasks: Sequence[str], packed: Sequence[bytes | None]) -> dict[str, Profile]:
    return {
        task: dict(_read(value))
        for task, value in zip(tasks, packed, strict=True)
        if value is not None
    }


def _read(packed: bytes) -> Iterator[tuple[str, Sketch]]:
    end = _FIRST
    while end < len(packed):
        name = end + 1
        size = name + packed[end]
        sketch = size + _SIZE.size
        end = sketch + _SIZE.unpack_from(packed, size)[0]
        yield packed[name:size].decode(), _sketch(packed[sketch:end])


def _sketch(kept: bytes) -> Sketch:
    count, total, exceeded, aside, first = _HEAD.unpack_from(kept)
    size = (len(kept) - _HEAD.size) // 4
    weights = unpack_from(f">{size}I", kept, _HEAD.size)
    buckets = {bucket: weight for bucket, weight in enumerate(weights, first) if weight}
    return Sketch(int(count), total, exceeded, aside, buckets)
