"""Band channels: each band's queues on a channel of their own, asked only for what can start.

`Channels` stands where Celery keeps its one task consumer, so that the event loops, remote
control (`add_consumer`, `cancel_consumer`, `active_queues`) and shutdown work as they do with
it. Queues that belong to no band stay with Celery's consumer and its prefetch count. Who consumes
from a queue consumes from its lanes too.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from kombu import Consumer, Queue

from celery_budget.core.turns import Turns
from celery_budget.worker.window import AmqpWindow, Later, PollWindow, Window

if TYPE_CHECKING:
    from kombu.message import Message

    from celery_budget.policy.model import Policy
    from celery_budget.worker.demand import Ask
    from celery_budget.worker.intake import Held

#: Who consumes from a band's queue, and through which window.
Open = Callable[[str, Consumer], Window]

#: Transports whose messages can be asked for by number; others keep Celery's prefetch.
WINDOWS: dict[str, type[PollWindow | AmqpWindow]] = {"redis": PollWindow, "amqp": AmqpWindow}


class BandChannel:
    """One band's consumer, on its own channel, with its own window.

    Attributes:
        band: Name of the band.
        queue: A queue of the band and no lane, to settle Terms of messages without a stamp.
        turns: In which its queues are asked; None without lanes.
    """

    def __init__(
        self,
        band: str,
        queue: str,
        consumer: Consumer,
        window: Window,
        changed: Callable[[], None],
        expected: Callable[[str], float],
    ) -> None:
        self._changed = changed
        self._expected = expected
        self._is_taken = False
        self._came_from = ""
        self.band = band
        self.queue = queue
        self.consumer = consumer
        self.window = window
        self.turns: Turns | None = None

    def deliver(self, message: Message) -> None:
        """Take one message from the broker and pass it on to Celery's strategy."""
        self._is_taken = False
        self._came_from = self.window.arrived(message)
        self.on_message(message)
        self._came_from = ""
        if not self._is_taken and not message.acknowledged:
            self.window.parked(message)
            self._changed()

    on_message: Callable[[Message], object]

    def taken(self, held: Held) -> None:
        """A message of this channel reached the choke point."""
        self._is_taken = True
        self.window.taken(held.request.message)
        if self.turns is not None:
            seconds = self._expected(held.task)
            self.turns.used(held.tenant, seconds, monotonic(), self._came_from)

    def add(self, queue: Queue, turns: Callable[[], Turns] | None) -> None:
        """Consume from one more queue, when the window is opened the next time.

        Args:
            queue: Declared.
            turns: Makes what is needed for lanes; None: it is none.
        """
        self.consumer.add_queue(queue)
        if turns is not None and self.turns is None:
            self.turns = turns()
            self.window.take_turns(self.turns)

    def leave(self, queue: str) -> None:
        """Consume from one of several queues no more."""
        self.window.leave(queue)
        if self.turns is not None:
            self.turns.forget(queue)


class Channels:
    """All task consumers of a worker: one for each band it serves, and Celery's own.

    Args:
        stock: Celery's task consumer, not consuming yet; keeps the queues of no band.
        policy: That holds now.
        channel: Opens a new channel on the worker's connection.
        window: Makes the window of a band's consumer.
        expected: Tells how long a task of a name takes, seconds.
        later: Calls a function in the loop; None where all is called in it.
        lanes: Gives the lanes of a queue, as they are to be declared.
    """

    def __init__(
        self,
        stock: Consumer,
        *,
        policy: Callable[[], Policy],
        channel: Callable[[], Any],
        window: Open,
        expected: Callable[[str], float],
        later: Callable[[Callable[[], None]], object] | None,
        lanes: Callable[[str], list[Queue]],
    ) -> None:
        self._stock = stock
        self._policy = policy
        self._channel = channel
        self._expected = expected
        self._lanes = lanes
        self._window = window
        self._later = later
        self._is_due = False
        self._bands: dict[str, BandChannel] = {}
        self._by_channel: dict[Any, BandChannel] = {}
        self._on_message: Callable[[Message], object] | None = None
        self._is_consuming = False
        owned = [queue for queue in stock.queues if self._owner(queue.name) is not None]
        for queue in owned:
            stock.cancel_by_queue(queue.name)
            self._join(queue)
        for queue in owned:
            self._join_lanes(queue.name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stock, name)

    def _owner(self, queue: str) -> str | None:
        return self._policy().owner(queue)

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
        self._join(queue)
        self._join_lanes(queue.name)
        return queue

    def _join_lanes(self, queue: str) -> None:
        """Declare the lanes of a queue that is consumed, and consume from those too."""
        for lane in self._lanes(queue):
            if not self.consuming_from(lane):
                lane(self._stock.channel).declare()
                self._join(lane)

    def join_lane(self, lane: Queue) -> None:
        """Consume from a lane that exists, at once and without waiting."""
        if not self.consuming_from(lane):
            self._join(lane)
            if self._is_consuming:
                self._bands[self._owner(lane.name) or ""].window.open()

    def leave_lane(self, lane: str) -> None:
        """Consume from a lane no more, without waiting."""
        band = self._bands.get(self._owner(lane) or "")
        if band is not None and self.consuming_from(lane):
            band.leave(lane)

    def came(self, lane: str) -> float:
        """Tell when a lane brought its latest message, monotonic seconds; -inf: never."""
        band = self._bands.get(self._owner(lane) or "")
        return -inf if band is None or band.turns is None else band.turns.since(lane)

    def _join(self, queue: Queue) -> None:
        """Consume from a declared queue on the channel of the band that owns it."""
        band = self._owner(queue.name)
        assert band is not None
        base = self._policy().base(queue.name)
        turns = self._turns if base != queue.name else None
        known = self._bands.get(band)
        if known is not None:
            known.add(queue, turns)
            return
        consumer = Consumer(
            self._channel(),
            [queue],
            accept=self._stock.accept,
            on_decode_error=self._stock.on_decode_error,
            auto_declare=False,
            tag_prefix=f"{band}-",
        )
        window = self._window(band, consumer)
        made = BandChannel(band, base, consumer, window, self.changed, self._expected)
        made.add(queue, turns)
        self._bands[band] = made
        self._by_channel[consumer.channel] = made
        self._pass_on(made)

    def _turns(self) -> Turns:
        return Turns(lambda tenant: self._policy().tenant_weight(tenant))

    def consuming_from(self, queue: Queue | str) -> bool:
        """Tell whether the worker consumes from a queue."""
        name = queue.name if isinstance(queue, Queue) else queue
        return name in {known.name for known in self.queues}

    def cancel_by_queue(self, queue: Queue | str) -> None:
        """Stop consuming from one queue, and from its lanes."""
        name = queue.name if isinstance(queue, Queue) else queue
        band = self._bands.get(self._owner(name) or "")
        if band is None:
            self._stock.cancel_by_queue(name)
            return
        band.window.close()
        base = self._policy().base
        for known in band.consumer.queues:
            if name in (known.name, base(known.name)):
                band.leave(known.name)
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


def windows(driver: str, ask: Ask, after: Later) -> Open | None:
    """Choose the kind of window for a transport; None where messages cannot be asked for by number.

    Args:
        driver: kombu's `driver_type` of the transport.
        ask: Tells the demand for a band.
        after: Calls a function in the worker's loop in so many seconds.
    """
    kind = WINDOWS.get(driver)
    return None if kind is None else lambda band, consumer: kind(band, consumer, ask, after)
