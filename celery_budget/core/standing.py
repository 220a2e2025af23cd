"""A standing: what a worker tells of a capacity so that urgent work need not wait for lesser work.

A value, told with each line of a report (`exchange.py`). Whose units have to come back is decided
in `recall.py`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

#: Units by rank of the band, most urgent first, each rank once.
ByRank = tuple[tuple[int, int], ...]


class Standing(NamedTuple):
    """How a worker's tickets stand to one capacity.

    Attributes:
        claims: Units that waiting tickets of bands that preempt want and could start with; a part
            of the line's wants.
        leaving: Units of running tickets that were asked to leave, and are expected to soon.
        loose: Units of running tickets that could be asked to leave now, by the tickets' own rank.
    """

    claims: ByRank = ()
    leaving: int = 0
    loose: ByRank = ()


#: Of a worker that neither claims anything nor has anything to give back.
NONE = Standing()


def problem_of(standing: Standing, most: int) -> str:
    """Name what is not a standing; "" when all is well.

    Args:
        standing: As told.
        most: No number may be larger.
    """
    for parts in (standing.claims, standing.loose):
        if any(not (0 <= rank <= most and 0 < units <= most) for rank, units in parts):
            return f"number in {standing}"
        if any(early[0] >= late[0] for early, late in pairwise(parts)):
            return f"order of ranks in {standing}"
    return "" if 0 <= standing.leaving <= most else f"number in {standing}"
