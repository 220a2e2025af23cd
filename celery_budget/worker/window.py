"""Windows: how many messages a band's channel may bring, kept at what could start now.

The demand says the number; a window makes the broker keep to it. Messages with an ETA or behind
a rate limit stay unacknowledged for long without wanting a slot; they are not counted, or they
would close the window of the tasks that want one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from celery_budget.worker import seams

if TYPE_CHECKING:
    from kombu import Consumer
    from kombu.message import Message


class Turn:
    """The loop's next turn: what is due there is scheduled once for all windows.

    Args:
        later: Calls a function in the loop's next turn.
    """

    def __init__(self, later: Callable[[Callable[[], None]], object]) -> None:
        self._later = later
        self._due: list[Callable[[], None]] = []

    def add(self, work: Callable[[], None]) -> None:
        """Do some work in the loop's next turn."""
        if not self._due:
            self._later(self._run)
        self._due.append(work)

    def _run(self) -> None:
        due, self._due = self._due, []
        for work in due:
            work()


#: Ended consumers remembered for their late messages; a message outlives its consumer only while
#: it runs or is parked, and those few that are older are merely not counted.
MAX_EPOCHS = 10_000


class Demand(Protocol):
    """What a window asks: how much each band could use. The dispatcher knows."""

    def window(self, band: str) -> int:
        """How many more messages the worker could use."""
        ...

    def look_ahead(self, band: str) -> int:
        """How many of them only keep the pool busy, while tasks are short."""
        ...

    def held(self, band: str) -> int:
        """How many the worker holds unstarted."""
        ...


class Window(Protocol):
    """What a band channel asks of the window over its consumer."""

    def open(self) -> None:
        """Start consuming."""
        ...

    def close(self) -> None:
        """Stop consuming; what is on its way still arrives."""
        ...

    def changed(self) -> None:
        """The demand may have changed."""
        ...

    def arrived(self, message: Message) -> None:
        """A message came from the broker."""
        ...

    def passed(self, message: Message) -> None:
        """Celery's strategy is through with a message that arrived."""
        ...

    def taken(self, message: Message) -> None:
        """A message wants a slot now, at once or after its ETA or rate limit."""
        ...

    def kept(self, message: Message) -> None:
        """A message runs and stays unacknowledged until it ends."""
        ...

    def released(self, message: Message) -> None:
        """A message that ran unacknowledged has ended."""
        ...


class PollWindow:
    """A window over a polled channel (Redis): asked before each fetch, it costs no round trip.

    One fetch may be under way when the window closes, so that one message more than asked for
    can arrive.
    """

    def __init__(self, band: str, consumer: Consumer, demand: Demand, _turn: Turn) -> None:
        self._band = band
        self._consumer = consumer
        self._demand = demand
        self._room = 0
        self._is_stale = True
        seams.gate(consumer.channel, self.room)

    def room(self) -> int:
        """Tell how many messages may be fetched now."""
        if self._is_stale:
            self._room = self._demand.window(self._band)
            self._is_stale = False
        return self._room

    def open(self) -> None:
        """Start fetching."""
        self._consumer.consume()

    def close(self) -> None:
        """Nothing is fetched unless asked for; the consumer's own cancel ends it."""

    def changed(self) -> None:
        """Ask the demand again before the next fetch."""
        self._is_stale = True

    def arrived(self, message: Message) -> None:
        """Nothing to count: messages are asked for one at a time."""

    taken = kept = released = arrived

    def passed(self, _message: Message) -> None:
        """Ask again: a message that parks for its ETA is told by nobody else."""
        self._is_stale = True


class Epoch:
    """One consumer's life on an AMQP channel, from consume to cancel.

    Attributes:
        limit: Its prefetch count.
        blocked: Unacknowledged messages of it that take none of the slots it was opened for:
            parked for an ETA or a rate limit, or running with late acknowledgement.
    """

    __slots__ = ("blocked", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.blocked = 0


class AmqpWindow:
    """A window over an AMQP channel: a prefetch count for each consumer, opened and closed.

    A running consumer's prefetch count cannot change without a global QoS, which quorum queues
    do not have. So the consumer is cancelled when nothing more could start, and a new one
    opened with as many as could. Neither waits for the broker. The cancel is sent before the
    acknowledgements of what has just started, so the broker has no reason to send more.

    While tasks are short the window stays open: the prefetch count then holds the look-ahead,
    and acknowledgements make room by themselves.
    """

    def __init__(self, band: str, consumer: Consumer, demand: Demand, turn: Turn) -> None:
        self._band = band
        self._consumer = consumer
        self._demand = demand
        self._turn = turn
        self._is_due = False
        self._is_enabled = False
        self._is_taken = False
        self._tags: list[str] = []
        self._epoch = Epoch(0)
        self._epochs: dict[str, Epoch] = {}

    def open(self) -> None:
        """Consume as much as could start now."""
        self._is_enabled = True
        self._adjust()

    def close(self) -> None:
        """Stop consuming, and wait until the broker has answered all that was sent before.

        A channel closed with answers outstanding complains about each of them.
        """
        self._is_enabled = False
        self._tags = []
        self._consumer.cancel()
        self._consumer.channel.basic_qos(0, 0, False)

    def changed(self) -> None:
        """Adjust the window once in the loop's next turn, however often things change in this."""
        if not self._is_due and self._is_enabled:
            self._is_due = True
            self._turn.add(self._adjust)

    def _adjust(self) -> None:
        self._is_due = False
        if not self._is_enabled:
            return
        demand, band = self._demand, self._band
        room = demand.window(band)
        if room == 0:
            if self._tags and demand.look_ahead(band) == 0:
                self._end()
            return
        wanted = room + demand.held(band)
        if self._tags:
            # Opening a new consumer costs frames: not before half of what is wanted is blocked.
            usable = self._epoch.limit - self._epoch.blocked
            if usable > 0 and usable * 2 > wanted:
                return
            self._end()
        self._begin(wanted)

    def _begin(self, limit: int) -> None:
        seams.send_prefetch(self._consumer.channel, limit)
        self._tags = seams.send_consume(self._consumer)
        self._epoch = Epoch(limit)
        for tag in self._tags:
            self._epochs[tag] = self._epoch

    def _end(self) -> None:
        if self._tags:
            seams.send_cancel(self._consumer, self._tags)
            self._tags = []
            if len(self._epochs) > MAX_EPOCHS:
                self._epochs = dict(list(self._epochs.items())[MAX_EPOCHS // 2 :])

    def _count(self, message: Message, change: int) -> None:
        epoch = self._epochs.get(message.delivery_info.get("consumer_tag", ""))
        if epoch is not None:
            epoch.blocked += change

    def arrived(self, message: Message) -> None:
        """Count a message as parked until it turns out to want a slot, or was dealt with."""
        self._is_taken = False
        self._count(message, 1)

    def passed(self, message: Message) -> None:
        """The strategy is through with a message: what it settled at once is parked no more."""
        if self._is_taken:
            return
        if message.acknowledged:
            self._count(message, -1)
        else:
            # Nothing was offered, so nobody else will say that the window is fuller now.
            self.changed()

    def taken(self, message: Message) -> None:
        """A message wants a slot now, at once or after its ETA or rate limit."""
        self._is_taken = True
        self._count(message, -1)

    def kept(self, message: Message) -> None:
        """A message runs and stays unacknowledged until it ends."""
        self._count(message, 1)

    def released(self, message: Message) -> None:
        """A message that ran unacknowledged has ended."""
        self._count(message, -1)
