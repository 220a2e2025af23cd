"""Notices: what a worker that starts says of a policy that it cannot keep in full."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from celery.utils.log import get_logger

if TYPE_CHECKING:
    from celery_budget.core.dispatcher import Dispatcher
    from celery_budget.policy.model import Policy
    from celery_budget.policy.preemption import Method

logger = get_logger(__name__)


def capped(dispatcher: Dispatcher, policy: Policy) -> None:
    """Say that there are too few slots for what is reserved, if that is so."""
    if dispatcher.capped:
        logger.warning(
            "The policy reserves %d slots and this worker has %d: reserves are cut so that one "
            "slot stays shared. Give the worker more slots (--concurrency) or lower `reserve`.",
            sum(band.reserve for band in policy.bands),
            dispatcher.slots,
        )


def obstacles(found: Mapping[Method, str]) -> None:
    """Say in which ways running tasks do not give way, and why."""
    for method, why_not in found.items():
        logger.warning(
            'Running tasks do not give way by "%s" on this worker, though that is asked for: %s.',
            method.value,
            why_not,
        )


def no_ceilings() -> None:
    """Say that ceilings are not kept."""
    logger.warning(
        "The policy has ceilings, and this worker's pool cannot stop a task: they are not "
        "kept here. Run what needs them on a worker with --pool prefork."
    )


def fallback(driver: str) -> None:
    """Say that messages cannot be asked for by number.

    Args:
        driver: kombu's `driver_type` of the transport.
    """
    logger.warning(
        "The %s transport has no windows for bands: messages come with Celery's own "
        "prefetch, and bands order only what this worker has prefetched. Use Redis or "
        "RabbitMQ for bands across the whole queue.",
        driver,
    )
