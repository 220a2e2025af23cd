"""The router: settles the Terms of a call and sends it to its band's queue.

A destination named by the caller, by the task's own `queue` or by `task_routes` always wins;
only a task that nobody routed goes to the first queue of its band.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import time
from typing import TYPE_CHECKING

from celery.app.routes import Router as CeleryRouter
from celery.utils.collections import lpmerge
from celery.utils.log import get_logger

from celery_budget.policy.terms import resolve
from celery_budget.producer.declared import arguments, declared
from celery_budget.producer.inherited import inherited
from celery_budget.producer.options import take
from celery_budget.producer.stamp import stamp

if TYPE_CHECKING:
    from celery import Task

    from celery_budget.policy.model import Policy

logger = get_logger(__name__)

#: Options that name where a message goes.
DESTINATION = ("queue", "exchange", "routing_key")

#: Warnings about ignored options, one for each task; beyond that many tasks, silence.
MOST_TOLD = 1_000


class Router(CeleryRouter):
    """Celery's router, and the band's queue for what it does not route."""

    def __init__(self, policy: Callable[[], Policy], routed: CeleryRouter) -> None:
        super().__init__(routed.routes, routed.queues, routed.create_missing, routed.app)
        self._policy = policy
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
        """
        now = time()
        policy = self._policy()
        if task_type is None and (self.app.finalized or self.app.autofinalize):
            # Celery 5.6 does not look up a task that is sent by name.
            task_type = self.app.tasks.get(name)
        call, carried = take(options, now)
        is_explicit = any(options.get(key) for key in DESTINATION)
        routed: dict[str, object] | None = None
        if is_explicit:
            routed = super().route(options, name, args, kwargs, task_type)
        elif self.routes:
            route = self.lookup_route(name, args, kwargs or {}, options, task_type)
            if route:
                routed = lpmerge(self.expand_destination(route), options)
        queue = None if routed is None else getattr(routed.get("queue"), "name", None)
        terms = resolve(
            policy,
            name,
            call=call,
            carried=carried,
            declared=declared(task_type),
            inherited=inherited(),
            queue=queue,
            queue_is_explicit=is_explicit,
            arguments=arguments(task_type, args, kwargs),
            now=now,
        )
        if terms.ignored:
            self._tell_ignored(name, terms.ignored)
        if routed is None or not any(routed.get(key) for key in DESTINATION):
            # A route may set a priority, say, and leave the destination to us.
            band = policy.band(terms.band)
            queue = band.queues[0] if band and band.queues else self.app.conf.task_default_queue
            routed = lpmerge(self.expand_destination(queue), routed or options)
        stamp(routed, terms, now)
        return routed

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
