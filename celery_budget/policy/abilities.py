"""Abilities: what a task can do while it runs. Settled by the worker; no call may ask for them."""

from __future__ import annotations

from celery_budget.policy.model import Policy
from celery_budget.policy.preemption import Method
from celery_budget.policy.terms import Declared, rule_of


def methods(policy: Policy, task: str, declared: Declared, band: str) -> tuple[Method, ...]:
    """Settle how a task may give way while it runs; a matter of the worker, and not of a call.

    Args:
        policy: Its rule for the task goes before what the task declares, and that before the band.
        task: Task name.
        declared: From decorator or base class.
        band: Name of the band that it runs in.
    """
    for said in (rule_of(policy, task), declared, policy.band(band)):
        if said is not None and said.preempt is not None:
            return said.preempt
    return ()


def can_degrade(policy: Policy, task: str, declared: Declared, band: str) -> bool:
    """Settle whether a task can do less instead of waiting; a matter of the worker as well.

    Args:
        policy: As for `methods`.
        task: Task name.
        declared: From decorator or base class.
        band: Name of the band that it runs in.
    """
    for said in (rule_of(policy, task), declared, policy.band(band)):
        if said is not None and said.degrade is not None:
            return said.degrade
    return False
