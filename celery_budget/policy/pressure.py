"""Node pressure as the policy declares it: from when on a node has too little left."""

from __future__ import annotations

from dataclasses import dataclass

from celery_budget.policy.document import PressureTable
from celery_budget.policy.problems import Problems
from celery_budget.policy.table import Table


@dataclass(frozen=True, slots=True)
class PressureRule:
    """From when on a worker's node is under pressure, `[pressure]`.

    Attributes:
        memory: Used part of the node's memory; 0 < memory <= 1. A tenth is left for what lesser
            work that runs may still take, and for the kernel's own.
        stall: Part of the time in which all that had work to do waited for memory or for io;
            0 < stall <= 1. The default is that at which systemd-oomd begins to act.
        evict: Whether running tasks that may leave their slot do so for want of memory.
        cpu: Part of the node's processors that may be in use before lesser tasks stand still for
            urgent ones; 0 < cpu <= 1. None: nobody does.
    """

    memory: float = 0.9
    stall: float = 0.6
    evict: bool = True
    cpu: float | None = None


def read_pressure(raw: object, problems: Problems) -> PressureRule:
    """Read `[pressure]`, noting what is wrong with it."""
    table = Table(PressureTable, raw, "pressure", problems)
    plain = PressureRule()
    return PressureRule(
        memory=table.share("memory") or plain.memory,
        stall=table.share("stall") or plain.stall,
        evict=table.is_set("evict") if "evict" in table else plain.evict,
        cpu=table.share("cpu"),
    )
