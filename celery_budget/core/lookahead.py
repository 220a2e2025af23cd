"""The look-ahead: how many messages beyond the free slots keep the pool busy.

A slot that becomes free waits one fetch for its next message. With short tasks that wait is a
large part of the time, so some messages must be at hand; with long tasks it is nothing, and a
message at hand is one that no other worker can start.
"""

from __future__ import annotations

#: What the messages at hand must last for, seconds: a broker round trip and a turn of the event
#: loop, 1 ms when idle and up to some 30 ms on the loaded two-core machine this was built on.
HORIZON_S = 0.05

#: Most messages at hand for each slot; twice Celery's own prefetch multiplier of 4, because it
#: counts running tasks too.
MOST_PER_SLOT = 8


def look_ahead(releases_per_s: float, slots: int) -> int:
    """Tell how many messages to have at hand.

    Args:
        releases_per_s: How often one of the slots becomes free.
        slots: Of the whole worker.
    """
    return min(int(releases_per_s * HORIZON_S), MOST_PER_SLOT * slots)
