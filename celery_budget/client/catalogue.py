"""The catalogue: the app's task types, their bands, and what the fleet has learned of them.

Reads the ledger's server; where each worker keeps a ledger of its own, asks the workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, cast

from celery_budget.core.needs import COUNTED
from celery_budget.core.sketch import Profile, Sketch
from celery_budget.core.summary import Summary, summarize
from celery_budget.errors import LedgerUnavailable
from celery_budget.headers import HEADER, read
from celery_budget.ledger import MEMORY, ledger_url, stores

if TYPE_CHECKING:
    from celery import Celery

    from celery_budget.client.workers import Workers
    from celery_budget.policy.model import Policy

#: Task types that are looked up: more than the largest apps have.
MOST_TASKS = 10_000

#: Tasks of Celery's own, which nobody publishes by hand.
_CELERYS = "celery."

#: The lease does not matter to one who only looks.
_NO_LEASE = 0


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One task type.

    Attributes:
        task: Its name.
        band: Of a call without options; None where a router of the app needs more to tell.
        resources: What executions use, for each resource that a budget of the policy limits.
    """

    task: str
    band: str | None
    resources: Mapping[str, Summary]


def is_kept_by_workers(app: Celery) -> bool:
    """Tell whether profiles are in the workers' memory and nowhere else."""
    return ledger_url(app) == MEMORY


def fleets_profiles(app: Celery) -> dict[str, Profile]:
    """Read what the fleet knows.

    Raises:
        LedgerUnavailable: the ledger's server cannot be reached.
    """
    return stores(app, _NO_LEASE).profiles.profiles(most=MOST_TASKS)


def workers_profiles(workers: Workers, timeout: float) -> dict[str, Profile]:
    """Ask all workers what they know, and add it up.

    Raises:
        LedgerUnavailable: none answered.
    """
    replies = workers.ask("budget_profiles", {}, timeout)
    if not replies:
        raise LedgerUnavailable(
            "profiles", "no worker answered, and each keeps its own (memory://)"
        )
    found: dict[str, Profile] = {}
    for reply in replies.values():
        # A worker without celery-budget answers with an error.
        told = cast("Mapping[str, Mapping[str, list[int]]]", reply.get("profiles", {}))
        for task, profile in told.items():
            for resource, numbers in profile.items():
                sketch = found.setdefault(task, {}).setdefault(resource, Sketch())
                sketch.add(Sketch.of(numbers))
    return found


def list_tasks(
    app: Celery, policy: Policy, profiles: Mapping[str, Profile], pattern: str
) -> list[CatalogueEntry]:
    """List the task types of the app and those that are known besides, by name.

    Args:
        app: Its tasks are imported, as a worker does.
        policy: Of the app.
        profiles: What is known of task types.
        pattern: Shell pattern over task names.
    """
    app.loader.import_default_modules()
    app.finalize()
    names = {name for name in app.tasks if not name.startswith(_CELERYS)} | set(profiles)
    resources = sorted({budget.resource for budget in policy.budgets} - COUNTED)
    return [
        CatalogueEntry(
            name,
            _band(app, name),
            {
                resource: summarize(profiles.get(name, {}).get(resource, Sketch()))
                for resource in resources
            },
        )
        for name in sorted(names)
        if fnmatchcase(name, pattern)
    ]


def _band(app: Celery, task: str) -> str | None:
    """Route a call without options or arguments, and see where it goes."""
    try:
        routed = app.amqp.router.route({}, task, (), {}, app.tasks.get(task))
    except Exception:  # noqa: BLE001 - a router of the app's own may want a call's arguments
        return None
    stamp = read((routed.get("headers") or {}).get(HEADER))
    return None if stamp is None else stamp.band
