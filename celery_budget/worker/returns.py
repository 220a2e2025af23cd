"""Returns: messages of tasks that left their worker go back to the broker, to be run again.

To the front of their queue, wherever that is possible. Nothing is lost on the way: a message whose
connection breaks is with the broker already, or is sent again over the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger

from celery_budget.worker import seams

if TYPE_CHECKING:
    from celery_budget.worker.intake import Held

logger = get_logger(__name__)

#: A quorum queue drops a message that was returned to it too often, after 20 times unless it says
#: otherwise (RabbitMQ 4). From here on a new copy is sent instead, with a count of its own.
MOST_RETURNS = 8


class Returns:
    """The way back to the broker of one worker.

    Args:
        errors: What a broken connection or channel raises.
    """

    def __init__(self, errors: tuple[type[Exception], ...]) -> None:
        self._errors = errors
        self._channel: Any = None
        #: Acknowledged, and with nobody until there is a connection again.
        self._stranded: list[Held] = []

    def give_back(self, held: Held) -> None:
        """Return the message of a task that has left; it has no slot any more."""
        logger.debug("Task %s[%s] has left its slot.", held.task, held.id)
        self._return(held, has_begun=True)

    def hand_back(self, held: Held) -> None:
        """Return the message of a task that has not begun, for a worker on another node."""
        logger.debug("Task %s[%s] is left to another node.", held.task, held.id)
        self._return(held, has_begun=False)

    def _return(self, held: Held, *, has_begun: bool) -> None:
        request = held.request
        seams.forget(request)
        request.send_event("task-rejected", requeue=True)
        # The connection through which it came may be gone.
        channel = self._channel if request.acknowledged else request.message.channel
        try:
            if seams.is_open(channel):
                self._send(held, channel, has_begun=has_begun)
                return
        except self._errors as error:
            logger.warning("Task %s[%s] was not put back: %r.", held.task, held.id, error)
        if request.acknowledged:
            self._stranded.append(held)
            logger.warning("Task %s[%s] waits for the broker to be back.", held.task, held.id)
        # Else the broker has its message again as soon as it sees that the connection is gone.

    def _send(self, held: Held, channel: Any, *, has_begun: bool) -> None:
        request, message = held.request, held.request.message
        # It has begun in time: what it still has to do must not expire while it waits.
        is_changed = has_begun and request.expires is not None
        returns = int(message.headers.get("x-delivery-count") or 0)
        if request.acknowledged or is_changed or returns >= MOST_RETURNS:
            seams.send_again(message, _headers(held, has_begun=has_begun), held.queue, channel)
        else:
            seams.return_to_front([message])
        request.acknowledged = True

    def open(self, channel: Any) -> None:
        """Send over a new connection from now on, and what a broken one has kept from its queue.

        Args:
            channel: Of the new connection.
        """
        self._channel = channel
        while self._stranded:
            held = self._stranded[0]
            headers = _headers(held, has_begun=True)
            seams.send_again(held.request.message, headers, held.queue, channel)
            self._stranded.pop(0)
            logger.info("Task %s[%s] is back in its queue.", held.task, held.id)

    def close(self) -> None:
        """Say what was lost with the connection and the worker."""
        for held in self._stranded:
            logger.error(
                "Task %s[%s] left for a more urgent one and could not be put back into its queue: "
                "the broker was gone when this worker ended. Publish it again.",
                held.task,
                held.id,
            )


def _headers(held: Held, *, has_begun: bool) -> dict[str, Any]:
    headers = dict(held.request.message.headers)
    if has_begun:
        headers["expires"] = None
    headers.pop("x-delivery-count", None)
    headers.pop("compression", None)  # of the body, which was unpacked when it came
    return headers


def give_back_unstarted(tickets: list[Held]) -> None:
    """Return unstarted messages to the front of their queues, in the order in which they came.

    Args:
        tickets: Not started and not acknowledged; of a connection that lives.
    """
    seams.return_to_front([held.request.message for held in tickets])
    for held in tickets:
        held.request.acknowledged = True
