"""What to set aside for a ticket before it starts: declared, else learned, else a guess."""

from __future__ import annotations

from celery_budget.core.admission import Group
from celery_budget.core.estimate import Profiles
from celery_budget.core.needs import COUNTED, ONE
from celery_budget.core.ticket import Ticket

#: Without any knowledge an execution is expected to use this part of the limit: few enough start
#: before the first one ends that a wrong guess does no harm, and enough that something is learned.
UNKNOWN_PART = 100

#: Task types of one group whose costs are remembered.
MOST_COSTS = 1_000


def costs_of(group: Group, ticket: Ticket, profiles: Profiles) -> tuple[int, ...]:
    """Tell what to set aside for a ticket.

    Args:
        group: Of the ticket; remembers the answer for tickets that declare nothing.
        ticket: Its task and the cost that it declares count.
        profiles: What task types use.

    Returns:
        Units of each allowance of the group, in their order.
    """
    if not ticket.cost:
        known = group.costs.get(ticket.task)
        if known is not None and known[0] == profiles.version:
            return known[1]
    declared = dict(ticket.cost)
    costs = []
    for allowance in group.allowances:
        resource = allowance.resource
        if allowance.is_time:
            costs.append(0)
            continue
        units = declared.get(resource)
        if units is None:
            if resource in COUNTED:
                units = ONE
            else:
                units = profiles.estimate(ticket.task, resource)
                if units is None:
                    units = max(1, allowance.rule.limit // UNKNOWN_PART)
        # More than an account can ever have would wait for ever: it may start when all of it is
        # there, and the rest becomes debt.
        costs.append(min(units, allowance.full))
    settled = tuple(costs)
    if not declared:
        if len(group.costs) >= MOST_COSTS:
            group.costs.clear()
        group.costs[ticket.task] = (profiles.version, settled)
    return settled
