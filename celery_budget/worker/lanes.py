"""Lanes beyond those of this worker's policy: found, consumed while they have messages, left.

Senders and workers with other numbers of lanes may run side by side. So a worker looks now and
then, in a thread with a connection of its own, for lanes that its policy does not have. The loop
follows what was found, without waiting. Called by the bootstep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING

from celery.utils.log import get_logger

from celery_budget.policy.lanes import MAX_LANES, lane_of, lanes_of, number_of
from celery_budget.producer.depths import is_news
from celery_budget.worker import seams

if TYPE_CHECKING:
    from celery import Celery
    from kombu import Connection, Queue

    from celery_budget.policy.model import Policy
    from celery_budget.worker.channels import Channels

logger = get_logger(__name__)

#: How often a worker looks, seconds: the longest that a message may wait in a lane that no worker
#: knew before.
EVERY_S = 10.0

#: The first look comes so long after the start, seconds: the worker has enough to do then.
FIRST_S = 2.0

#: The same for bands without lanes, whose senders may have begun with some before this worker.
#: RabbitMQ logs each question for a queue that does not exist as an error.
SELDOM_S = 600.0

#: A lane beyond the policy's is consumed for so long after its latest message, seconds: several
#: looks, so that the occasional message of a sender with more lanes need not be found each time.
KEPT_S = 60.0


class Look:
    """What one look found; replaced as a whole.

    Attributes:
        counts: Of each queue that was looked at: how many lanes the policy had then; they exist.
        filled: Names of lanes beyond those, with messages.
    """

    def __init__(self, counts: Mapping[str, int], filled: Iterable[str]) -> None:
        self.counts = counts
        self.filled = frozenset(filled)


class Lanes:
    """The lanes that one worker consumes from.

    Args:
        app: Its own.
        policy: That holds now.
    """

    def __init__(self, app: Celery, policy: Callable[[], Policy]) -> None:
        self._app = app
        self._policy = policy
        #: Of each queue: how many lanes were consumed from without a look.
        self._known: dict[str, int] = {}
        self._queues: tuple[str, ...] = ()
        self._look: Look | None = None
        self._followed: Look | None = None
        self._thread: Thread | None = None
        self._end = Event()
        self._failures = 0

    def of(self, queue: str) -> list[Queue]:
        """Give the lanes of a queue by the policy that holds now."""
        self._known[queue] = count = self._count(queue)
        return [self._lane(lane) for lane in lanes_of(queue, count)]

    def _lane(self, name: str) -> Queue:
        made: Queue = self._app.amqp.lane(name)
        return made

    def _count(self, queue: str) -> int:
        """Tell how many lanes the policy has for a queue; 0 for none."""
        band = self._policy().band(self._policy().owner(queue) or "")
        return len(band.lane_queues) if band is not None and band.queues[:1] == (queue,) else 0

    def close(self) -> None:
        """Look no more, until there is something to follow again."""
        self._end.set()
        self._thread = None
        self._followed = None

    def follow(self, channels: Channels) -> None:
        """Consume from what was found and leave what is empty; called in the loop."""
        policy = self._policy()
        names = [queue.name for queue in channels.queues]
        first = {band.queues[0] for band in policy.bands if band.queues}
        self._queues = tuple(name for name in names if name in first)
        if self._queues and self._thread is None:
            self._end = Event()
            self._thread = Thread(
                target=self._run, args=(self._end,), name="celery-budget lanes", daemon=True
            )
            self._thread.start()
        look = self._look
        if look is None or look is self._followed:
            return
        self._followed = look
        for lane in look.filled:
            if policy.base(lane) in names:
                channels.join_lane(self._lane(lane))
        for queue, count in look.counts.items():
            # Only what is new: an operator may have cancelled some of the others.
            for number in range(self._known.get(queue, count), count):
                channels.join_lane(self._lane(lane_of(queue, number)))
            self._known[queue] = count
        late = monotonic() - KEPT_S
        for name in names:
            queue = policy.base(name)
            is_own = queue == name or number_of(name) < look.counts.get(queue, MAX_LANES)
            if not is_own and name not in look.filled and channels.came(name) < late:
                channels.leave_lane(name)

    def _run(self, end: Event) -> None:
        due: dict[str, float] = {}
        wait_s = FIRST_S
        while not end.wait(wait_s):
            wait_s = EVERY_S
            if not self._are_due(due):
                continue
            connection = self._app.connection_for_read()
            try:
                with connection:
                    self._look_on(connection, due, end)
            except connection.connection_errors + connection.channel_errors as error:
                self._failures += 1
                self._tell(error)

    def _look_on(self, connection: Connection, due: dict[str, float], end: Event) -> None:
        """Look again and again, as long as there are lanes to look for."""
        while not end.is_set():
            self._look = self._search(connection, due)
            self._failures = 0
            if not self._are_due(due):
                return  # not for a while: a connection would be kept for nothing
            end.wait(EVERY_S)

    def _are_due(self, due: dict[str, float]) -> bool:
        now = monotonic()
        return any(now >= due.get(queue, now) for queue in self._queues)

    def _tell(self, error: Exception) -> None:
        """Warn of failures, and not of each."""
        if is_news(self._failures):
            logger.warning(
                "Lanes beyond those of this worker's policy cannot be looked for (failure %d): %r. "
                "It goes on with those that it has.",
                self._failures,
                error,
            )

    def _search(self, connection: Connection, due: dict[str, float]) -> Look:
        """Look at all queues whose time has come."""
        counts: dict[str, int] = {}
        filled: list[str] = []
        now = monotonic()
        for queue in self._queues:
            if now < due.get(queue, now):
                continue
            counts[queue] = count = self._count(queue)
            with connection.channel() as channel:
                for number in range(self._known.get(queue, count), count):
                    self._lane(lane_of(queue, number))(channel).declare()
            found = list(self._filled(connection, queue, count))
            due[queue] = now if count or found else now + SELDOM_S
            filled += found
        return Look(counts, filled)

    def _filled(self, connection: Connection, queue: str, first: int) -> Iterator[str]:
        """Name the lanes from a number on that have messages."""
        lanes = [lane_of(queue, number) for number in range(first, MAX_LANES)]
        with connection.channel() as channel:
            if connection.transport.driver_type == "redis":
                # Over Redis a queue without messages does not exist; asking for all is one command.
                yield from (
                    lane for lane, depth in seams.redis_depths(channel, lanes).items() if depth
                )
                return
            for lane in lanes:
                try:
                    declared = self._lane(lane)(channel).queue_declare(passive=True)
                except connection.channel_errors:
                    return  # senders declare their lanes in order: there is none beyond
                if declared.message_count:
                    yield lane
