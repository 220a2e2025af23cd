"""The order between bands: who goes next, who is waited for, which slots are kept.

Minimum shares that are due first, then bands that preempt by rank, then the rest by start-time
fair queueing with weights (Goyal, Vin and Cheng, 1996). The order inside a band is its queue's
matter (`fairness.py`). Used by the dispatcher alone; nothing here holds a ticket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf

from celery_budget.core.bands import BandState
from celery_budget.core.decisions import Reason
from celery_budget.core.lookahead import PARTS, most_ahead
from celery_budget.core.share import SHARE_SPAN_S
from celery_budget.policy.model import Band

#: How often rates and allowances follow the measured service times, seconds.
RECKON_S = 0.25

# Looking a member up in its enum costs 0.2 us on Python 3.11.
_RANK, _SHARE = Reason.RANK, Reason.SHARE
_MIN_SHARE, _RESERVED = Reason.MIN_SHARE, Reason.RESERVED


class Order:
    """The bands of one worker and what decides between them.

    Args:
        bands: By rank, most urgent first.
        slots: Of the worker; >= 1.
        weight: Tells the weight of a tenant; None: all are equal.

    Attributes:
        bands: As they are now, by rank.
        urgent: Those of them that preempt.
        kept: Free slots that are kept for the bands that reserved them.
        given: Of these, how many others may use with tasks that cannot give way.
        lendable: Of the rest, how many are of bands for which running tasks give way.
        lending: The largest rank of these bands; only what is below it gives way to all of them.
        capped: Whether the reserves were cut so that one slot stays shared.
        reckoned: When rates and allowances were last set, on the caller's clock.
        freed: When a slot became free after some band had had none, on the caller's clock.
    """

    def __init__(
        self,
        bands: Sequence[Band],
        slots: int,
        weight: Callable[[str], float] | None = None,
    ) -> None:
        self.bands = [BandState(band, slots, weight) for band in bands]
        self._divide()
        self.reckoned = -inf
        self._slack = 0.0
        self._virtual = 0.0
        self.freed = -inf
        self.kept = self.given = self.lendable = self.lending = 0
        self.capped = False
        self.resize(slots)

    def _divide(self) -> None:
        self.urgent = [state for state in self.bands if state.rule.preempts]
        self._shared = [state for state in self.bands if not state.rule.preempts]
        self._owed = [(state, state.share) for state in self.bands if state.share is not None]

    def amend(self, bands: Sequence[Band], weight: Callable[[str], float] | None) -> None:
        """Go on by other rules for the same bands, by rank; what was served counts on."""
        rules = {band.name: band for band in bands}
        for state in self.bands:
            state.amend(rules[state.name], self._slots, weight)
        self.bands.sort(key=lambda state: state.rule.rank)
        self._divide()
        self.resize(self._slots)

    def resize(self, slots: int) -> None:
        """Cut reserves to what there is, the least urgent band's first.

        What is kept by forecast comes after all that is kept in any case.
        """
        self._slots = slots
        self.capped = False
        left = max(0, slots - 1)
        for state in self.bands:
            state.reserve = min(state.rule.reserve, left)
            left -= state.reserve
            self.capped |= state.reserve < state.rule.reserve
            state.most_ahead = most_ahead(state.parts, slots)
        for state in self.bands:
            wanted = min(state.foreseen, state.rule.reserve_most or 0)
            more = min(max(0, wanted - state.reserve), left)
            state.reserve += more
            left -= more
        self.keep()
        self._reckon()

    def keep(self) -> None:
        """Count the slots kept for bands; after a ticket of a band with a reserve came or went."""
        kept = given = lendable = lending = 0
        for state in self.bands:
            state.unfilled = unfilled = max(0, state.reserve - state.running)
            if unfilled:
                kept += unfilled
                lent = min(unfilled, state.rule.lend)
                given += lent
                if state.rule.preempts and unfilled > lent:
                    lendable += unfilled - lent
                    lending = state.rule.rank
        self.kept, self.given, self.lendable, self.lending = kept, given, lendable, lending

    def lends_to(self, state: BandState) -> bool:
        """Tell whether kept slots are lent to those of a band's tickets that give way."""
        return self.lendable > 0 and state.rule.rank > self.lending

    def over_share(self) -> set[str]:
        """Name the bands that run more than their weights give them of the slots."""
        shared = self._shared
        total = sum(s.rule.weight for s in shared if s.running or s.queue.length or s.queue.blocked)
        return {s.name for s in shared if s.running * total > self._slots * s.rule.weight}

    def is_preempting(self, rank: int) -> bool:
        """Tell whether there is a band of a rank, and running tickets give way to it."""
        return rank < len(self.bands) and self.bands[rank].rule.preempts

    def below(self, state: BandState) -> BandState | None:
        """Give the next less urgent band; None for the last."""
        place = state.rule.rank + 1
        return self.bands[place] if place < len(self.bands) else None

    def reckon(self, now: float) -> None:
        """Follow the service times; to be done now and then (`RECKON_S`)."""
        self.reckoned = now
        self._reckon()

    def _reckon(self) -> None:
        self._slack = max((s.expected / s.rule.weight for s in self._shared), default=0.0)
        blocking = max(state.longest.value for state in self.bands)
        lengths = {state.name: state.longest.value or state.expected for state, _ in self._owed}
        for state, share in self._owed:
            # Other bands may be due before it, each with one task.
            others = sum(lengths.values()) - lengths[state.name]
            share.reckon(self._slots, lengths[state.name], blocking + others)

    @property
    def returning(self) -> float:
        """Virtual time at which a band starts that had nothing waiting.

        What it did not ask for while it was idle is not owed to it. But a message on its way looks
        like that too, and meanwhile one task of another band may have started.
        """
        return self._virtual - self._slack

    def listen(self, bands: Iterable[str], now: float) -> None:
        """Take note which bands' messages come when asked for."""
        asked = frozenset(bands)
        self.freed = now
        for state in self.bands:
            state.is_asked = state.name in asked
            state.opened = now

    def open(self, spare: int, running_parts: int, now: float) -> None:
        """Note which bands' messages were not asked for until now that a ticket ends.

        Args:
            spare: Free slots before it ended that were kept for no band.
            running_parts: For the look-ahead, before it ended.
            now: On the caller's clock.
        """
        for state in self.bands:
            # Nothing of it could start, and it had no look-ahead.
            if running_parts + state.rounding < PARTS and spare + state.unfilled <= 0:
                state.opened = now

    def choose(self, spare: int, now: float) -> tuple[BandState | None, Reason]:
        """Choose the band that starts next, of those that hold something.

        Args:
            spare: Free slots that are kept for no band; below 0 when there are too few.
            now: On the caller's clock.
        """
        if self._owed:
            owed = self._most_overdue(spare, now)
            if owed is not None:
                return owed, _MIN_SHARE
        for state in self.urgent:
            if state.queue.length and spare + state.unfilled > 0:
                return state, _RANK if spare > 0 else _RESERVED
        best: BandState | None = None
        least = inf
        for state in self._shared:
            if (
                state.tag < least
                and state.queue.length
                and spare + state.unfilled > 0
                and not state.is_throttled
                and not state.is_closed
                and state.squeezed == inf
            ):
                best, least = state, state.tag
        return best, _SHARE if spare > 0 else _RESERVED

    def is_waiting_above(self, state: BandState) -> bool:
        """Tell whether something waits for which a band's tickets would have to give way."""
        return any(
            other.queue.length and other.rule.rank < state.rule.rank for other in self.urgent
        )

    def _most_overdue(self, spare: int, now: float) -> BandState | None:
        """Choose the band that has been owed its minimum share for the longest time."""
        chosen: BandState | None = None
        longest = -inf
        for state, share in self._owed:
            if (
                state.queue.length
                and share.is_due(now)
                and spare + state.unfilled > 0
                and not state.is_closed
            ):
                overdue = share.overdue_s()
                if overdue > longest:
                    chosen, longest = state, overdue
        return chosen

    def advance(self, state: BandState, reason: Reason) -> None:
        """Let the virtual time follow the band that is served next."""
        if state.rule.preempts:
            return
        if reason is _MIN_SHARE:
            least = min(other.tag for other in self._shared if other.queue.length)
            if state.tag > least:
                # It is not its turn by weight. What it gets so counts against it for a span's
                # worth of slot time, not for ever.
                state.tag = min(state.tag, self._virtual + SHARE_SPAN_S * self._slots)
                return
        # Without what was charged in advance: were an expectation too long, a band that comes
        # next would be put far behind.
        served = state.tag - state.unserved
        if served > self._virtual:  # noqa: PLR1730 - hot path
            self._virtual = served

    def gather(self, chosen: BandState, patience: float, spare: int, now: float) -> float:
        """Tell until when messages of bands that go before `chosen` may still arrive.

        Args:
            chosen: Of those that hold something.
            patience: Longest wait from the moment when a slot became free, seconds.
            spare: Free slots that are kept for no band.
            now: On the caller's clock.

        Returns:
            A time on the caller's clock; in the past when none can arrive.
        """
        until = -inf
        for state in self.bands:
            if (
                state.is_asked
                and not state.queue.length
                and state.opened <= now < state.opened + patience
                and not state.is_throttled
                and not state.is_closed
                and state.squeezed == inf
                and spare + state.unfilled > 0
                and self._goes_before(state, chosen, now)
            ):
                until = max(until, state.opened + patience)
        return until

    def _goes_before(self, state: BandState, chosen: BandState, now: float) -> bool:
        if state.share is not None and state.share.is_due(now):
            return True
        if state.rule.preempts:
            return not chosen.rule.preempts or state.rule.rank < chosen.rule.rank
        if chosen.rule.preempts:
            return False
        tag = max(state.tag, self.returning)
        return (tag, state.rule.rank) < (chosen.tag, chosen.rule.rank)
