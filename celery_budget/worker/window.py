"""Windows: how many messages a band's channel may bring, kept at what could start now.

The demand says the number; a window makes the broker keep to it. Messages with an ETA or behind
a rate limit stay unacknowledged for long without wanting a slot; they are not counted, or they
would close the window of the tasks that want one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from celery_budget.worker import seams

if TYPE_CHECKING:
    from kombu import Consumer
    from kombu.message import Message

    from celery_budget.worker.demand import Ask


#: Ended consumers remembered for their late messages; a message outlives its consumer only while
#: it runs or is parked, and those few that are older are merely not counted.
MAX_EPOCHS = 10_000

#: Parked messages above which those that were dealt with meanwhile are looked for; from there on
#: whenever their number has doubled, so that the search costs the same for each message.
LEAST_PARKED = 64


class Window(Protocol):
    """What a band channel asks of the window over its consumer."""

    def open(self) -> None:
        """Start consuming."""
        ...

    def close(self) -> None:
        """Stop consuming; what is on its way still arrives."""
        ...

    def adjust(self) -> None:
        """Follow the demand, which may have changed."""
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

    def __init__(self, band: str, consumer: Consumer, ask: Ask) -> None:
        self._band = band
        self._consumer = consumer
        self._ask = ask
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

    def parked(self, message: Message) -> None:
        """Nothing to count: messages are asked for one at a time."""

    taken = kept = released = parked


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

    def __init__(self, band: str, consumer: Consumer, ask: Ask) -> None:
        self._band = band
        self._consumer = consumer
        self._ask = ask
        self._is_enabled = False
        self._tags: list[str] = []
        self._epoch = Epoch(0)
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
        self._tags = []
        self._consumer.cancel()
        self._consumer.channel.basic_qos(0, 0, False)

    def adjust(self) -> None:
        """Open, close or widen the window as the demand says."""
        if not self._is_enabled:
            return
        wanted, ahead, held = self._ask(self._band)
        if wanted <= held:
            if self._tags and not ahead:
                self._end()
            return
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
        seams.send_cancel(self._consumer, self._tags)
        self._tags = []
        if len(self._epochs) > MAX_EPOCHS:
            self._epochs = dict(list(self._epochs.items())[MAX_EPOCHS // 2 :])

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
