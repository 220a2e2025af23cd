"""What the fleet expects: read from the ledger's server, or asked of workers that have none.

The reckoning is that of the workers: a season of what was counted, and what it lets expect.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, cast

from celery.exceptions import ImproperlyConfigured

from celery_budget.core.outlook import Outlook, outlook
from celery_budget.core.season import WEEK, Row, Season, bin_of
from celery_budget.errors import LedgerUnavailable
from celery_budget.ledger import MEMORY, ledger_url, stores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery import Celery

    from celery_budget.client.workers import Workers
    from celery_budget.policy.model import Policy

#: The lease does not matter to one who only looks.
_NO_LEASE = 0

#: Workers tell what they have counted every 5 s: before so long ago, all of it is told.
TOLD_S = 10.0


def is_counted_alone(app: Celery) -> bool:
    """Tell whether each worker goes by what it has counted itself."""
    try:
        return ledger_url(app) == MEMORY
    except ImproperlyConfigured:
        return True


def fleets_outlooks(app: Celery, policy: Policy) -> list[Outlook]:
    """Tell what the fleet expects of each band that is forecast.

    Raises:
        LedgerUnavailable: the ledger's server cannot be reached.
    """
    found = []
    now = time()
    week = bin_of(now) // WEEK
    for band in policy.bands:
        if band.reserve_most is not None:
            season = Season()
            season.remember(stores(app, _NO_LEASE).arrivals.weeks(band.name, week), week)
            found.append(outlook(band.name, season, now, now - TOLD_S))
    return found


def workers_outlooks(workers: Workers, timeout: float) -> list[Outlook]:
    """Ask each worker what it expects.

    Raises:
        LedgerUnavailable: none answered.
    """
    replies = workers.ask("budget_forecast", {}, timeout)
    if not replies:
        raise LedgerUnavailable("forecast", "no worker answered, and each goes by its own count")
    now = time()
    found = []
    for worker, reply in replies.items():
        # A worker without celery-budget answers with an error.
        told = cast("Mapping[str, Mapping[str, Mapping[str, list[int]]]]", reply.get("bands", {}))
        for band, weeks in told.items():
            season = Season()
            rows = {
                int(week): {task: Row(busy_us, counts) for task, (busy_us, *counts) in rows.items()}
                for week, rows in weeks.items()
            }
            season.remember(rows, bin_of(now) // WEEK)
            until = cast("float", reply["until"]) or now
            found.append(outlook(band, season, now, until, worker))
    return found
