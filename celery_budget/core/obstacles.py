"""Obstacles: what keeps held tickets from competing for a slot: a budget, a pause, memory."""

from __future__ import annotations

from math import inf

from celery_budget.core.admission import Group
from celery_budget.core.decisions import Reason, Wait
from celery_budget.core.ticket import Ticket


def lacking(ticket: Ticket) -> str | None:
    """Name the account that a held ticket waits for; None when it waits for something else."""
    group = ticket.group
    if group is None or not group.is_blocked or group.waits_for is None:
        return None
    return group.waits_for.name


def paused(ticket: Ticket) -> str | None:
    """Name what is paused that keeps a held ticket from starting; None when nothing is."""
    group = ticket.group
    return None if group is None or group.pause is None else group.pause.target


def is_too_large(ticket: Ticket) -> bool:
    """Tell whether a held ticket waits for memory of its worker's node."""
    return ticket.group is not None and ticket.group.is_tight


def blocked(group: Group, ahead: int) -> Wait:
    """Say why the tickets of a group wait that is kept from competing."""
    if group.is_tight:
        return Wait(Reason.MEMORY, inf, ahead)
    if group.pause is not None:
        until = inf if group.pause.until is None else group.pause.until
        return Wait(Reason.PAUSED, until, ahead, pause=group.pause.target)
    lacking = group.waits_for
    assert lacking is not None
    until = lacking.free_at / 1e6 if lacking.free_at else inf
    return Wait(Reason.BUDGET, until, ahead, lacking.name)
