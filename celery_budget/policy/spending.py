"""The shape of the tables of the policy file that say what tasks may spend.

See `policy/document.py`, which has the others.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from celery_budget.policy.notation import (
    MAX_PATTERN,
    ActionName,
    Amount,
    BandName,
    Duration,
    Limit,
    ResourceName,
    Share,
)

#: Each budget may give every matching name an account of its own, and every account is
#: looked at before a task starts.
MAX_BUDGETS = 256
MAX_RESOURCES = 16


class StepTable(Struct, forbid_unknown_fields=True):
    """One step of `on_exhausted`: what happens from a share of the limit on."""

    do: Annotated[ActionName, Meta(description="hold, degrade, demote or shed.")]
    at: (
        Annotated[Share, Meta(description="Used share of the limit where it begins.")] | UnsetType
    ) = UNSET


class BudgetTable(Struct, forbid_unknown_fields=True):
    """The budget of one resource, `[budgets."SCOPE:PATTERN"]`; or just its limit as text."""

    limit: Annotated[Limit, Meta(description="AMOUNT/WINDOW, or AMOUNT of what is held.")]
    burst: (
        Annotated[
            Amount,
            Meta(description="Most that any window may have on top of the limit."),
        ]
        | UnsetType
    ) = UNSET
    time_zone: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=MAX_PATTERN,
                description="Where a day, week or month begins. Default: UTC.",
                examples=["Europe/Berlin"],
            ),
        ]
        | UnsetType
    ) = UNSET
    on_exhausted: (
        Annotated[
            ActionName | list[StepTable],
            Meta(description="What happens to tasks when the budget runs out. Default: hold."),
        ]
        | UnsetType
    ) = UNSET
    at: (
        Annotated[
            Share, Meta(description="Used share of the limit where a single on_exhausted begins.")
        ]
        | UnsetType
    ) = UNSET
    reserve: (
        Annotated[
            dict[BandName, Share],
            Meta(description="Shares of the limit kept for a band and the bands above it."),
        ]
        | UnsetType
    ) = UNSET


class CeilingTable(Struct, forbid_unknown_fields=True):
    """What one execution may use, `[ceilings."SCOPE:PATTERN"]`; beyond it, it is stopped."""

    cpu: Annotated[Duration, Meta(description="Processor time.")] | UnsetType = UNSET
    memory: Annotated[Amount, Meta(description="Memory at the peak.")] | UnsetType = UNSET
    runtime: Annotated[Duration, Meta(description="Wall time.")] | UnsetType = UNSET
    grace: (
        Annotated[Amount, Meta(description="Time from being told to stop to being stopped.")]
        | UnsetType
    ) = UNSET


class EnvelopesTable(Struct, forbid_unknown_fields=True):
    """What holds for the envelopes of workflows, `[envelopes]`."""

    on_exhausted: (
        Annotated[
            ActionName | list[StepTable],
            Meta(description="What happens to parts when one is used up. Default: shed."),
        ]
        | UnsetType
    ) = UNSET
    at: (
        Annotated[
            Share, Meta(description="Used share of an amount where a single on_exhausted begins.")
        ]
        | UnsetType
    ) = UNSET
    resources: (
        Annotated[
            list[ResourceName],
            Meta(
                max_length=MAX_RESOURCES,
                description="What envelopes may name beside what the rest of the policy names.",
            ),
        ]
        | UnsetType
    ) = UNSET
