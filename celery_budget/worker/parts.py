"""Parts of a worker that only some policies ask for; made for the bootstep, as far as they are.

Some load psutil, which workers without them have no use for: hence the imports within.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from celery_budget.board import PoolKind
from celery_budget.worker import seams

if TYPE_CHECKING:
    from celery.concurrency.base import BasePool
    from celery.worker.consumer import Consumer

    from celery_budget.policy.model import Policy
    from celery_budget.worker.backlog import Backlog
    from celery_budget.worker.ceilings import Ceilings
    from celery_budget.worker.intake import Held
    from celery_budget.worker.metering import Metering
    from celery_budget.worker.pressure import NodeWatch
    from celery_budget.worker.pump import Pump
    from celery_budget.worker.scaling import PoolScaling
    from celery_budget.worker.services import Services


def ceilings(policy: Policy, pool: BasePool, metering: Metering) -> Ceilings:
    """Make what keeps the policy's ceilings, for a pool of children."""
    from celery_budget.worker.ceilings import Ceilings  # noqa: PLC0415

    return Ceilings(policy, pool, metering)


def node(
    policy: Policy,
    services: Services,
    kind: PoolKind | None,
    running: Callable[[], Iterable[Held]],
) -> NodeWatch | None:
    """Make what looks at the worker's node; None for a policy without `[pressure]`."""
    if policy.pressure is None:
        return None
    from celery_budget.worker.node import NodeGauge  # noqa: PLC0415
    from celery_budget.worker.pressure import NodeWatch  # noqa: PLC0415

    processors = None
    if policy.pressure.cpu is not None:
        from celery_budget.worker.processors import ProcessorGauge  # noqa: PLC0415

        processors = ProcessorGauge()
    return NodeWatch(
        NodeGauge(services.node_memory),
        running,
        has_children=kind is PoolKind.PREFORK,
        processors=processors,
    )


def scaling(consumer: Consumer, pump: Pump, backlog: Backlog) -> PoolScaling | None:
    """Make what lets the pool follow the load; None where the autoscaler is not ours."""
    autoscaler = seams.budget_autoscaler(consumer)
    if autoscaler is None:
        return None
    from celery_budget.worker.scaling import PoolScaling  # noqa: PLC0415

    return PoolScaling(autoscaler, pump, backlog)
