"""Reads what holds for the envelopes of workflows, `[envelopes]`.

Called by `policy/load.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from celery_budget.policy.envelope import DEADLINE, EnvelopeRule
from celery_budget.policy.exhaustion import read_steps
from celery_budget.policy.limit import CAPACITIES
from celery_budget.policy.problems import Problems, join
from celery_budget.policy.spending import EnvelopesTable
from celery_budget.policy.table import Table

#: Keys of an envelope that are no resource.
RESERVED = ("id", "at", DEADLINE)


def read_envelopes(raw: object, bands: Sequence[str], problems: Problems) -> EnvelopeRule:
    """Read `[envelopes]`, noting what is wrong with it.

    Args:
        raw: What the file holds there; anything at all.
        bands: Of the policy, as written, most urgent first.
        problems: Gets every mistake.
    """
    plain = EnvelopeRule()
    table = Table(EnvelopesTable, raw, "envelopes", problems)
    is_lowest = len(bands) < 2  # noqa: PLR2004
    resources = table.texts("resources") or ()
    place = join("envelopes", "resources")
    for resource in resources:
        if resource in CAPACITIES:
            problems.add(place, f"{resource} is held and given back, and no envelope can have it")
        elif resource in RESERVED:
            problems.add(place, f"{resource} is a part of each envelope, not a resource")
    return EnvelopeRule(
        actions=read_steps(table, problems, is_lowest=is_lowest, default=plain.actions),
        resources=tuple(sorted(set(resources))),
    )
