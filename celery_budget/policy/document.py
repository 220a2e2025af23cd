"""The shape of the policy file: its tables, keys, types and bounds, as an editor sees them.

No meaning is given to it here: `policy/load.py` reads a file into these shapes, checks what
one key alone cannot show, and builds the `Policy`. How single values are written is in
`policy/notation.py`. The descriptions end up in the JSON Schema. msgspec rather than
pydantic, because every worker loads this: 0.6 MB against 7.5 MB.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from celery_budget.policy.lanes import MAX_LANES
from celery_budget.policy.names import MAX_TEXT
from celery_budget.policy.notation import (
    Amount,
    BandName,
    BudgetKey,
    CallerOption,
    CeilingKey,
    Duration,
    LimitText,
    MethodName,
    OnLossName,
    OnOverloadName,
    Pattern,
    QueueName,
    ResourceName,
    Share,
)
from celery_budget.policy.spending import (
    MAX_BUDGETS,
    MAX_RESOURCES,
    BudgetTable,
    CeilingTable,
    EnvelopesTable,
)

#: A table of at most this many bands is a list of priorities; beyond it is a mistake, as
#: each band costs every worker a broker channel.
MAX_BANDS = 64


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
    reserve_most: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=100_000,
                description="Most slots of each worker kept for it when a forecast says so.",
            ),
        ]
        | UnsetType
    ) = UNSET
    lend: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="Of these, how many others may use with tasks that cannot give way.",
        ),
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
    on_ledger_loss: Annotated[
        OnLossName,
        Meta(description="What its tasks do while the ledger of the budgets is out of reach."),
    ] = "local"
    preempt: (
        Annotated[
            list[MethodName],
            Meta(description="How its running tasks may give way to a band above that preempts."),
        ]
        | UnsetType
    ) = UNSET
    degrade: (
        Annotated[bool, Meta(description="Its tasks can do less: asked to before they wait.")]
        | UnsetType
    ) = UNSET
    lanes: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_LANES,
            description="Sub-queues of its first queue, over which tenants are spread.",
        ),
    ] = 1
    max_queued: (
        Annotated[
            int,
            Meta(ge=1, le=2**31, description="Messages that may wait before on_overload."),
        ]
        | UnsetType
    ) = UNSET
    on_overload: (
        Annotated[
            OnOverloadName,
            Meta(description="What senders do with its tasks while too many wait."),
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
    cost: (
        Annotated[
            dict[ResourceName, Amount],
            Meta(description="What one execution is expected to use, by resource."),
        ]
        | UnsetType
    ) = UNSET
    preempt: (
        Annotated[
            list[MethodName],
            Meta(description="How they may give way while they run; an empty list: not at all."),
        ]
        | UnsetType
    ) = UNSET
    degrade: (
        Annotated[bool, Meta(description="They can do less: asked to before they wait.")]
        | UnsetType
    ) = UNSET


class TenantTable(Struct, forbid_unknown_fields=True):
    """What holds for the tenants that match, `[tenants."PATTERN"]`; most specific first."""

    weight: Annotated[
        float,
        Meta(
            ge=0.001,
            le=1_000_000,
            description="Share against the other tenants of the same band.",
        ),
    ] = 1.0


class PreemptionTable(Struct, forbid_unknown_fields=True):
    """What holds for all that gives way on one worker, `[preemption]`."""

    spare: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000,
            description="Processes beside the slots, for what runs while others are frozen.",
        ),
    ] = 1
    max_freeze: Annotated[
        Duration, Meta(description="Longest time for which a task is frozen at a stretch.")
    ] = "30s"
    checkpoint_every: Annotated[
        Duration, Meta(description="Shortest time between checkpoints that a task saves unasked.")
    ] = "1s"
    evict_grace: Annotated[
        Duration, Meta(description="Time from being told to end to being killed.")
    ] = "5s"
    max_checkpoint: Annotated[
        Amount, Meta(description="Largest checkpoint, as it is stored; at most 512MiB.")
    ] = "1MiB"


class PressureTable(Struct, forbid_unknown_fields=True):
    """From when on a worker's node is under pressure, `[pressure]`."""

    memory: Annotated[
        Share,
        Meta(description="Used part of the node's memory from which lesser tasks start elsewhere."),
    ] = "90%"
    stall: Annotated[
        Share,
        Meta(description="Part of the time in which all work waited for memory or for io."),
    ] = "60%"
    evict: Annotated[
        bool, Meta(description="Let tasks leave for want of memory, if they may give way so.")
    ] = True
    cpu: Annotated[
        Share | UnsetType,
        Meta(description="Used part of the processors from which lesser tasks stand still."),
    ] = UNSET


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
    budgets: Annotated[
        dict[
            BudgetKey,
            Annotated[
                dict[ResourceName, BudgetTable | LimitText | float],
                Meta(max_length=MAX_RESOURCES, description="Budgets by resource."),
            ],
        ],
        Meta(max_length=MAX_BUDGETS, description="Limits by whom they hold for."),
    ] = {}
    ceilings: Annotated[
        dict[CeilingKey, CeilingTable],
        Meta(description="What one execution may use, by whom it holds for."),
    ] = {}
    tenants: Annotated[dict[Pattern, TenantTable], Meta(description="Rules by tenant.")] = {}
    envelopes: (
        Annotated[EnvelopesTable, Meta(description="What holds for the envelopes of workflows.")]
        | UnsetType
    ) = UNSET
    preemption: (
        Annotated[PreemptionTable, Meta(description="What holds for running tasks that give way.")]
        | UnsetType
    ) = UNSET
    pressure: (
        Annotated[PressureTable, Meta(description="Watch what the workers' nodes have left.")]
        | UnsetType
    ) = UNSET
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
