"""Throttling: how far the lesser bands of one worker are held back, so that urgent ones find room.

Each band that does not preempt and has a band with a `latency_target` above it has a throttle, and
each lesser one where the worker's node is watched. It
limits what the band and those below it use of the slots together; whole slots, and the rest as the
part of the time in which one more is used. A band that is owed its minimum share starts all the
same. Used by the dispatcher alone. Rules: docs/explanation/throttling.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, inf

from celery_budget.core.bands import BandState
from celery_budget.core.shortage import Cause, Shortage, of_band, of_ledger, worst
from celery_budget.core.throttle import ENOUGH, GOAL, PERIOD_S, Throttle
from celery_budget.core.ticket import Ticket


class _Level:
    """One band's throttle, and what it holds for.

    Attributes:
        state: The band.
        above: Bands above it with a target.
        throttle: Its own.
        cause: What took its share down last; None while it has all.
        is_kept: Whether no more ran than its share when that was set.
    """

    __slots__ = (
        "_below",
        "_extra_since",
        "_rested",
        "_used_s",
        "above",
        "cause",
        "is_kept",
        "state",
        "throttle",
    )

    def __init__(
        self, bands: Sequence[BandState], place: int, throttle: Throttle, cause: Cause | None
    ) -> None:
        self.state = bands[place]
        self.above = [state for state in bands[:place] if state.waits is not None]
        self.throttle = throttle
        self.cause = cause
        self.is_kept = True
        self._below = [state for state in bands[place:] if not state.rule.preempts]
        #: Since when one more runs than whole slots allow; how long that was the last time, until.
        self._extra_since: float | None = None
        self._used_s = 0.0
        self._rested = -inf

    @property
    def running(self) -> int:
        """Tickets in slots that it holds for."""
        return sum(state.running for state in self._below)

    @property
    def is_waiting(self) -> bool:
        """Whether any of its tickets waits."""
        return any(state.queue.length for state in self._below)

    def most(self, slots: int) -> int:
        """Tell how many may run at once, at times."""
        return ceil(self.throttle.share * slots)

    def follow(self, shortage: Shortage, slots: int, now: float) -> None:
        """Set the share by the worst shortage of a period."""
        throttle, degrading = self.throttle, self.state.degrading
        is_kept = self.is_kept and self.running <= self.most(slots)
        may_take = degrading is None or degrading.is_too_little(now)
        if shortage.evidence and (may_take or shortage.size <= GOAL):
            throttle.step(shortage.size, shortage.evidence, is_kept=is_kept)
            if shortage.size > GOAL:
                self.cause = shortage.cause
        if throttle.share >= 1.0:
            self.cause = None
        self.is_kept = self.running <= self.most(slots)

    def opens(self, slots: int, now: float) -> float:
        """Tell from when on one more may start; inf: when something has ended."""
        if self.throttle.share >= 1.0:
            return -inf
        running = self.running
        limit = self.throttle.share * slots
        whole = int(limit)
        if running > whole:
            if self._extra_since is None:
                self._extra_since = now
            return inf
        if self._extra_since is not None:
            self._used_s = max(0.0, now - self._extra_since)
            self._rested = now
            self._extra_since = None
        part = limit - whole
        if running < whole:
            return -inf
        if part <= 0.0:
            return inf
        self._rested = min(self._rested, now)  # the clock may be set back
        return self._rested + self._used_s * (1 - part) / part


class Throttling:
    """What holds lesser bands back on one worker.

    Args:
        bands: By rank; of each that has a target the waits are counted.
        running: Tickets in slots, and first their bands.
        is_watched: Whether it is told how short the node is.

    Attributes:
        shortage: Of the node, as a throttle takes it.
        has_levels: Whether there is a band that may be held back, or asked to do less.
        is_on: Whether any is held back.
        due: When shares are to be set next, Unix seconds.
    """

    __slots__ = (
        "_bands",
        "_is_watched",
        "_levels",
        "_opens",
        "_running",
        "due",
        "has_levels",
        "is_on",
        "shortage",
    )

    def __init__(
        self,
        bands: Sequence[BandState],
        running: Mapping[Ticket, tuple[BandState, *tuple[object, ...]]],
        *,
        is_watched: bool = False,
    ) -> None:
        self._levels: list[_Level] = []
        self._running = running
        self._is_watched = is_watched
        self.shortage = 0.0
        self.is_on = False
        self.due = -inf
        self.amend(bands)

    def amend(self, bands: Sequence[BandState]) -> None:
        """Go on with other rules for the same bands; shares stay as they are."""
        known = {level.state.name: (level.throttle, level.cause) for level in self._levels}
        self._levels = [
            _Level(bands, place, *known.get(state.name, (Throttle(), None)))
            for place, state in enumerate(bands)
            if (self._is_watched and state.is_lesser)
            or (
                not state.rule.preempts
                and any(above.rule.latency_target for above in bands[:place])
            )
        ]
        self._opens = inf
        self._bands = bands
        self.has_levels = bool(self._levels) or any(state.waits is not None for state in bands)
        for state in bands:
            state.is_throttled = False
        self._note()

    def _note(self) -> None:
        self.is_on = any(level.throttle.share < 1.0 for level in self._levels)

    def share(self, state: BandState) -> float:
        """Tell which part of the slots a band may use, with those below it."""
        return min((level.throttle.share for level in self._over(state)), default=1.0)

    def cause(self, state: BandState) -> Cause | None:
        """Tell what took that part down last; None while a band may use all slots."""
        least = min(self._over(state), key=lambda level: level.throttle.share, default=None)
        return None if least is None else least.cause

    def _over(self, state: BandState) -> list[_Level]:
        """List the throttles that hold for a band."""
        if state.rule.preempts:
            return []
        return [level for level in self._levels if level.state.rule.rank <= state.rule.rank]

    def step(self, slots: int, free: int, now: float) -> None:
        """Set the shares anew, by what was short since they were set last.

        Args:
            slots: Of the worker.
            free: Of these, without a ticket.
            now: Unix seconds.
        """
        self.due = now + PERIOD_S
        scarce = of_ledger(self._running, self._bands, now)
        shortages = {
            state.name: of_band(state, slots, free, now)
            for state in self._bands
            if state.waits is not None
        }
        node = Shortage(self.shortage, ENOUGH, Cause.NODE)
        for state in self._bands:
            if state.degrading is not None:
                # Its own wait counts as well: it gets shorter when others of it do less.
                above = [shortages[o.name] for o in self._bands[: state.rule.rank + 1] if o.waits]
                shortage = worst([node, *above, *_of(scarce, state)])
                if shortage.evidence:
                    is_free = self.share(state) >= 1.0
                    state.degrading.step(shortage.size, shortage.evidence, now, is_free=is_free)
        for level in self._levels:
            needs = [shortages[state.name] for state in level.above]
            needs += _of(scarce, level.state)
            if self.shortage > 0.0 or not needs:
                needs.append(node)
            level.follow(worst(needs), slots, now)
        self._note()
        if not self.is_on:
            for level in self._levels:
                level.state.is_throttled = False

    def hold_back(self, slots: int, now: float) -> None:
        """Mark the bands that may start nothing now, unless their minimum share is due."""
        is_throttled = False
        self._opens = inf
        for level in self._levels:
            opens = level.opens(slots, now)
            is_throttled |= opens > now
            level.state.is_throttled = is_throttled
            if opens > now:
                self._opens = min(self._opens, opens)

    def until(self) -> float:
        """Tell when a ticket that is held back may start; inf when none is held back."""
        if not self.is_on or not any(level.is_waiting for level in self._levels):
            return inf
        return min(self._opens, self.due)

    def room(self, state: BandState, slots: int) -> int:
        """Tell how many more tickets of a band that does not preempt may run by their throttles."""
        left = slots
        for level in self._levels:
            if level.state.rule.rank <= state.rule.rank:
                left = min(left, level.most(slots) - level.running)
        # What its minimum share lets start has to be at hand.
        return max(left, 1 if state.share is not None else 0)


def _of(scarce: Mapping[str, Shortage], state: BandState) -> list[Shortage]:
    """List the shortage of budgets above a band, if there is one."""
    found = scarce.get(state.name)
    return [] if found is None else [found]
