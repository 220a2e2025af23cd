"""The look-ahead: how many messages beyond the free slots keep the pool busy.

A slot that becomes free waits one fetch for its next message. With short tasks that wait is a
large part of the time, so some messages must be at hand; with long tasks it is nothing, and a
message at hand is one that no other worker can start.

The worker asks for every band after every start and end, so the dispatcher keeps the sums and
counts in millionths of a message: whole numbers do not drift, however often one is added and
taken away again.
"""

from __future__ import annotations

#: What the messages at hand must last for, seconds: a broker round trip and a turn of the event
#: loop, 1 ms when idle and up to some 30 ms on the loaded two-core machine this was built on.
HORIZON_S = 0.05

#: Most messages at hand for each slot; twice Celery's own prefetch multiplier of 4, because it
#: counts running tasks too.
MOST_PER_SLOT = 8

#: Parts of one message that are counted.
PARTS = 1_000_000

#: Added before parts are cut to whole messages, for bands that share by weight: a fifth of a
#: message counts as one. That is where a slot becomes free every 0.25 s, and no ticket waits long
#: enough for a message that was asked for only then (`GATHER_S` / `GATHER_PART` in patience.py), so
#: that turns would go to whoever has a message at hand. For bands served by rank the message is
#: better left to a worker that may be idle.
SHARED_ROUNDING = PARTS * 4 // 5


def parts(expected_s: float) -> int:
    """Tell how much of a message one slot uses up within the horizon.

    Args:
        expected_s: Service time, seconds; > 0.
    """
    return int(HORIZON_S * PARTS / expected_s)


def most_ahead(band_parts: int, slots: int) -> int:
    """Tell how many messages of a band are at hand at most.

    What all slots together would use up of it, and one: a band of long tasks needs that one
    where short tasks of another hand the slots over faster than a message comes. Without it no
    slot would ever be seen free, and the band would never be asked for.

    Args:
        band_parts: What one slot uses up of this band's messages, as `parts` tells.
        slots: Of the whole worker.
    """
    return min(1 + band_parts * slots // PARTS, MOST_PER_SLOT * slots)
