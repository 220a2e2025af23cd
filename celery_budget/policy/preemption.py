"""Preemption as the policy declares it: how running tasks may be made to give way."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Method(StrEnum):
    """How a running task gives way to one of a higher band."""

    FREEZE = "freeze"  # its process is stopped, and goes on afterwards where it was
    CHECKPOINT = "checkpoint"  # it saves its progress and ends, and a later run goes on from there
    EVICT = "evict"  # it is ended, and a later run begins anew or goes on from its last checkpoint


#: Bytes; Redis takes no longer value.
LARGEST_CHECKPOINT = 2**29


@dataclass(frozen=True, slots=True)
class PreemptionRule:
    """What holds for all that gives way on one worker, `[preemption]`.

    Attributes:
        spare: Processes of a worker beside its slots, in which urgent tasks run while others are
            frozen; >= 1. As many tasks can give way at once.
        max_freeze_s: Longest time for which a task is frozen at a stretch, seconds.
        checkpoint_every_s: Shortest time between two checkpoints that a task saves unasked,
            seconds.
        max_checkpoint: Largest checkpoint, bytes as they are stored.
        evict_grace_s: From being told to end to being killed, seconds.
    """

    spare: int = 1
    max_freeze_s: float = 30.0
    checkpoint_every_s: float = 1.0
    max_checkpoint: int = 2**20
    evict_grace_s: float = 5.0


#: Of a policy that says nothing.
DEFAULT_PREEMPTION = PreemptionRule()
