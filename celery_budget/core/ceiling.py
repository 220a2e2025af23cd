"""Ceilings: when one execution has used more than it may, and what to do about it then.

Pure: the worker samples what runs and hands in what it saw.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from celery_budget.policy.budget import Bound, Ceiling


class Step(StrEnum):
    """What to do to an execution beyond a ceiling."""

    TELL = "tell"  # ask it to end, as a soft time limit does
    STOP = "stop"  # end it


class Sample(NamedTuple):
    """What an execution uses, seen from outside; None: nobody can tell.

    Attributes:
        cpu: Microseconds of CPU time since it began.
        memory: Bytes that its processes hold resident now.
        runtime: Microseconds since it began.
    """

    cpu: int | None
    memory: int | None
    runtime: int | None


class Excess(NamedTuple):
    """The ceiling that was passed.

    Attributes:
        resource: "cpu", "memory" or "runtime".
        used: Units of it when that was seen.
        limit: Units that were allowed.
        path: Place of the ceiling in the policy.
    """

    resource: str
    used: int
    limit: int
    path: str


class Watch:
    """One execution under a ceiling.

    Attributes:
        ceiling: What it may use.
    """

    __slots__ = ("_is_told", "_passed", "ceiling")

    def __init__(self, ceiling: Ceiling) -> None:
        self.ceiling = ceiling
        self._passed: dict[str, tuple[float, int]] = {}
        self._is_told = False

    def look(self, sample: Sample, now: float) -> tuple[Step, Excess] | None:
        """Say what to do, if anything.

        An execution that went beyond stays beyond: freeing memory after having been told does
        not end its grace. Each ceiling's grace counts from when that one was passed.

        Args:
            sample: Taken at `now`.
            now: Seconds on any clock that does not go back.

        Returns:
            To tell, once; to stop, from the end of the grace on whenever asked.
        """
        told = None
        for resource, used in sample._asdict().items():
            bound: Bound | None = getattr(self.ceiling, resource)
            if bound is None:
                continue
            begun, most = self._passed.get(resource, (now, 0))
            most = max(most, used or 0)
            if most <= bound.units:
                continue
            self._passed[resource] = begun, most
            excess = Excess(resource, most, bound.units, bound.path)
            if now >= begun + bound.grace_us / 1e6:
                return Step.STOP, excess
            if not self._is_told and told is None:
                told = Step.TELL, excess
        if told is not None:
            self._is_told = True
        return told
