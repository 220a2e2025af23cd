"""The shape of the policy file: its tables, keys, types and bounds, as an editor sees them.

No meaning is given to it here: `policy/load.py` reads a file into these shapes, checks what
one key alone cannot show, and builds the `Policy`. The descriptions end up in the JSON
Schema. msgspec rather than pydantic, because every worker loads this: 0.6 MB against 7.5 MB.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from celery_budget.policy.names import MAX_TEXT, NAME_PATTERN

#: A table of at most this many bands is a list of priorities; beyond it is a mistake, as
#: each band costs every worker a broker channel.
MAX_BANDS = 64

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
Pattern = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_PATTERN,
        description='Task name, or shell pattern over task names such as "payments.*".',
    ),
]
CallerOption = Literal["band", "tenant", "deadline", "expires"]


class BandTable(Struct, forbid_unknown_fields=True):
    """One band, `[bands.NAME]`; its place in the file is its rank, most urgent first."""

    queues: (
        Annotated[
            list[QueueName],
            Meta(
                min_length=1,
                max_length=1024,
                description="Queues it owns; tasks go to the first. Default: the band's name.",
            ),
        ]
        | UnsetType
    ) = UNSET
    # Bounds, not just > 0: outside of them cost / weight loses the precision that fair
    # queueing adds it up with. Every number here has two bounds, which keeps nan and inf out.
    weight: Annotated[
        float,
        Meta(
            ge=0.001,
            le=1_000_000,
            description="Share of the slots against the other bands that do not preempt.",
        ),
    ] = 1.0
    reserve: Annotated[
        int,
        Meta(ge=0, le=100_000, description="Slots of each worker kept free for this band."),
    ] = 0
    min_share: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="Least part of each worker's slot time while the band has work waiting.",
        ),
    ] = 0.0
    preempts: Annotated[
        bool, Meta(description="Serve the band strictly by rank, before any weights.")
    ] = False
    latency_target: (
        Annotated[Duration, Meta(description="Wanted time from publish to start.")] | UnsetType
    ) = UNSET
    deadline: (
        Annotated[
            Duration,
            Meta(description="Soft deadline, from publish, of tasks that name none."),
        ]
        | UnsetType
    ) = UNSET
    expires: (
        Annotated[
            Duration,
            Meta(description="Hard expiry, from publish, of tasks that name none."),
        ]
        | UnsetType
    ) = UNSET


class TaskTable(Struct, forbid_unknown_fields=True):
    """What holds for the task names that match, `[tasks."PATTERN"]`; most specific first."""

    band: Annotated[str, Meta(description="Band of these tasks.")] | UnsetType = UNSET
    tenant: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=MAX_TEXT,
                description='Whose work it is: a template over the arguments, "{customer_id}".',
            ),
        ]
        | UnsetType
    ) = UNSET
    deadline: Annotated[Duration, Meta(description="Soft deadline, from publish.")] | UnsetType = (
        UNSET
    )
    expires: Annotated[Duration, Meta(description="Hard expiry, from publish.")] | UnsetType = UNSET


class Document(Struct, forbid_unknown_fields=True):
    """A celery-budget policy."""

    default_band: (
        Annotated[
            str,
            Meta(description="Band of tasks that name none; may be left out if there is one."),
        ]
        | UnsetType
    ) = UNSET
    bands: Annotated[
        dict[BandName, BandTable],
        Meta(max_length=MAX_BANDS, description="The bands, most urgent first."),
    ] = {}
    tasks: Annotated[
        dict[Pattern, TaskTable], Meta(description="Rules by task name; the file decides.")
    ] = {}
    caller_options: (
        Annotated[
            list[CallerOption],
            Meta(description="Options a call may set; others are ignored with a warning."),
        ]
        | UnsetType
    ) = UNSET
    seed: Annotated[
        int,
        Meta(
            ge=0,
            le=2**63 - 1,
            description="Starts the rotating tie-break; the same seed gives the same order.",
        ),
    ] = 0
