"""Tasks that wait in Redis lists: found without taking them, moved in one step.

A list holds messages as kombu writes them; a worker takes from its right end. Scripts see one
part of a list at a time, so that Redis serves others in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

from celery_budget.client.copy import Target, carried, moved_headers
from celery_budget.client.search import MOST_S, Announce, Choose, Found, Search
from celery_budget.worker import seams
from celery_budget.worker.moves import version

if TYPE_CHECKING:
    from celery import Celery

    from celery_budget.policy.model import Policy

#: Messages one search looks at. Measured with messages of 2 kB on two busy cores (2026-11): 1.0 to
#: 1.7 s for 100,000.
MOST_MESSAGES = 250_000

#: Messages Redis looks at in one script call: 0.8 ms in that run, for which its other clients
#: wait; and 100 of 1 MB fit its memory.
PART = 100


@dataclass(frozen=True, slots=True)
class Element:
    """One message as it stands in a list."""

    queue: str
    key: str
    text: bytes
    payload: dict[str, Any]
    found: Found


class Bounds:
    """How much of the broker a search has looked at, and may still."""

    def __init__(self) -> None:
        self.left = MOST_MESSAGES
        self.give_up = monotonic() + MOST_S
        self.places: list[str] = []

    @property
    def are_passed(self) -> bool:
        """Whether the search must end here."""
        return self.left <= 0 or monotonic() > self.give_up


class PolledQueues:
    """The queues of one app on Redis."""

    takes = False

    def __init__(self, app: Celery, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    def find(self, task_id: str) -> Search:
        """Search the queues, then what workers have fetched and not acknowledged.

        Looks at no more than 250,000 messages and no longer than 5 s.
        """
        bounds = Bounds()
        with self._app.connection_or_acquire() as connection, connection.channel() as channel:
            for element in self._elements(channel, task_id, bounds):
                return Search(element.found, is_complete=True, places=tuple(bounds.places))
            found = self._unacknowledged(channel, task_id, bounds)
        return Search(found, is_complete=not bounds.are_passed, places=tuple(bounds.places))

    def move(
        self, task_id: str, choose: Choose, known: int, announce: Announce
    ) -> tuple[Found, Target, int] | Search:
        """Replace a waiting message by its copy in another queue, atomically.

        At no moment is the task in no queue or in two. Bounded as `find`.
        """
        bounds = Bounds()
        with self._app.connection_or_acquire() as connection, connection.channel() as channel:
            client = seams.redis_client(channel)
            for element in self._elements(channel, task_id, bounds):
                if element.found.version < known:
                    continue
                target = choose(element.found.band)
                number = element.found.next_move(known)
                copy = self._copy(element.payload, task_id, target, number)
                to = seams.redis_list(channel, target.queue, copy)
                texts = (element.text, dumps(copy))
                if client.eval(_script("queue_move"), 2, element.key, to, *texts):
                    announce(version(element.payload["headers"], number))
                    return element.found, target, number
        return Search(None, is_complete=not bounds.are_passed, places=tuple(bounds.places))

    def _copy(
        self, payload: dict[str, Any], task_id: str, target: Target, number: int
    ) -> dict[str, Any]:
        properties = payload["properties"]
        return {
            **payload,
            "headers": moved_headers(
                self._app,
                self._policy,
                payload["headers"],
                task_id=task_id,
                band=target.band,
                number=number,
            ),
            "properties": {
                **properties,
                # Retries and redeliveries go where the copy went.
                "delivery_info": {
                    **properties["delivery_info"],
                    "exchange": "",
                    "routing_key": target.queue,
                },
                # A worker may still hold a redelivered twin under the old tag.
                "delivery_tag": str(uuid4()),
            },
        }

    def _elements(self, channel: Any, task_id: str, bounds: Bounds) -> Iterator[Element]:
        """Give a task's messages in the queues, until the bounds are passed.

        From the left end on: a worker that takes from the right end meanwhile shifts nothing
        under the search.
        """
        client = seams.redis_client(channel)
        text = _as_written(task_id)
        for queue in list(self._app.amqp.queues):
            bounds.places.append(f"queue {queue}")
            for key in seams.redis_lists(channel, queue):
                first, length = 0, 1
                while first < length:
                    if bounds.are_passed:
                        return
                    length, *matches = client.eval(
                        _script("queue_find"), 1, key, first, first + PART - 1, text
                    )
                    first += PART
                    bounds.left -= min(PART, length)
                    for match in matches:
                        payload = loads(bytes_to_str(match))
                        found = self._found(payload, task_id, queue)
                        if found is not None:
                            yield Element(queue, key, match, payload, found)

    def _unacknowledged(self, channel: Any, task_id: str, bounds: Bounds) -> Found | None:
        client = seams.redis_client(channel)
        text = _as_written(task_id).encode()
        bounds.places.append("unacknowledged messages")
        for _tag, value in client.hscan_iter(seams.redis_unacknowledged(channel), count=PART):
            if bounds.are_passed:
                return None
            bounds.left -= 1
            if text in value:
                payload, _exchange, _routing_key = loads(bytes_to_str(value))
                found = self._found(payload, task_id, None)
                if found is not None:
                    return found
        return None

    def _found(self, payload: dict[str, Any], task_id: str, queue: str | None) -> Found | None:
        headers = payload["headers"]
        if task_id not in (headers.get("id"), payload["properties"].get("correlation_id")):
            return None  # another task's message names it as its parent
        stamp = carried(headers)
        band = None if queue is None else self._policy.owner(queue)
        if stamp is not None and self._policy.band(stamp.band) is not None:
            band = stamp.band
        return Found(
            queue,
            headers.get("task", ""),
            band,
            stamp.at if stamp else 0.0,
            stamp.move if stamp else 0,
            version(headers, stamp.move if stamp else 0),
        )


def _as_written(task_id: str) -> str:
    """Write an id as it stands inside a message."""
    return str(dumps(task_id))[1:-1]


@cache
def _script(name: str) -> str:
    return files("celery_budget.client").joinpath("lua", f"{name}.lua").read_text("utf-8")
