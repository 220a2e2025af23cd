"""Windows: how many messages a band's channel may bring, kept at what could start now.

The demand says the number; a window makes the broker keep to it. Messages with an ETA or behind
a rate limit stay unacknowledged for long without wanting a slot; they are not counted, or they
would close the window of the tasks that want one.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from celery_budget.worker import seams

if TYPE_CHECKING:
    from kombu import Consumer
    from kombu.message import Message

    from celery_budget.core.turns import Turns
    from celery_budget.worker.demand import Ask


#: Ended consumers remembered for their late messages; a message outlives its consumer only while
#: it runs or is parked, and those few that are older are merely not counted.
MAX_EPOCHS = 10_000

#: Parked messages above which those that were dealt with meanwhile are looked for; from there on
#: whenever their number has doubled, so that the search costs the same for each message.
LEAST_PARKED = 64

#: Until twice as many lanes are asked because the others have brought nothing more, seconds: some
#: times what a message takes from a broker nearby. All of 64 are asked after six times as long.
MORE_S = 0.005

#: Calls a function in the worker's loop in so many seconds.
Later = Callable[[float, Callable[[], None]], object]


class Window(Protocol):
    """What a band channel asks of the window over its consumer."""

    def open(self) -> None:
        """Start consuming, also from queues that were added meanwhile."""
        ...

    def close(self) -> None:
        """Stop consuming; what is on its way still arrives."""
        ...

    def adjust(self) -> None:
        """Follow the demand, which may have changed."""
        ...

    def take_turns(self, turns: Turns) -> None:
        """Ask the queues in turns from now on, because there are lanes among them."""
        ...

    def leave(self, queue: str) -> None:
        """Ask one of the queues no more."""
        ...

    def arrived(self, message: Message) -> str:
        """Name the queue through which a message has just come; "" where there are no turns."""
        ...

    def parked(self, message: Message) -> None:
        """A message arrived that wants no slot yet: it waits for its ETA or a rate limit."""
        ...

    def taken(self, message: Message) -> None:
        """A message wants a slot, at once or after it was parked."""
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

    def __init__(self, band: str, consumer: Consumer, ask: Ask, _later: Later) -> None:
        self._band = band
        self._consumer = consumer
        self._ask = ask
        self._turns: Turns | None = None
        self._room = 0
        self._is_stale = True
        seams.gate(consumer.channel, self.room)
        seams.reuse_client(consumer.channel)

    def room(self) -> int:
        """Tell how many messages may be fetched now."""
        if self._is_stale:
            wanted, _, held = self._ask(self._band)
            self._room = max(0, wanted - held)
            self._is_stale = False
        return self._room

    def open(self) -> None:
        """Start fetching."""
        self._consumer.consume()

    def close(self) -> None:
        """Nothing is fetched unless asked for; the consumer's own cancel ends it."""

    def adjust(self) -> None:
        """Ask the demand again before the next fetch."""
        self._is_stale = True

    def take_turns(self, turns: Turns) -> None:
        """Name the queues of each fetch in the order of their turns."""
        if self._turns is None:
            self._turns = turns
            seams.take_turns(
                self._consumer.channel,
                lambda queues: turns.order(queues, monotonic()),
                lambda queue: turns.came(queue, monotonic()),
            )

    def leave(self, queue: str) -> None:
        """Name one of the queues no more."""
        self._consumer.cancel_by_queue(queue)

    def arrived(self, _message: Message) -> str:
        """Name the queue that brought the latest message; it is told just before that arrives."""
        return "" if self._turns is None else self._turns.latest

    def parked(self, message: Message) -> None:
        """Nothing to count: messages are asked for one at a time."""

    taken = kept = released = parked


class Epoch:
    """The life of one consumer of one queue on an AMQP channel, from consume to cancel.

    Attributes:
        queue: Its name.
        limit: Its prefetch count.
        brought: How many messages it has brought.
        blocked: Unacknowledged messages of it that take none of the slots it was opened for:
            parked for an ETA or a rate limit, or running with late acknowledgement.
    """

    __slots__ = ("blocked", "brought", "limit", "queue")

    def __init__(self, queue: str, limit: int) -> None:
        self.queue = queue
        self.limit = limit
        self.brought = 0
        self.blocked = 0


class AmqpWindow:
    """A window over an AMQP channel: a prefetch count for each consumer, opened and closed.

    A running consumer's prefetch count cannot change without a global QoS, which quorum queues
    do not have. So the consumer is cancelled when nothing more could start, and a new one
    opened with as many as could. Neither waits for the broker. The cancel is sent before the
    acknowledgements of what has just started, so the broker has no reason to send more.

    While tasks are short the window stays open: the prefetch count then holds the look-ahead,
    and acknowledgements make room by themselves.

    Each queue has the count. With lanes these would be too many, so each gets its part, and in
    the order of their turns only so many are opened as are expected to bring what is wanted: those
    that brought nothing when they were open last do not count. When nothing comes after all, twice
    as many are opened, and so on.
    """

    def __init__(self, band: str, consumer: Consumer, ask: Ask, later: Later) -> None:
        self._band = band
        self._consumer = consumer
        self._ask = ask
        self._later = later
        self._turns: Turns | None = None
        self._is_enabled = False
        self._open: dict[str, Epoch] = {}
        self._quiet: set[str] = set()
        self._more_at: float | None = None
        self._tries = 0
        self._epochs: dict[str, Epoch] = {}
        self._parked: dict[int, tuple[Message, Epoch]] = {}
        self._most_parked = LEAST_PARKED

    def open(self) -> None:
        """Consume as much as could start now."""
        self._is_enabled = True
        self.adjust()

    def close(self) -> None:
        """Stop consuming, and wait until the broker has answered all that was sent before.

        A channel closed with answers outstanding complains about each of them.
        """
        self._is_enabled = False
        self._more_at = None
        self._open.clear()
        self._consumer.cancel()
        self._consumer.channel.basic_qos(0, 0, False)

    def adjust(self) -> None:
        """Open, close or widen the window as the demand says."""
        if not self._is_enabled:
            return
        wanted, ahead, held = self._ask(self._band)
        if wanted <= held:
            self._more_at, self._tries = None, 0
            if self._open and not ahead:
                self._end(list(self._open))
            return
        queues = [queue.name for queue in self._consumer.queues]
        limit = wanted
        if self._turns is not None:
            limit = max(1, wanted // len(queues))
            queues = self._due(queues, wanted - held)
        begun = []
        for queue in queues:
            epoch = self._open.get(queue)
            if epoch is None:
                begun.append(queue)
                continue
            # Opening a new consumer costs frames: not before half of what is wanted is blocked.
            usable = epoch.limit - epoch.blocked
            if usable <= 0 or usable * 2 <= limit:
                begun.append(queue)
        if begun:
            self._end([queue for queue in begun if queue in self._open])
            self._begin(begun, limit)

    def _due(self, queues: list[str], room: int) -> list[str]:
        """Choose the queues that are to bring so many messages."""
        assert self._turns is not None
        now = monotonic()
        if self._more_at is not None and now >= self._more_at:
            self._more_at = None
            self._tries += 1
        room <<= self._tries
        chosen = []
        for queue in self._turns.order(queues, now):
            chosen.append(queue)
            if queue not in self._quiet:
                room -= 1
                if room <= 0:
                    break
        if self._more_at is None and self._open.keys() | chosen != set(queues):
            self._more_at = now + MORE_S
            # A little later: timers may be early by the clock's resolution.
            self._later(MORE_S * 1.1, self.adjust)
        return chosen

    def _begin(self, queues: list[str], limit: int) -> None:
        seams.send_prefetch(self._consumer.channel, limit)
        for queue, tag in seams.send_consume(self._consumer, queues).items():
            self._open[queue] = self._epochs[tag] = Epoch(queue, limit)

    def _end(self, queues: list[str]) -> None:
        seams.send_cancel(self._consumer, queues)
        for queue in queues:
            if not self._open.pop(queue).brought:
                self._quiet.add(queue)
        if len(self._epochs) > MAX_EPOCHS:
            self._epochs = dict(list(self._epochs.items())[MAX_EPOCHS // 2 :])

    def take_turns(self, turns: Turns) -> None:
        """Open the queues in the order of their turns."""
        self._turns = turns

    def leave(self, queue: str) -> None:
        """Consume from one of the queues no more."""
        if queue in self._open:
            self._end([queue])
        self._consumer.cancel_by_queue(queue)

    def arrived(self, message: Message) -> str:
        """Take note of who brought a message."""
        epoch = self._find(message)
        if epoch is None or self._turns is None:
            return ""
        epoch.brought += 1
        self._more_at, self._tries = None, 0
        self._quiet.discard(epoch.queue)
        self._turns.came(epoch.queue, monotonic())
        return epoch.queue

    def _find(self, message: Message) -> Epoch | None:
        return self._epochs.get(message.delivery_info.get("consumer_tag", ""))

    def parked(self, message: Message) -> None:
        """Do not count a message as one that fills the window."""
        epoch = self._find(message)
        if epoch is None:
            return
        epoch.blocked += 1
        self._parked[message.delivery_tag] = (message, epoch)
        if len(self._parked) > self._most_parked:
            # What was revoked meanwhile is offered to nobody.
            for tag, (known, blocked) in list(self._parked.items()):
                if known.acknowledged:
                    del self._parked[tag]
                    blocked.blocked -= 1
            self._most_parked = max(LEAST_PARKED, 2 * len(self._parked))

    def taken(self, message: Message) -> None:
        """Count a message again that was parked."""
        if self._parked:
            _, epoch = self._parked.pop(message.delivery_tag, (message, None))
            if epoch is not None:
                epoch.blocked -= 1

    def kept(self, message: Message) -> None:
        """Do not count a message that has its slot and fills the broker's count until it ends."""
        epoch = self._find(message)
        if epoch is not None:
            epoch.blocked += 1

    def released(self, message: Message) -> None:
        """The broker has made room by itself."""
        epoch = self._find(message)
        if epoch is not None:
            epoch.blocked -= 1
