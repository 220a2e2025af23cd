"""Waits: how long the tickets of one band waited to start, beside what was wanted.

Counted in steps of a fifth on a logarithmic scale, so that a period of any number of starts takes
the same little memory. Used by the throttle alone.
"""

from __future__ import annotations

from math import log2

#: Steps for each doubling.
_STEPS = 4

#: Waits are told apart from an eighth of the target to eight times it. What is beyond that needs
#: no other answer.
_OCTAVES = 3

_MIDDLE = _STEPS * _OCTAVES
_PLACES = 2 * _MIDDLE + 1


class Waits:
    """The waits of one period.

    Args:
        target_s: Wanted time from publishing to start, seconds; > 0.

    Attributes:
        count: How many there were.
    """

    __slots__ = ("_places", "count", "target_s")

    def __init__(self, target_s: float) -> None:
        self.target_s = target_s
        self.clear()

    def clear(self) -> None:
        """Begin another period."""
        self.count = 0
        self._places = [0] * _PLACES

    def add(self, wait_s: float, times: int = 1) -> None:
        """Count a wait, or so many of its length; a sender's clock that is ahead makes none."""
        place = 0
        if wait_s > 0.0:
            place = _MIDDLE + round(_STEPS * log2(wait_s / self.target_s))
            place = min(max(0, place), _PLACES - 1)
        self.count += times
        self._places[place] += times

    def quantile(self, part: float) -> float:
        """Tell below which multiple of the target that part of the waits is.

        Args:
            part: 0 < part <= 1. Of few waits it takes the longest.

        Returns:
            The multiple, 1 for the target itself, within a tenth; 0.0 without waits or when all
            were an eighth of it at most.
        """
        left = self.count - int(self.count * (1 - part))
        if not left:
            return 0.0
        place = 0
        for place, found in enumerate(self._places):  # noqa: B007
            left -= found
            if left <= 0:
                break
        return 2 ** ((place - _MIDDLE) / _STEPS) if place else 0.0
