"""Which lane of its band a task goes to: two of them by its tenant's name, the shorter of these.

So a tenant with an enormous backlog fills its own two lanes, and others wait behind it only where
both of theirs are the same two. Of eight lanes that is one pair of names in 28; so a tenant that
did not fill them itself goes on to the next lane of its order. Pure; called by the sender's side
and by tests. Reasons and limits: docs/explanation/lanes.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

#: Lanes that are a tenant's own. With two, one is free of any other single tenant's backlog
#: unless both are the same, and a backlog takes a quarter of eight.
OWN = 2

#: A lane is far deeper than another with so many times as many messages, and so many more. 8: of
#: a tenant whose messages come from processes that do not know of each other, each further lane
#: gets an eighth of what the one before has.
TIMES = 8
MORE = 16

#: A tenant keeps to its own lanes while at least one in so many of the messages there may be its
#: own. 64: a backlog is still known as its own by each of 64 processes that sent equal parts, and
#: a tenant with a 64th of an enormous backlog has one itself.
PART = 64


@lru_cache(maxsize=10_000)
def order_of(tenant: str, count: int) -> tuple[int, ...]:
    """Give the lanes in the order in which a tenant uses them: the same in every process.

    By rendezvous hashing, so that another number of lanes changes few tenants' own.
    """
    drawn = [
        (blake2b(f"{number} {tenant}".encode(), digest_size=8).digest(), number)
        for number in range(count)
    ]
    return tuple(number for _, number in sorted(drawn))


def choose(order: Sequence[int], depths: Sequence[int], own: int) -> int:
    """Choose the lane for one task.

    Args:
        order: Of the tenant, see `order_of`.
        depths: Messages that wait in each lane, as far as known.
        own: How many of those in its own lanes the tenant may have sent itself, as far as known.
    """
    chosen = min(order[:OWN], key=depths.__getitem__)
    if own * PART < sum(depths[number] for number in order[:OWN]):
        for number in order[OWN:]:
            if depths[number] * TIMES + MORE < depths[chosen]:
                chosen = number
            elif depths[number] * 2 < depths[chosen]:
                # What did not fit into the lane before: it may be this tenant's, unknown here.
                break
    return chosen
