"""Says in the worker's log when a band begins to be held back, or to do less, and when it ends."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from celery.utils.log import get_logger

from celery_budget.core.shortage import Cause

if TYPE_CHECKING:
    from celery_budget.core.dispatcher import Dispatcher
    from celery_budget.policy.model import Policy

logger = get_logger(__name__)

#: A share above this is no news: a single period with a late start takes that much.
NEWS = 0.8

#: Between two lines that say that a band is held back, seconds: it may come and go all day.
AGAIN_S = 60.0

#: What took slots from a band.
WHY = {
    Cause.WAIT: "tasks of a band above wait longer than its latency_target",
    Cause.QUEUE: "messages of a band above wait in the broker, or will, for longer than its "
    "latency_target",
    Cause.LEDGER: "tasks of a band above wait for a budget on which tasks of this one draw as well",
    Cause.NODE: "the node is near its limits",
}


class ThrottleLog:
    """What was said last of each band."""

    def __init__(self) -> None:
        self._degraded: set[str] = set()
        self._held_back: set[str] = set()
        self._said: dict[str, float] = {}

    def look(self, dispatcher: Dispatcher, policy: Policy) -> None:
        """Say what has changed; called now and then."""
        for band in policy.bands:
            name = band.name
            if dispatcher.is_degraded(name) != (name in self._degraded):
                self._degraded ^= {name}
                logger.info(
                    "Tasks of band %s that can do less are asked to, before others have to wait."
                    if name in self._degraded
                    else "Tasks of band %s are not asked to do less any more.",
                    name,
                )
            share = dispatcher.throttled_to(name)
            if share >= 1.0:
                if name in self._held_back:
                    self._held_back.discard(name)
                    logger.info("Band %s may use all slots again.", name)
            elif (
                share < NEWS
                and name not in self._held_back
                and monotonic() >= self._said.get(name, 0.0) + AGAIN_S
            ):
                self._held_back.add(name)
                self._said[name] = monotonic()
                logger.info(
                    "Band %s is throttled to %.0f %% of the slots, with the bands below it: %s.",
                    name,
                    100 * share,
                    WHY[dispatcher.throttled_by(name) or Cause.WAIT],
                )
