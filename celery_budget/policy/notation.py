"""How single values of the policy file are written, as an editor sees them.

Patterns and bounds that one value alone shows to be wrong; they end up in the JSON Schema.
The texts are read by `units.py` and the files that know their meaning, which refuse more.
Called by `policy/document.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from celery_budget.policy.names import NAME_PATTERN

#: Longest task name or pattern, in characters.
MAX_PATTERN = 255

DurationText = Annotated[
    str,
    Meta(
        pattern=r"^\s*([0-9]+(\.[0-9]+)?\s*(d|h|m|s|ms)\s*)+$|^\s*[0-9]+(\.[0-9]+)?\s*$",
        description='For example "250ms", "2s", "1h30m", "1d".',
        examples=["250ms", "2s", "1h30m", "1d"],
    ),
]
Duration = DurationText | Annotated[float, Meta(gt=0, description="Seconds.")]
BandName = Annotated[str, Meta(pattern=NAME_PATTERN, description="Name of a band.")]
QueueName = Annotated[str, Meta(min_length=1, max_length=255)]
ResourceName = Annotated[
    str,
    Meta(
        pattern=NAME_PATTERN,
        description="starts, slots, cpu, memory, io, network, runtime, or one of your own.",
    ),
]
Amount = (
    Annotated[
        str,
        Meta(
            pattern=r"^\s*[0-9]",
            description='"3s" of cpu or runtime, "200MiB" of memory, io or network, else "5.00".',
            examples=["3s", "200MiB", "5.00"],
        ),
    ]
    | Annotated[float, Meta(ge=0, description="Seconds, bytes, or wholes of the resource.")]
)
LimitText = Annotated[
    str,
    Meta(
        pattern=r"^\s*[0-9][^/]*(/[^/]*[0-9A-Za-z]\s*)?$",
        description="An amount for a window, or without one what may be held at once.",
        examples=["120s/1m", "5.00/1d", "100/month", "8GiB"],
    ),
]
Limit = LimitText | Annotated[float, Meta(gt=0, description="What may be held at once.")]
Share = (
    Annotated[
        str,
        Meta(
            pattern=r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$",
            description='For example "80%".',
            examples=["80%"],
        ),
    ]
    | Annotated[float, Meta(gt=0, le=1, description="For example 0.8.")]
)
ActionName = Literal["hold", "degrade", "demote", "shed"]
OnLossName = Literal["open", "local", "closed"]
OnOverloadName = Literal["delay", "degrade", "raise"]
MethodName = Literal["freeze", "checkpoint", "evict"]
BudgetKey = Annotated[
    str,
    Meta(
        pattern=(
            r"^(fleet|(region|node|worker|band|queue|task|tenant):.+"
            r"|header:[A-Za-z0-9_.-]{1,64}:.+)$"
        ),
        description='"fleet", "SCOPE:PATTERN" or "header:NAME:PATTERN".',
        examples=["fleet", "tenant:*", "task:reports.*", "header:x-team:*"],
    ),
]
CeilingKey = Annotated[
    str,
    Meta(
        pattern=r"^(task|band|tenant|queue):.+$",
        description='"SCOPE:PATTERN" with task, band, tenant or queue as scope.',
        examples=["task:*", "band:optional"],
    ),
]
Pattern = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_PATTERN,
        description='Task name, or shell pattern over task names such as "payments.*".',
    ),
]
CallerOption = Literal["band", "tenant", "deadline", "expires", "cost"]
