"""The teller: writes what a report says of one account. Used by `accounts.py` alone."""

from __future__ import annotations

from math import inf

from celery_budget.core.admission import Group
from celery_budget.core.allowance import Allowance
from celery_budget.core.calendar import Calendar
from celery_budget.core.exchange import Line
from celery_budget.core.loss import Recollection
from celery_budget.core.needs import Needs, look_ahead, wants_of
from celery_budget.core.standing import Standing

#: What is used up is asked for again after so many microseconds, whenever it may fill: another
#: worker may have given some back.
ASKED_AGAIN_US = 1_000_000

#: Of an envelope that others have not used up, after so many: they give back what is left as soon
#: as their tasks end, and until then nobody knows whether this one is refused.
RETURNED_US = 200_000

#: Not sooner than this, however soon it may fill: what is there may be kept for another worker.
LEAST_WAIT_US = 50_000

#: Most units that one line tells of; two of these are still below 2**53.
MOST_TOLD = 2**52 - 1

#: A capacity of which lesser tickets could give something back is told of so often, seconds, if the
#: worker reports at all: the answer says whether they should. A worker to which nothing happens
#: reports once a second, one at work 20 times.
CALLED_S = 0.2


class Teller:
    """Writes the lines of one worker.

    Args:
        calendar: Tells the calendar window that holds at a time, microseconds.
        recollection: What was last heard of each account.
        renewed_s: After so many seconds what is held is told again.
    """

    __slots__ = ("_calendar", "_recollection", "_renewed_s")

    def __init__(self, calendar: Calendar, recollection: Recollection, renewed_s: float) -> None:
        self._calendar = calendar
        self._recollection = recollection
        self._renewed_s = renewed_s

    def line(
        self, allowance: Allowance, needs: Needs, standing: Standing, now: float, ledger_us: int
    ) -> Line | None:
        """Write the line of one account; None when there is nothing to tell.

        Args:
            allowance: What it tells is not told again.
            needs: Of waiting groups.
            standing: How tickets here stand to it.
            now: Unix seconds.
            ledger_us: What the ledger's clock shows about now, microseconds.
        """
        if allowance.is_time:
            return None
        needed = sum(units for units, _, _ in needs.values())
        ahead = look_ahead(allowance, now)
        kept = needed if now >= allowance.returns_at else needed + ahead
        allowance.free = min(allowance.free, kept)
        if needs and allowance.is_exhausted and allowance.free < needs[min(needs)][1]:
            # Too little for anybody here: with what others have so it may be enough for one.
            allowance.free = min(allowance.free, 0)
        wants = wants_of(allowance, needs, ahead, ledger_us)
        again_us = RETURNED_US if allowance.may_return else ASKED_AGAIN_US
        is_early = allowance.is_exhausted and ledger_us < min(
            allowance.free_at, allowance.asked_us + again_us
        )
        held = min(allowance.held, MOST_TOLD)
        # After a long loss of the ledger, what is more than a number can carry comes next time.
        spent = min(allowance.spent, MOST_TOLD)
        allowance.free = max(0, allowance.free)
        allowance.spent -= spent
        allowance.used = 0
        is_due = held > 0 and now >= allowance.told + (
            CALLED_S if standing.loose else self._renewed_s
        )
        is_other = held != allowance.held_told or standing != allowance.standing
        if not (spent or (wants and not is_early) or is_other or is_due):
            return None
        if wants:
            allowance.asked_us = ledger_us
        allowance.told, allowance.held_told, allowance.standing = now, held, standing
        if allowance.budget.window is not None and allowance.budget.window.calendar:
            window = self._calendar(allowance.budget.window, ledger_us)
            allowance.rule = allowance.rule._replace(number=window.number, begins=window.begins)
        return Line(
            allowance.name,
            allowance.rule,
            spent,
            held,
            max(0, allowance.free - needed),
            wants,
            self._recollection.of(allowance.name),
            standing,
        )


def asked_again_us(group: Group) -> float:
    """Tell when to ask again for what a group waits for; inf: there is no time to tell.

    Returns:
        Microseconds of the ledger's clock.
    """
    allowance = group.waits_for
    if allowance is None or not allowance.free_at:
        return inf
    if allowance.may_return:
        return allowance.asked_us + RETURNED_US
    return max(allowance.free_at, allowance.asked_us + LEAST_WAIT_US)
