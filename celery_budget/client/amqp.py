"""Tasks that wait in RabbitMQ: a queue shows its messages only to who takes them.

So finding is a guess from the queues' depths, and moving takes messages until the task's own
one comes, publishes the copy, acknowledges the original and returns the rest.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from celery_budget.client.copy import Target, carried, moved_headers
from celery_budget.client.search import MOST_S, Announce, Choose, Found, Search, search_by_depth
from celery_budget.errors import MoveError
from celery_budget.worker.moves import version

if TYPE_CHECKING:
    from celery import Celery

    from celery_budget.policy.model import Policy

#: Messages taken from one queue. They are out of the workers' reach meanwhile and come back with
#: the redelivered flag: measured on loopback, 1,000 are back after 0.5 s.
MOST_TAKEN = 1_000


class AmqpQueues:
    """The queues of one app on RabbitMQ."""

    takes = True

    def __init__(self, app: Celery, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    def find(self, task_id: str) -> Search:  # noqa: ARG002 - the id cannot be looked for
        """Tell only whether the task can be in a queue at all: whether any message waits."""
        return search_by_depth(self._app)

    def move(
        self, task_id: str, choose: Choose, known: int, announce: Announce
    ) -> tuple[Found, Target, int] | Search:
        """Take messages until the task's own one comes, publish the copy, return the rest.

        Takes at most 1,000 messages of a queue and no longer than 5 s. They return to their
        places with the redelivered flag. The copy is confirmed by the broker and announced
        before the original is acknowledged: if this process dies in between, workers meet
        both and drop the older one.

        Raises:
            MoveError: the app has quorum queues; they count each return as a failed delivery.
        """
        quorum = [name for name, queue in self._app.amqp.queues.items() if _is_quorum(queue)]
        if quorum:
            raise MoveError(
                task_id,
                f"no worker holds it, and taking messages out of quorum queues "
                f"({', '.join(quorum)}) to find it would count against their delivery limit; "
                "give signature= to publish it anew",
            )
        give_up = monotonic() + MOST_S
        is_complete = True
        places: list[str] = []
        with self._app.connection_for_write(
            transport_options={"confirm_publish": True}
        ) as connection:
            for name in list(self._app.amqp.queues):
                places.append(f"queue {name}")
                # Closing the channel gives back whatever was not acknowledged.
                with connection.channel() as channel:
                    try:
                        message, is_end = self._take(channel, name, task_id, known, give_up)
                    except connection.channel_errors:
                        continue  # no such queue
                    is_complete = is_complete and is_end
                    if message is None:
                        continue
                    found = self._found(message, name)
                    target = choose(found.band)
                    number = found.next_move(known)
                    self._publish(channel, message, task_id, target, number)
                    announce(version(_headers(message), number))
                    channel.basic_ack(message.delivery_tag)
                    return found, target, number
        return Search(None, is_complete, tuple(places))

    def _take(
        self, channel: Any, name: str, task_id: str, known: int, give_up: float
    ) -> tuple[Any, bool]:
        """Take messages of a queue up to the task's; tell also whether the queue's end came."""
        for _ in range(MOST_TAKEN):
            message = channel.basic_get(name, no_ack=False)
            if message is None:
                return None, True
            ids = (_headers(message).get("id"), message.properties.get("correlation_id"))
            if task_id in ids and self._found(message, name).version >= known:
                return message, True
            if monotonic() > give_up:
                break
        return None, False

    def _publish(
        self, channel: Any, message: Any, task_id: str, target: Target, number: int
    ) -> None:
        self._app.amqp.queues[target.queue](channel).declare()
        headers = moved_headers(
            self._app,
            self._policy,
            _headers(message),
            task_id=task_id,
            band=target.band,
            number=number,
        )
        # Body and properties as they are: a Producer would compress again what is compressed,
        # and read the expiration, which is in milliseconds, as seconds.
        properties = {
            name: value
            for name, value in message.properties.items()
            if name not in ("application_headers", "content_type", "content_encoding", "priority")
        }
        copy = channel.prepare_message(
            message.body,
            priority=message.properties.get("priority"),
            content_type=message.properties.get("content_type"),
            content_encoding=message.properties.get("content_encoding"),
            headers=headers,
            properties=properties,
        )
        channel.basic_publish(copy, exchange="", routing_key=target.queue, mandatory=True)

    def _found(self, message: Any, queue: str) -> Found:
        headers = _headers(message)
        stamp = carried(headers)
        band = self._policy.owner(queue)
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


def _headers(message: Any) -> dict[str, Any]:
    return message.properties.get("application_headers") or {}


def _is_quorum(queue: Any) -> bool:
    return (queue.queue_arguments or {}).get("x-queue-type") == "quorum"
