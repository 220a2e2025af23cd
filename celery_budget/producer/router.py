"""The router: settles the Terms of a call and sends it to its band's queue.

A destination named by the caller, by the task's own `queue` or by `task_routes` always wins;
only a task that nobody routed goes to the first queue of its band, or to one of that queue's lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import time
from typing import TYPE_CHECKING

from celery.app.routes import Router as CeleryRouter
from celery.utils.collections import lpmerge
from celery.utils.log import get_logger

from celery_budget.policy.terms import resolve
from celery_budget.producer.backpressure import ACCEPTED, BackPressure
from celery_budget.producer.declared import arguments, declared
from celery_budget.producer.inherited import inherited
from celery_budget.producer.options import take
from celery_budget.producer.stamp import stamp

if TYPE_CHECKING:
    from celery import Task

    from celery_budget.policy.model import Band, Policy
    from celery_budget.policy.terms import Terms
    from celery_budget.producer.lanes import Lanes

logger = get_logger(__name__)

#: Options that name where a message goes.
DESTINATION = ("queue", "exchange", "routing_key")

#: Warnings about ignored options, one for each task; beyond that many tasks, silence.
MOST_TOLD = 1_000


class Router(CeleryRouter):
    """Celery's router, and the band's queue for what it does not route."""

    def __init__(
        self,
        policy: Callable[[], Policy],
        routed: CeleryRouter,
        lanes: Lanes,
        pressure: BackPressure,
    ) -> None:
        super().__init__(routed.routes, routed.queues, routed.create_missing, routed.app)
        self._policy = policy
        self._lanes = lanes
        self._pressure = pressure
        self._told: set[tuple[str, ...]] = set()

    def route(
        self,
        options: dict[str, object],
        name: str,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        task_type: Task | None = None,
    ) -> dict[str, object]:
        """Choose the destination of one call and put its settled Terms into its headers.

        Raises:
            OptionError: a call option or a task's declaration means nothing.
            UnknownResource: the call's envelope names a resource that the policy does not.
            PolicyError: the policy has mistakes.
            BandOverloaded: too many tasks of its band wait.
        """
        now = time()
        policy = self._policy()
        if task_type is None and (self.app.finalized or self.app.autofinalize):
            # Celery 5.6 does not look up a task that is sent by name.
            task_type = self.app.tasks.get(name)
        call, carried = take(options, now)
        lane = _take_lane(options, policy)
        is_explicit = any(options.get(key) for key in DESTINATION)
        routed: dict[str, object] | None = None
        if is_explicit:
            routed = super().route(options, name, args, kwargs, task_type)
        elif self.routes:
            route = self.lookup_route(name, args, kwargs or {}, options, task_type)
            if route:
                routed = lpmerge(self.expand_destination(route), options)
        queue = lane if routed is None else getattr(routed.get("queue"), "name", None)
        terms = resolve(
            policy,
            name,
            call=call,
            carried=carried,
            declared=declared(task_type),
            inherited=inherited(),
            queue=queue,
            queue_is_explicit=is_explicit or lane is not None,
            arguments=arguments(task_type, args, kwargs),
            now=now,
        )
        if terms.ignored:
            self._tell_ignored(name, terms.ignored)
        band = policy.band(terms.band)
        if routed is None or not any(routed.get(key) for key in DESTINATION):
            # A route may set a priority, say, and leave the destination to us.
            routed = lpmerge(self._destination(band, terms), routed or options)
        answer = ACCEPTED
        if band is not None and band.max_queued is not None:
            answer = self._pressure.weigh(band)
        stamp(routed, terms, now, answer)
        return routed

    def _destination(self, band: Band | None, terms: Terms) -> dict[str, object]:
        """Give the destination of a task that nobody routed."""
        if band is None or not band.queues:
            return self._expanded(self.app.conf.task_default_queue)
        if band.lanes == 1:
            return self._expanded(band.queues[0])
        name, declare = self._lanes.destination(band.queues[0], band.lanes, terms.tenant)
        found = self._expanded(name)
        if declare is not None:
            found["declare"] = [found["queue"], *declare]
        return found

    def _expanded(self, queue: str) -> dict[str, object]:
        found: dict[str, object] = self.expand_destination(queue)
        return found

    def _tell_ignored(self, name: str, ignored: tuple[str, ...]) -> None:
        """Warn once for each task that a call option is not the callers' to set."""
        told = (name, *ignored)
        if told not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(told)
            logger.warning(
                "Calls of %s set %s, which the policy does not leave to callers "
                "(caller_options): ignored.",
                name,
                ", ".join(ignored),
            )


def _take_lane(options: dict[str, object], policy: Policy) -> str | None:
    """Take the destination out of the options if it is a lane, and name the lane.

    A retry names the queue through which its message came. Its lane is chosen anew: another policy
    may have had more of them.
    """
    name = options.get("queue") or options.get("routing_key")
    name = getattr(name, "name", name)  # a kombu Queue
    if not isinstance(name, str) or policy.base(name) == name:
        return None
    for key in DESTINATION:
        options.pop(key, None)
    return name
