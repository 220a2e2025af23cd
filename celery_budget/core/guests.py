"""Guests: urgent tickets that wait on other workers, and for which this one makes room.

What is asked to leave its slot does so only after a moment. Where it is asked as soon as an urgent
ticket is stuck elsewhere, the slot is free when the message comes. That is a guess: the message may
go to another worker that has room. So a slot is kept for a short time only, and a worker to which
nobody came tries again later and later. Used by `core/member.py` and the dispatcher. Rules:
docs/explanation/preemption.md.
"""

from __future__ import annotations

from math import inf

#: So long an urgent ticket waits for a slot of a worker on which nothing can give way before it is
#: left to one that has room, seconds: twice what a worker tells others of its room while it works.
HAND_ON_S = 0.1

#: So long a slot is kept for a guest, seconds: until it is handed on, and as long again for a tick
#: of the ledger on either side and for the message.
GUEST_S = 2 * HAND_ON_S

#: Where nobody came, no room is made for so long at first, and for twice as long each further time,
#: seconds: what is kept in vain is a sixth of a slot's time at most, soon less than a hundredth.
VAIN_S, MOST_VAIN_S = 1.0, 60.0


def part(left: int, waiting: int, places: int, workers: int) -> int:
    """Tell for how many of the urgent tickets that wait elsewhere one worker is to make room.

    An even part, so that slots are free on as many workers as messages may go to. What others take
    is to be taken away from what is left before the next one is asked: together they make room for
    no more than wait.

    Args:
        left: Tickets that wait on any worker, less the slots that are free or made free for them.
        waiting: Those that wait on this one.
        places: For how many of others it could make room.
        workers: Of the fleet; one of them at least cannot help.

    Returns:
        Below zero: so many of its own have a slot elsewhere, or will have.
    """
    if places and left > 0:
        return min(places, -(-left // max(1, workers - 1)))
    return min(0, max(0, left) - max(0, waiting))


class Guests:
    """The guests of one worker: how many it expects, and when it may do so again.

    Attributes:
        others: How many other workers there are, as last heard; 0 where nobody could be a guest.
        is_on: Whether room is made, or was just now: no more is made before that is over.
        expected: So many have not come yet; as many slots are kept for them, or are made free.
        promised: So many tickets of this worker have a slot on another one, or will have.
        is_stuck: Whether the ledger was told of urgent tickets that are stuck here.
        has_news: Whether the ledger should be told something at once.
    """

    __slots__ = (
        "_began",
        "_came",
        "_has_asked",
        "_pause_s",
        "_rests_since",
        "_rests_until",
        "expected",
        "has_news",
        "is_on",
        "is_stuck",
        "others",
        "promised",
    )

    def __init__(self) -> None:
        self.others = 0
        self.is_on = self.is_stuck = self.has_news = False
        self.expected = self.promised = self._came = 0
        self._has_asked = False
        self._began = self._rests_since = self._rests_until = -inf
        self._pause_s = 0.0

    @property
    def until(self) -> float:
        """Until when room is made and kept, Unix seconds."""
        return self._began + GUEST_S

    def begin(self, count: int, now: float) -> None:
        """Take note for how many this worker is to make room."""
        self.is_on = True
        self._has_asked = False
        self.expected, self._came = count, 0
        self._began = now

    def is_over(self, now: float) -> bool:
        """Tell whether whoever has not come by now is not expected any more."""
        return not self._began <= now < self._began + GUEST_S

    def asked(self) -> None:
        """Take note that a running ticket leaves for one of them."""
        self._has_asked = True

    def came(self) -> None:
        """Take note of an urgent ticket that came: as good as any, it counts as one of them."""
        self.expected -= 1
        self._came += 1

    def forgo(self, count: int, now: float) -> None:
        """Expect so many less: nothing leaves for them."""
        self.expected -= count
        if not (self.expected or self._came):
            self.end(now)

    def end(self, now: float) -> None:
        """Expect nobody any more."""
        self.is_on = False
        self.expected = 0
        # What this worker keeps from others by having promised it should be theirs at once.
        self.has_news = True
        rest_s = GUEST_S  # where nothing could leave, as it has come back just before
        if self._came:
            rest_s = self._pause_s = 0.0
        elif self._has_asked:
            is_soon = now < self._rests_until + self._pause_s
            self._pause_s = min(2 * self._pause_s, MOST_VAIN_S) if is_soon else VAIN_S
            rest_s = self._pause_s
        self._rests_since, self._rests_until = now, now + rest_s

    def may_come(self, now: float) -> bool:
        """Tell whether room may be made for more."""
        is_resting = self._rests_since <= now < self._rests_until
        return self.others > 0 and not self.is_on and not is_resting

    def told(self, lack: int) -> int:
        """Tell the ledger how many urgent tickets wait here, or could start here.

        Those who came count on while the others may not have told yet that they are gone from
        there, or room would be made for them twice.

        Args:
            lack: Urgent tickets without a slot on its way; below zero: slots that are left over.
        """
        return min(lack, -self.expected) - self._came if self.is_on else lack
