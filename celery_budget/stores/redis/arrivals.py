"""The fleet's arrivals on Redis: one script call a tally, all keys in the ledger's slot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from struct import Struct, unpack_from
from struct import error as StructError  # noqa: N812 - an exception, whatever its name
from typing import TYPE_CHECKING, Any

from msgspec import msgpack

from celery_budget.core.season import RECENT, WEEK, WEEKS, Row, Rows
from celery_budget.core.tally import Recent, Tally
from celery_budget.errors import LedgerUnavailable
from celery_budget.stores.redis.connect import prefix, text, translated
from celery_budget.stores.redis.scripts import Script

if TYPE_CHECKING:
    from redis import Redis

_encode = msgpack.Encoder().encode
#: Of a kept row: the slot time, before its counts; see `lua/count.lua`.
_HEAD = Struct(">d")


class RedisArrivals:
    """Counts as packed strings in a hash for each band and week, each tally one script.

    Args:
        client: Of a server of version 6.2 or newer.
        namespace: Keeps fleets on one server apart.
    """

    def __init__(self, client: Redis, namespace: str) -> None:
        self._client = client
        self._prefix = prefix(namespace)
        self._count = Script("count")

    def _key(self, week: int, band: str) -> str:
        return f"{self._prefix}arrivals:{week}:{band}"

    def count(self, tally: Tally) -> dict[str, Recent]:
        """Take a tally in; see `ArrivalStore.count`."""
        week, place = divmod(tally.bin, WEEK)
        first = max(0, place - RECENT)
        # Those of this week are answered, so they are there and come first.
        hashes = dict.fromkeys((week, band) for band in tally.bands)
        hashes.update(dict.fromkeys((entry.bin // WEEK, entry.band) for entry in tally.entries))
        places = {key: number for number, key in enumerate(hashes, 1)}
        told = [
            (
                places[entry.bin // WEEK, entry.band],
                entry.task,
                entry.bin % WEEK,
                entry.arrivals,
                entry.busy_us,
            )
            for entry in tally.entries
        ]
        keys = [
            f"{self._prefix}tallies:{tally.worker}",
            *(f"{self._prefix}crew:{band}" for band in tally.bands),
            *(self._key(*key) for key in hashes),
        ]
        arguments = (tally.number, tally.worker, tally.slots, len(tally.bands), first, told)
        with translated("count"):
            packed: Any = self._count(self._client, keys, [_encode(arguments)])
        return {
            band: Recent(_crew(crew), week * WEEK + first, _rows(rows))
            for band, (crew, rows) in zip(tally.bands, packed, strict=True)
        }

    def weeks(self, band: str, newest: int) -> dict[int, Rows]:
        """Look weeks up; see `ArrivalStore.weeks`."""
        found: dict[int, Rows] = {}
        with translated("arrivals"):
            # One command a week, so that each keeps the server busy for a moment only.
            for week in range(newest - WEEKS, newest + 1):
                kept: Any = self._client.hgetall(self._key(week, band))
                if kept:
                    try:
                        found[week] = _rows(list(chain.from_iterable(kept.items())))
                    except StructError as error:
                        raise LedgerUnavailable("arrivals", f"not as kept: {error}") from error
        return found


def _pairs(flat: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        yield text(name), value


def _crew(flat: Sequence[Any]) -> dict[str, int]:
    return {worker: int(slots) for worker, slots in _pairs(flat)}


def _rows(flat: Sequence[Any]) -> Rows:
    return {task: _row(packed) for task, packed in _pairs(flat)}


def _row(packed: bytes) -> Row:
    size = (len(packed) - _HEAD.size) // 4
    counts = list(unpack_from(f">{size}I", packed, _HEAD.size))
    return Row(int(_HEAD.unpack_from(packed)[0]), counts)
