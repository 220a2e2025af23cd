"""Band channels: each band's queues on a channel of their own, asked only for what can start.

`Channels` stands where Celery keeps its one task consumer, so that the event loops, remote
control (`add_consumer`, `cancel_consumer`, `active_queues`) and shutdown work as they do with
it. Queues that belong to no band stay with Celery's consumer and its prefetch count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kombu import Consumer, Queue

from celery_budget.worker.window import AmqpWindow, PollWindow, Window

if TYPE_CHECKING:
    from kombu.message import Message

    from celery_budget.worker.demand import Ask
    from celery_budget.worker.intake import Held

#: Transports whose messages can be asked for by number; others keep Celery's prefetch.
WINDOWS: dict[str, type[PollWindow | AmqpWindow]] = {"redis": PollWindow, "amqp": AmqpWindow}


class BandChannel:
    """One band's consumer, on its own channel, with its own window.

    Attributes:
        band: Name of the band.
        queue: A queue of the band, to settle Terms of messages without a stamp.
    """

    def __init__(
        self, band: str, consumer: Consumer, window: Window, changed: Callable[[], None]
    ) -> None:
        self._changed = changed
        self._is_taken = False
        self.band = band
        self.queue = consumer.queues[0].name
        self.consumer = consumer
        self.window = window

    def deliver(self, message: Message) -> None:
        """Take one message from the broker and pass it on to Celery's strategy."""
        self._is_taken = False
        self.on_message(message)
        if not self._is_taken and not message.acknowledged:
            self.window.parked(message)
            self._changed()

    on_message: Callable[[Message], object]

    def taken(self, held: Held) -> None:
        """A message of this channel reached the choke point."""
        self._is_taken = True
        self.window.taken(held.request.message)


class Channels:
    """All task consumers of a worker: one for each band it serves, and Celery's own.

    Args:
        stock: Celery's task consumer, not consuming yet; keeps the queues of no band.
        window: Makes the window of a band's consumer.
        owner: Names the band of a queue, or None.
        channel: Opens a new channel on the worker's connection.
    """

    def __init__(
        self,
        stock: Consumer,
        *,
        owner: Callable[[str], str | None],
        channel: Callable[[], Any],
        window: Callable[[str, Consumer], Window],
        later: Callable[[Callable[[], None]], object] | None,
    ) -> None:
        self._stock = stock
        self._owner = owner
        self._channel = channel
        self._window = window
        self._later = later
        self._is_due = False
        self._bands: dict[str, BandChannel] = {}
        self._by_channel: dict[Any, BandChannel] = {}
        self._on_message: Callable[[Message], object] | None = None
        self._is_consuming = False
        for queue in stock.queues:
            if owner(queue.name) is not None:
                stock.cancel_by_queue(queue.name)
                self._join(queue)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stock, name)

    @property
    def bands(self) -> dict[str, BandChannel]:
        """The band channels by name of their band."""
        return self._bands

    @property
    def queues(self) -> list[Queue]:
        """All queues the worker consumes from, of bands and of none."""
        owned = [queue for band in self._bands.values() for queue in band.consumer.queues]
        return [*self._stock.queues, *owned]

    @property
    def channels(self) -> list[Any]:
        """All channels it consumes on: Celery's own, then the bands'."""
        return [self._stock.channel, *(band.consumer.channel for band in self._bands.values())]

    @property
    def on_message(self) -> Callable[[Message], object] | None:
        """What Celery calls with each message; set by its event loop."""
        return self._on_message

    @on_message.setter
    def on_message(self, on_message: Callable[[Message], object]) -> None:
        self._on_message = on_message
        self._stock.on_message = on_message
        for band in self._bands.values():
            self._pass_on(band)

    def _pass_on(self, band: BandChannel) -> None:
        if self._on_message is None:
            return
        band.on_message = self._on_message
        band.consumer.on_message = band.deliver

    def source(self, message: Message) -> BandChannel | None:
        """Find the band channel through which a message came."""
        return self._by_channel.get(message.channel)

    def consume(self, no_ack: bool | None = None) -> None:
        """Start consuming from whatever is not consumed yet; called when the pool is ready."""
        self._is_consuming = True
        self._stock.consume(no_ack)
        for band in self._bands.values():
            band.window.open()

    def add_queue(self, queue: Queue) -> Queue:
        """Declare and consume from one more queue, on its band's channel if a band owns it."""
        if self._owner(queue.name) is None:
            return self._stock.add_queue(queue)
        if self._stock.auto_declare:
            queue(self._stock.channel).declare()
        return self._join(queue)

    def _join(self, queue: Queue) -> Queue:
        """Consume from a declared queue on the channel of the band that owns it."""
        band = self._owner(queue.name)
        assert band is not None
        known = self._bands.get(band)
        if known is not None:
            known.window.close()
            known.consumer.add_queue(queue)
            return queue
        consumer = Consumer(
            self._channel(),
            [queue],
            accept=self._stock.accept,
            on_decode_error=self._stock.on_decode_error,
            auto_declare=False,
            tag_prefix=f"{band}-",
        )
        made = BandChannel(band, consumer, self._window(band, consumer), self.changed)
        self._bands[band] = made
        self._by_channel[consumer.channel] = made
        self._pass_on(made)
        return queue

    def consuming_from(self, queue: Queue | str) -> bool:
        """Tell whether the worker consumes from a queue."""
        name = queue.name if isinstance(queue, Queue) else queue
        return name in {known.name for known in self.queues}

    def cancel_by_queue(self, queue: Queue | str) -> None:
        """Stop consuming from one queue."""
        name = queue.name if isinstance(queue, Queue) else queue
        band = self._bands.get(self._owner(name) or "")
        if band is None:
            self._stock.cancel_by_queue(name)
            return
        band.window.close()
        band.consumer.cancel_by_queue(name)
        if band.consumer.queues:
            band.window.open()

    def filled(self, source: BandChannel | None) -> None:
        """Let one window follow the demand: a ticket came through it and found no free slot."""
        if source is None or self._later is not None:
            self.changed()
        elif self._is_consuming:
            source.window.adjust()

    def changed(self) -> None:
        """Let all windows follow the demand: a ticket started or ended."""
        if self._later is None:
            self._adjust()
        elif not self._is_due:
            self._is_due = True
            self._later(self._adjust)

    def _adjust(self) -> None:
        self._is_due = False
        if self._is_consuming:
            for band in self._bands.values():
                band.window.adjust()

    def cancel(self) -> None:
        """Stop consuming from all queues."""
        self._is_consuming = False
        for band in self._bands.values():
            band.window.close()
            band.consumer.cancel()
        self._stock.cancel()

    def close(self) -> None:
        """Close the consumers and the bands' channels."""
        for band in self._bands.values():
            band.consumer.close()
            band.consumer.channel.close()
        self._stock.close()


def windows(driver: str, ask: Ask) -> Callable[[str, Consumer], Window] | None:
    """Choose the kind of window for a transport; None where messages cannot be asked for by number.

    Args:
        driver: kombu's `driver_type` of the transport.
        ask: Tells the demand for a band.
    """
    kind = WINDOWS.get(driver)
    return None if kind is None else lambda band, consumer: kind(band, consumer, ask)
