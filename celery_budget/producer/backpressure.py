"""Back-pressure: what becomes of a task whose band has too much waiting, in its sender.

Decided by what a thread has seen of the queues a moment ago; publishing waits for nothing, and
bands without a limit are never looked at. What a running task publishes, and what follows it, is
delayed where it would be refused: a workflow must not stop half-way.
"""

from __future__ import annotations

from collections.abc import Callable
from random import uniform
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from celery._state import get_current_task

from celery_budget.core.overload import Overload
from celery_budget.errors import BandOverloaded
from celery_budget.policy.model import OnOverload

if TYPE_CHECKING:
    from celery import Celery
    from kombu import Queue

    from celery_budget.policy.model import Band
    from celery_budget.producer.depths import Depths

#: A delay is drawn between these parts of what is expected, so that the senders of a fleet, and the
#: tasks of one, do not come back in one moment.
_JITTER = 0.5, 1.5


class Answer(NamedTuple):
    """How a task is to be published.

    Attributes:
        delay_s: Not to be started before so many seconds; 0.0: at once.
        is_degraded: Whether it is to do less.
    """

    delay_s: float = 0.0
    is_degraded: bool = False


ACCEPTED = Answer()


class BackPressure:
    """What this process knows of the bands it sends to.

    Args:
        app: That sends.
        depths: Gives those of its queues; others in a forked process.
    """

    def __init__(self, app: Celery, depths: Callable[[], Depths]) -> None:
        self._app = app
        self._depths = depths
        self._known: Depths | None = None
        self._bands: dict[str, _Watched] = {}

    def weigh(self, band: Band) -> Answer:
        """Say how a task of a band is to be published now.

        Args:
            band: Has a `max_queued`.

        Raises:
            BandOverloaded: The policy refuses it, and nobody runs a task here.
        """
        assert band.max_queued is not None
        depths = self._depths()
        if depths is not self._known:
            self._known, self._bands = depths, {}
        watched = self._bands.get(band.name)
        if watched is None or watched.band is not band:
            queues = [self._app.amqp.queues[name] for name in (*band.queues, *band.lane_queues)]
            watched = self._bands[band.name] = _Watched(band, queues)
            depths.watch(queues)
        else:
            depths.watch(())
        retry_after_s = watched.retry_after_s(depths)
        if not retry_after_s:
            return ACCEPTED
        if band.on_overload is OnOverload.DEGRADE:
            return Answer(is_degraded=True)
        if band.on_overload is OnOverload.RAISE and get_current_task() is None:
            raise BandOverloaded(band.name, watched.overload.queued, retry_after_s)
        return Answer(delay_s=retry_after_s * uniform(*_JITTER))  # noqa: S311 - keeps no secret


class _Watched:
    """One band, by what was seen of its queues.

    Attributes:
        band: As the policy has it.
        overload: What is known.
    """

    def __init__(self, band: Band, queues: list[Queue]) -> None:
        assert band.max_queued is not None
        self.band = band
        self.overload = Overload(band.max_queued)
        self._names = [queue.name for queue in queues]
        self._looks = -1
        # Tasks in a threads pool publish, and so do threads of an app.
        self._lock = Lock()

    def retry_after_s(self, depths: Depths) -> float:
        """Tell in how many seconds there may be room, and count one more if there is."""
        with self._lock:
            looks, seen = depths.looks, depths.seen
            if looks != self._looks:
                self._looks = looks
                self.overload.look(sum(seen.get(name, 0) for name in self._names), monotonic())
            retry_after_s = self.overload.retry_after_s
            if not retry_after_s or self.band.on_overload is OnOverload.DEGRADE:
                self.overload.sent()
            return retry_after_s
