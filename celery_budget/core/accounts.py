"""The books of one worker: what it may use of each account, and what to tell the ledger of it.

Pure: the worker hands in the time and the ledger's answers, and carries away reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from celery_budget.core.accounting import AHEAD
from celery_budget.core.admission import KEPT_S, Group, Verdict
from celery_budget.core.allowance import Allowance
from celery_budget.core.calendar import Calendar
from celery_budget.core.costing import costs_of
from celery_budget.core.estimate import Profiles
from celery_budget.core.exchange import MOST_LINES, Answer, Line
from celery_budget.core.groups import Groups, Place
from celery_budget.core.loss import Recollection, refill
from celery_budget.core.needs import Needs, add_up, look_ahead, wants_of
from celery_budget.core.register import Register
from celery_budget.core.sketch import Profile
from celery_budget.core.ticket import Ticket
from celery_budget.policy.budget import Action
from celery_budget.policy.live import Pause
from celery_budget.policy.model import OnLoss, Policy

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


class Accounts:
    """All allowances of one worker.

    Args:
        policy: Says which budgets there are.
        place: Names of region, node and worker.
        calendar: Tells the calendar window that holds at a time, microseconds.
        lease_s: Length of the ledger's leases.
        version: Of the policy: of two workers' policies the later one holds in the ledger.

    Attributes:
        profiles: What task types use.
        is_trusted: Whether the lease still holds, so that what was granted may be used.
        is_heard: Whether the ledger answers; if not, open bands do not wait for it.
        is_urgent: Whether the ledger should be told something at once.
        is_moving: Whether something was spent, freed or asked for since the last report.
    """

    def __init__(
        self,
        policy: Policy,
        place: Place,
        calendar: Calendar,
        *,
        lease_s: float,
        version: int = 0,
    ) -> None:
        self.profiles = Profiles()
        self._register = Register(policy, version)
        self.groups = Groups(policy, place, self._register.find)
        self._place = place
        self.is_trusted = True
        self.is_heard = True
        self.is_urgent = False
        self.is_moving = False
        self._workers = 1
        self._calendar = calendar
        # Two reports may be lost before the lease is.
        self._renewed_s = lease_s / 3
        self._blocked: dict[Group, None] = {}
        self._drawn: dict[Group, None] = {}
        self._recollection = Recollection()
        self._number = 0

    @property
    def allowances(self) -> dict[str, Allowance]:
        """By name of the account."""
        return self._register.allowances

    def amend(self, policy: Policy, version: int, pauses: Sequence[Pause]) -> None:
        """Go on under another policy; tickets get their groups anew from `groups`.

        What was granted under the old one is used up or goes back, by account: accounts that the
        new policy does not know are told to the ledger until nothing of them is left here.

        Args:
            policy: Of the same bands.
            version: Of it.
            pauses: That hold now.
        """
        self.clear()
        self._register.amend(policy, version)
        self.groups = Groups(policy, self._place, self._register.find, pauses)
        self.is_urgent = True

    def costs(self, group: Group, ticket: Ticket) -> tuple[int, ...]:
        """Tell what to set aside for a ticket; see `costs_of`."""
        return costs_of(group, ticket, self.profiles)

    def judge(self, group: Group, costs: tuple[int, ...], now: float) -> Verdict:
        """Say whether a ticket may start; see `Group.judge`."""
        if now >= group.ends:
            group.end(now)
        if not self.is_heard and group.on_loss is OnLoss.OPEN:
            return Verdict(None, None, is_degraded=False)
        if self.is_trusted or group.on_loss is OnLoss.LOCAL:
            return group.judge(costs)
        return Verdict(Action.HOLD, group.allowances[0], is_degraded=False)

    def block(
        self, group: Group, verdict: Verdict, costs: tuple[int, ...], now: float
    ) -> list[Group]:
        """Let a group wait for the allowance that it lacks; give those it kept from others."""
        lacking = verdict.allowance
        assert lacking is not None
        self._number += 1
        group.needs = costs
        self._blocked[group] = None
        self.is_moving = True
        if not lacking.is_exhausted:
            self.is_urgent = True
        active = self._register.active
        woken: list[Group] = []
        for allowance, units in zip(group.allowances, costs, strict=True):
            active[allowance.name] = allowance
            if allowance is lacking:
                group.wait(allowance, units, self._number, now)
            elif allowance.waiting and allowance.free > 0:
                woken += self.woken(allowance)
        return woken

    def unblocked(self, group: Group) -> None:
        """Take note that a group waits no more."""
        group.waits_for = None
        self._blocked.pop(group, None)

    def woken(self, allowance: Allowance) -> list[Group]:
        """Give the groups that have waited for an allowance and may go on with what is free."""
        groups = []
        free = allowance.free
        while (first := allowance.first_waiting()) is not None and free >= first[4]:
            free -= first[4]
            self.unblocked(first[3])
            groups.append(first[3])
        return groups

    def reserve(self, group: Group, costs: tuple[int, ...]) -> None:
        """Set aside what a ticket that starts is expected to use."""
        group.reserve(costs)
        self.is_moving = True
        self._drawn[group] = None

    def settle(
        self, group: Group, costs: tuple[int, ...], spent: tuple[int, ...], now: float
    ) -> list[Group]:
        """Replace what was set aside by what was used, and give the groups that may go on."""
        is_awaited = group.settle(costs, spent, now)
        self.is_moving = True
        self._drawn[group] = None
        if not is_awaited:
            return []
        woken: list[Group] = []
        for allowance in group.allowances:
            if now >= allowance.returns_at:
                self.is_urgent = True
            elif allowance.waiting:
                woken += self.woken(allowance)
        return woken

    def ended(
        self,
        ticket: Ticket,
        costs: tuple[int, ...],
        usage: Mapping[str, int],
        now: float,
        *,
        ran: bool,
        is_whole: bool = True,
    ) -> list[Group]:
        """Settle a ticket that has left its slot, learn from it, and give who may go on.

        Args:
            ticket: As it was started.
            costs: What was set aside for it.
            usage: Units of each resource that were measured.
            now: Unix seconds.
            ran: False when it never used the slot: nothing is charged.
            is_whole: False when another ticket does the rest: nothing is learned.
        """
        group = ticket.group
        assert group is not None
        if not ran:
            return self.settle(group, costs, tuple(0 for _ in costs), now)
        resources = group.resources
        if is_whole and self.profiles.is_due(ticket.task):
            # Once, though it may be limited in several scopes.
            for resource, units in dict(zip(resources, costs, strict=True)).items():
                if resource in usage:
                    self.profiles.observe(ticket.task, resource, usage[resource], units)
        return self.settle(group, costs, tuple(map(usage.get, resources, costs)), now)

    def clear(self) -> None:
        """Take note that nothing waits any more."""
        for group in list(self._blocked):
            self.unblocked(group)

    def lines(self, now: float, ledger_us: int, slots: int) -> tuple[Line, ...]:
        """Write the lines of a report; what they tell is not told again.

        Args:
            now: Unix seconds.
            ledger_us: What the ledger's clock shows about now, microseconds.
            slots: Of the worker.
        """
        self.is_urgent = False
        active = self._register.active
        for group in self._drawn:
            active.update((allowance.name, allowance) for allowance in group.allowances)
        self._drawn.clear()
        for group in [group for group in self._blocked if group.waits_for is None]:
            del self._blocked[group]  # all its tickets were taken out
        needs = add_up(self._blocked, now, ledger_us, slots)
        self._register.advance(needs)
        self.is_moving = False
        lines: list[Line] = []
        for _ in range(len(active)):
            if len(lines) == MOST_LINES:
                self.is_urgent = True
                break
            name, allowance = active.popitem(last=False)
            line = self._line(allowance, needs.get(allowance, {}), now, ledger_us)
            if line is not None:
                lines.append(line)
            if allowance.held or allowance.waiting or line is not None:
                active[name] = allowance
            else:
                self._register.rest(allowance)
        lines += self._recollection.lines(MOST_LINES - len(lines), active)
        self._register.leave(self.groups.sweep(now))
        return tuple(lines)

    def _line(self, allowance: Allowance, needs: Needs, now: float, ledger_us: int) -> Line | None:
        """Write the line of one account; None when there is nothing to tell."""
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
        is_due = held > 0 and now >= allowance.told + self._renewed_s
        if not (spent or (wants and not is_early) or held != allowance.held_told or is_due):
            return None
        if wants:
            allowance.asked_us = ledger_us
        allowance.told, allowance.held_told = now, held
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
        )

    def heard(self, lines: Sequence[Line], answer: Answer, now: float) -> list[Group]:
        """Take what the ledger has granted, and give the groups that may go on.

        Args:
            lines: Of the report that was answered.
            answer: To it.
            now: Unix seconds.
        """
        if self._recollection.meet(answer.epoch):
            self.is_urgent = True
            self.profiles.doubt()
        self._workers = max(1, answer.workers)
        self.is_heard = True
        woken: list[Group] = []
        if not self.is_trusted:
            self.is_trusted = True
            for each in self.allowances.values():
                each.local = None
            woken = self._released()
        for line, granted in zip(lines, answer.lines, strict=True):
            self._recollection.keep(line, granted, answer.now)
            allowance = self.allowances.get(line.account)
            if allowance is None:
                continue
            allowance.free += granted.units
            allowance.held_told += granted.units
            allowance.is_contended = granted.is_contended
            if not (granted.is_contended and allowance.is_capacity):
                allowance.returns_at = inf
            elif allowance.returns_at == inf:
                allowance.returns_at = now + KEPT_S
            need = line.wants[0] if line.wants and line.wants[0].rank < AHEAD else None
            if need is not None:
                allowance.lacks(granted, need.least)
                # Whoever waits for what nobody can tell has to ask again.
                self.is_moving |= allowance.is_exhausted and not allowance.free_at
            allowance.heard(granted)
            woken += self.woken(allowance)
            if allowance.waiting and allowance.asks_for is not Action.HOLD:
                # They began to wait before it was known that waiting is not what to do.
                woken += self._released(allowance)
        return woken + self._over(now)

    def _over(self, now: float) -> list[Group]:
        """Give the groups that wait for an envelope whose time is over, if they are not to wait."""
        groups = []
        for group in [group for group in self._blocked if group.ends <= now]:
            if group.end(now):
                self.unblocked(group)
                groups.append(group)
        return groups

    def miss(self) -> list[Group]:
        """Take note that the ledger does not answer; give the groups that do not wait for it."""
        self.is_heard = False
        groups = [group for group in self._blocked if group.on_loss is OnLoss.OPEN]
        for group in groups:
            self.unblocked(group)
        return groups

    def learned(self, profiles: Mapping[str, Profile]) -> list[Group]:
        """Take what the fleet knows of task types, and give the groups that may go on.

        Those that wait do so for what was guessed before.
        """
        return self._released() if self.profiles.heard(profiles) else []

    def lose(self) -> list[Group]:
        """Trust nothing that was granted; give the groups that go on without."""
        self.is_heard = self.is_trusted = False
        return self._released()

    def _released(self, allowance: Allowance | None = None) -> list[Group]:
        """Let all groups be judged anew, or those that wait for one allowance."""
        groups = [group for group in self._blocked if allowance in (None, group.waits_for)]
        for group in groups:
            self.unblocked(group)
        return groups

    def refill(self, ledger_us: int) -> list[Group]:
        """Go on with this worker's share of each window; give the groups that may go on.

        For bands whose tasks run at their last share while the ledger is away.

        Args:
            ledger_us: What the ledger's clock would show about now, microseconds.
        """
        woken: list[Group] = []
        for allowance in list(self._register.active.values()):
            if allowance.is_capacity or not allowance.waiting:
                continue
            refill(allowance, self._recollection.of(allowance.name), self._workers, ledger_us)
            woken += self.woken(allowance)
        return woken

    def next_us(self) -> float:
        """Tell when something may come free that is waited for; inf when nothing is.

        Returns:
            Microseconds of the ledger's clock; in the past when it should be asked for now.
        """
        return min(
            (
                allowance.asked_us + RETURNED_US
                if allowance.may_return
                else max(allowance.free_at, allowance.asked_us + LEAST_WAIT_US)
                for group in self._blocked
                if (allowance := group.waits_for) is not None and allowance.free_at
            ),
            default=inf,
        )
