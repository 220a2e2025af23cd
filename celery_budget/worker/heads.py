"""Heads: the message that goes next in each list of a Redis broker, and how old it is.

Read without taking it, and only its header: what else is in it is passed over and told to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from celery_budget.errors import HeaderError
from celery_budget.headers import read
from celery_budget.worker import seams

#: Queues whose heads one look reads: with the largest that it reads and four priorities, 16 MiB
#: come, and mostly some 10 kB.
MOST_HEADS = 64

#: A larger message tells no age. Reading one of this size takes 0.2 ms at most (two shared cores,
#: 2026-11), in which the worker's loop waits.
MOST_BYTES = 65_536

#: A queue with a head that is too large is not asked again for so long, seconds: the message comes
#: over the network each time.
LARGE_S = 60.0


class _Headers(Struct):
    budget: str
    eta: str | None = None
    redelivered: bool = False


class _Message(Struct):
    headers: _Headers


_decode = Decoder(_Message).decode


class Heads:
    """Reads the age of what goes next in queues, again and again."""

    def __init__(self) -> None:
        #: Queues with a large head, and until when they are left alone, monotonic seconds.
        self._large: dict[str, float] = {}

    def oldest(self, channel: Any, queues: Mapping[str, str]) -> dict[str, float]:
        """Tell since when the oldest message of each band waits, Unix seconds, where one says so.

        Args:
            channel: Of kombu's Redis transport.
            queues: Those that have messages, and their bands.
        """
        now = monotonic()
        self._large = {name: until for name, until in self._large.items() if now < until}
        asked = [name for name in queues if name not in self._large]
        oldest: dict[str, float] = {}
        for name, head in seams.redis_heads(channel, asked[:MOST_HEADS]):
            if len(head) > MOST_BYTES:
                self._large[name] = now + LARGE_S
                continue
            band = queues[name]
            at = published(head, band)
            if at is not None:
                oldest[band] = min(at, oldest.get(band, at))
        return oldest


def published(head: bytes, band: str) -> float | None:
    """Tell since when a message waits to be started, Unix seconds; None where it does not say.

    One with an ETA is not meant to start yet. One that was delivered before may have run since.

    Args:
        head: As it lies in the list, of `MOST_BYTES` at most.
        band: That owns the queue; a ticket of another one waits for that band's slots.
    """
    try:
        headers = _decode(head).headers
        stamp = read(headers.budget)
    except (DecodeError, RecursionError, HeaderError):
        return None
    if headers.eta is not None or headers.redelivered or stamp.band != band:
        return None
    return stamp.at or None
