"""Names of lanes: the sub-queues over which a band's tenants are spread.

Pure. Called by the policy's model and loader, the router and the worker.
"""

from __future__ import annotations

import re

#: Each lane of a band is a queue that every worker of it asks for tasks.
MAX_LANES = 64

_LANE = re.compile(r"(.+)\.lane(0|[1-9][0-9]?)", re.DOTALL)


def lane_of(queue: str, number: int) -> str:
    """Name one lane of a queue."""
    return f"{queue}.lane{number}"


def lanes_of(queue: str, count: int) -> tuple[str, ...]:
    """Name the lanes of a queue; one alone is the queue itself, and no lane."""
    return tuple(lane_of(queue, number) for number in range(count)) if count > 1 else ()


def number_of(lane: str) -> int:
    """Tell the number of a lane by its name."""
    found = _LANE.fullmatch(lane)
    assert found is not None
    return int(found[2])


def queue_of(name: str) -> str | None:
    """Name the queue of which a name would be a lane; None where it cannot be one."""
    found = _LANE.fullmatch(name)
    return None if found is None or int(found[2]) >= MAX_LANES else found[1]
