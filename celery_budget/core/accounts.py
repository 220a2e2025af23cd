"""The books of one worker: what it may use of each account, and what to tell the ledger of it.

Pure: the worker hands in the time and the ledger's answers, and carries away reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from math import inf
from types import MappingProxyType

from celery_budget.core.account import AHEAD
from celery_budget.core.admission import Group, Verdict
from celery_budget.core.allowance import KEPT_S, Allowance
from celery_budget.core.calendar import Calendar
from celery_budget.core.costing import costs_of
from celery_budget.core.estimate import Profiles
from celery_budget.core.exchange import MOST_LINES, Answer, Line
from celery_budget.core.groups import Groups, Place
from celery_budget.core.loss import Recollection, refill
from celery_budget.core.needs import add_up, keep
from celery_budget.core.register import Register
from celery_budget.core.sketch import Profile
from celery_budget.core.standing import NONE, Standing
from celery_budget.core.teller import Teller, asked_again_us
from celery_budget.core.ticket import Ticket
from celery_budget.policy.budget import Action
from celery_budget.policy.live import Pause
from celery_budget.policy.model import OnLoss, Policy

#: Nobody says how tickets stand to any capacity.
_NO_STANDINGS: Mapping[Allowance, Standing] = MappingProxyType({})


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
        owing: Of which units were called back since `decide` has looked there last.
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
        self.owing: dict[Allowance, None] = {}
        self._workers = 1
        self._blocked: dict[Group, None] = {}
        #: Whose slots are on their way: for how many tickets, and until when units are kept.
        self._kept: dict[Group, tuple[int, float]] = {}
        self._drawn: dict[Group, None] = {}
        self._recollection = Recollection()
        # Two reports may be lost before the lease is.
        self._teller = Teller(calendar, self._recollection, renewed_s=lease_s / 3)
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
        group.wait(lacking, costs, self._number, now)
        self._kept.pop(group, None)
        self._blocked[group] = None
        self.is_moving = True
        if not lacking.is_exhausted:
            self.is_urgent = True
        active = self._register.active
        woken: list[Group] = []
        for allowance in group.allowances:
            active[allowance.name] = allowance
            if allowance is not lacking and allowance.waiting and allowance.free > 0:
                woken += self.woken(allowance)
        return woken

    def unblocked(self, group: Group) -> None:
        """Take note that a group waits no more."""
        group.waits_for = None
        self._blocked.pop(group, None)

    def woken(self, allowance: Allowance) -> list[Group]:
        """Give the groups that have waited for an allowance and may go on with what is free."""
        groups, kept = [], []
        free = allowance.free
        while (first := allowance.first_waiting()) is not None and free >= first[4]:
            free -= first[4]
            if first[3].waits_for is not allowance:
                kept.append(heappop(allowance.waiting))
                continue
            self.unblocked(first[3])
            groups.append(first[3])
        for place in kept:
            heappush(allowance.waiting, place)
        return groups

    @property
    def blocked(self) -> Iterable[Group]:
        """Groups that wait, or were taken out; who began first comes first."""
        return self._blocked

    def keep(self, group: Group, costs: tuple[int, ...], count: int, now: float) -> None:
        """Give nothing back that a group needs to start when slots come for which it waits.

        Args:
            group: Waits for nothing else.
            costs: Of the first of its tickets.
            count: Slots that are on their way.
            now: Unix seconds.
        """
        group.needs = costs
        self._kept[group] = min(count, group.ready), now + KEPT_S

    def reserve(self, group: Group, costs: tuple[int, ...]) -> None:
        """Set aside what a ticket that starts is expected to use."""
        if self._kept and group in self._kept:
            count, until = self._kept.pop(group)
            if count > 1:
                self._kept[group] = count - 1, until
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
            if allowance.waiting:
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

    def lines(
        self,
        now: float,
        ledger_us: int,
        slots: int,
        standings: Mapping[Allowance, Standing] = _NO_STANDINGS,
    ) -> tuple[Line, ...]:
        """Write the lines of a report; what they tell is not told again.

        Args:
            now: Unix seconds.
            ledger_us: What the ledger's clock shows about now, microseconds.
            slots: Of the worker.
            standings: How its tickets stand to capacities; see `standings.py`.
        """
        self.is_urgent = False
        active = self._register.active
        for group in self._drawn:
            active.update((allowance.name, allowance) for allowance in group.allowances)
        self._drawn.clear()
        for group in [group for group in self._blocked if group.waits_for is None]:
            del self._blocked[group]  # all its tickets were taken out
        needs = add_up(self._blocked, now, ledger_us, slots, standings)
        for group, (count, until) in list(self._kept.items()):
            if now < until and group.tenants:
                keep(needs, group, count)
            else:
                del self._kept[group]
        self._register.advance(needs)
        self.is_moving = False
        lines: list[Line] = []
        for _ in range(len(active)):
            if len(lines) == MOST_LINES:
                self.is_urgent = True
                break
            name, allowance = active.popitem(last=False)
            line = self._teller.line(
                allowance,
                needs.get(allowance, {}),
                standings.get(allowance, NONE),
                now,
                ledger_us,
            )
            if line is not None:
                lines.append(line)
            if allowance.held or allowance.waiting or line is not None:
                active[name] = allowance
            else:
                self._register.rest(allowance)
        lines += self._recollection.lines(MOST_LINES - len(lines), active)
        self._register.leave(self.groups.sweep(now))
        return tuple(lines)

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
            allowance.share(granted, line.standing, now)
            if granted.owed:
                self.owing[allowance] = None
            # Whoever was called on tells soon what comes of it.
            self.is_moving |= granted.owed > 0 or line.standing.leaving > 0
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
        return min(map(asked_again_us, self._blocked), default=inf)
