"""Node pressure: how short a worker's node is of memory and of io, from one look to the next.

Under pressure lesser work is left to other nodes; before that it is throttled in proportion. What
the kernel tells is the worker's matter (`worker/pressure.py`). Used by `core/node.py` alone.
Rules: docs/explanation/node-pressure.md.
"""

from __future__ import annotations

from typing import NamedTuple

from celery_budget.core.rest import Rest
from celery_budget.policy.pressure import PressureRule

#: At this part of a limit lesser bands begin to be throttled. At its goal the throttle holds the
#: need halfway between here and the limit.
NEAR = 0.8

#: Pressure is over when all needs have been below this part of their limits for so many seconds,
#: so that a node at its limit does not send work away and take it again each second.
CLEAR = 0.9
REST_S = 5.0


class Sample(NamedTuple):
    """What one look at a node told.

    Attributes:
        used: Memory in use, bytes.
        limit: Memory there is, bytes; > 0.
        stall: Part of the last seconds in which all that had work to do waited for memory or for
            io; 0.0 where nothing tells.
        base: What a child of the worker takes before it runs anything, bytes.
    """

    used: int
    limit: int
    stall: float = 0.0
    base: int = 0


class Pressure:
    """Whether a node is under pressure.

    Args:
        rule: As declared.

    Attributes:
        rule: As given; it may change.
        is_high: Whether it is.
        need: The largest need by its limit, as last seen; 1 at the limit.
    """

    __slots__ = ("_rest", "is_high", "need", "rule")

    def __init__(self, rule: PressureRule) -> None:
        self.rule = rule
        self.is_high = False
        self.need = 0.0
        self._rest = Rest(REST_S, REST_S)

    def look(self, sample: Sample, now: float) -> None:
        """Follow one look at the node.

        Args:
            sample: What it told.
            now: Unix seconds.
        """
        rule = self.rule
        self.need = max(sample.used / sample.limit / rule.memory, sample.stall / rule.stall)
        if self.need >= 1.0:
            self.is_high = True
        if self._rest.is_over(now, is_calm=self.need < CLEAR):
            self.is_high = False

    @property
    def shortage(self) -> float:
        """Tell the need as a throttle takes it: 0 up to `NEAR`, 1 at the limit."""
        return max(0.0, (self.need - NEAR) / (1.0 - NEAR))

    def excess(self, sample: Sample) -> int:
        """Tell how many bytes would have to come free for memory to be no reason, at least 0."""
        return max(0, sample.used - int(CLEAR * self.rule.memory * sample.limit))
