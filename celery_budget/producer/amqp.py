"""Celery's `app.amqp`, with our router and the bands' queues.

`amqp_cls` is Celery's extension point for both: what it makes is asked for at the first
publish, when the configuration is complete, so that installing reads no settings.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING

from celery.app.amqp import AMQP, Queues
from celery.app.routes import Router as CeleryRouter

from celery_budget.producer.backpressure import BackPressure
from celery_budget.producer.depths import Depths
from celery_budget.producer.lanes import Lanes
from celery_budget.producer.router import Router

if TYPE_CHECKING:
    from kombu import Queue

    from celery_budget.policy.model import Policy
    from celery_budget.stores.state import State


def budgeted(
    base: type[AMQP],
    policy: Callable[[], Policy],
    services: Callable[[], object],
    state: Callable[[], State],
) -> type[AMQP]:
    """Derive an AMQP class that routes by band.

    Args:
        base: The class the app has now.
        policy: Gives the app's policy; called at the first publish or worker start.
        services: Gives what the app's workers need beside it; the senders' side only carries it.
        state: Gives its state store; for tasks that run.
    """

    class BudgetAMQP(base):
        """Adds the queues that the policy names, and routes to them."""

        @staticmethod
        def policy() -> Policy:
            """Give the app's policy, to those who have only the app."""
            return policy()

        @staticmethod
        def services() -> object:
            """Give what a worker needs beside the policy."""
            return services()

        @staticmethod
        def state() -> State:
            """Give the app's state store, to running tasks."""
            return state()

        def Queues(self, queues: object, *args: object, **kwargs: object) -> Queues:  # noqa: N802
            known = super().Queues(queues, *args, **kwargs)
            _add_queues(known, policy())
            return known

        def lane(self, name: str) -> Queue:
            """Give a lane, also one beyond the policy's number."""
            known = self.queues
            return known[name] if name in known else _lane(known, name, known[policy().base(name)])

        @cached_property
        def lanes(self) -> Lanes:
            """What this process knows of the lanes it sends to."""
            return Lanes(self.app, self.depths)

        def depths(self) -> Depths:
            """Give what this process, and no parent of it, has seen of the queues it sends to."""
            known: dict[int, Depths] = self.__dict__.setdefault("_depths", {})
            pid = os.getpid()
            if pid not in known:
                # A thread does not outlive a fork.
                known.clear()
                known[pid] = Depths(self.app)
            return known[pid]

        def Router(self, *args: object, **kwargs: object) -> CeleryRouter:  # noqa: N802
            routed = super().Router(*args, **kwargs)
            return Router(policy, routed, self.lanes, BackPressure(self.app, self.depths))

    return BudgetAMQP


def _add_queues(known: Queues, policy: Policy) -> None:
    """Add the bands' queues and lanes."""
    for band in policy.bands:
        for name in band.queues:
            # `in`: a queue the user declared keeps its own arguments.
            if name not in known and name not in known.aliases:
                known.select_add(known.new_missing(name))
        for name in band.lane_queues:
            # Not selected: workers take lanes with their queue, also where `-Q` names it.
            if name not in known and name not in known.aliases:
                known.add(_lane(known, name, known[band.queues[0]]))


def _lane(known: Queues, name: str, base: Queue) -> Queue:
    """Make a lane: as Celery makes a queue of that name, and with its queue's own arguments."""
    made = known.new_missing(name)
    lane = copy(base)
    lane.name = lane.routing_key = name
    lane.exchange, lane.alias, lane.bindings = made.exchange, None, set()
    lane.queue_arguments = dict(base.queue_arguments or {}) or made.queue_arguments
    return lane
