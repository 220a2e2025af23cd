"""Staffing: how many slots an expected load needs, and how many of them each worker keeps.

The square-root rule: with a load of L slots in use on average, L + z sqrt(L) of them are nearly
always enough, as the number in use varies like a Poisson variable (Halfin and Whitt, 1981).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, sqrt

#: At 2, all slots are in use at about one arrival in fifty.
Z = 2.0


def needed(load: float) -> int:
    """Tell how many slots a load needs.

    Args:
        load: Slots in use on average: arrivals a second by their service time.
    """
    # A half less, as whole slots stand for all that is up to half of one above them.
    return max(0, ceil(load + Z * sqrt(load) - 0.5))


def portion(total: int, crew: Mapping[str, int], worker: str) -> int:
    """Tell how many of a fleet's slots one worker keeps: by its slots, and in all just as many.

    Args:
        total: Slots that the fleet is to keep.
        crew: Slots of each worker by name; `worker` among them.
        worker: Which.
    """
    slots = sum(crew.values())
    before = sum(crew[name] for name in crew if name < worker)
    until = before + crew[worker]
    return _parts(total, until, slots) - _parts(total, before, slots)


def _parts(total: int, part: int, slots: int) -> int:
    """Round up without floats: two workers must not round the same border differently."""
    return -(-total * part // slots)
