"""A rest: so long a thing has to be calm before what was done for it is taken back.

Where taking it back is what brings the trouble again, it would come and go for ever: so the rest is
doubled each time that it turns out to have been too short.
"""

from __future__ import annotations

from math import inf


class Rest:
    """Tells when it has been calm for long enough.

    Args:
        first_s: At first, seconds.
        most_s: At most, after it was too short several times.
    """

    __slots__ = ("_calm_since", "_first_s", "_most_s", "_over_at", "_rest_s")

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first_s = self._rest_s = first_s
        self._most_s = most_s
        self._calm_since = inf
        self._over_at = -inf

    def begin(self, now: float) -> None:
        """Take note that something is done about the trouble (again)."""
        is_soon = self._over_at <= now < self._over_at + self._rest_s
        self._rest_s = min(2 * self._rest_s, self._most_s) if is_soon else self._first_s
        self._calm_since = inf

    def is_over(self, now: float, *, is_calm: bool) -> bool:
        """Follow the trouble; tell whether what was done may be taken back, which begins anew."""
        if not is_calm:
            self._calm_since = inf
            return False
        self._calm_since = min(self._calm_since, now)  # the clock may be set back
        if now < self._calm_since + self._rest_s:
            return False
        self._calm_since = inf
        self._over_at = now
        return True
