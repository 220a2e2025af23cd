"""What a loaded policy answers: which budgets, ceiling and weight apply to a name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from celery_budget.policy.budget import Bound, Ceiling, Scope
from celery_budget.policy.load import load
from celery_budget.policy.model import Policy

POLICY = load(
    {
        "default_band": "a",
        "bands": {"a": {"queues": ["q"]}, "b": {}},
        "tasks": {"t": {"cost": {"tokens": 1, "io": 1}}},
        "budgets": {
            "fleet": {"usd": "100/day"},
            "tenant:*": {"usd": "5/1d", "cpu": "1s/1m"},
            "tenant:vip-*": {"usd": "50/1d"},
            "tenant:vip-1": {"slots": 3},
            "header:x-team:*": {"starts": "50/1s"},
            "header:x-user:*": {"starts": "5/1s"},
        },
        "ceilings": {
            "task:*": {"memory": "512MiB", "runtime": "10m"},
            "task:reports.*": {"memory": "2GiB", "grace": "1s"},
            "band:b": {"runtime": "1m", "memory": "3GiB"},
            "queue:slow": {"runtime": "1h"},
        },
        "tenants": {"*": {"weight": 0.5}, "vip-*": {"weight": 3}},
    }
)


@pytest.mark.parametrize(
    ("scope", "name", "header", "paths"),
    [
        (Scope.FLEET, "", "", ["budgets.fleet.usd"]),
        (Scope.TENANT, "acme", "", ['budgets."tenant:*".cpu', 'budgets."tenant:*".usd']),
        (Scope.TENANT, "", "", ['budgets."tenant:*".cpu', 'budgets."tenant:*".usd']),
        (
            Scope.TENANT,
            "vip-1",
            "",
            [
                'budgets."tenant:*".cpu',
                'budgets."tenant:vip-1".slots',
                'budgets."tenant:vip-*".usd',
            ],
        ),
        (Scope.HEADER, "blue", "x-team", ['budgets."header:x-team:*".starts']),
        (Scope.HEADER, "blue", "x-other", []),
        (Scope.TASK, "acme", "", []),
    ],
)
def test_the_most_specific_budget_of_each_resource_applies(
    scope: Scope, name: str, header: str, paths: list[str]
) -> None:
    """A wider limit for one tenant must not be capped by the one for all."""
    assert paths == [rule.path for rule in POLICY.budgets_for(scope, name, header)]


@pytest.mark.parametrize(
    ("names", "ceiling"),
    [
        (
            ("other", "a", "", "q"),
            Ceiling(
                memory=Bound(512 * 1024**2, 5_000_000, 'ceilings."task:*".memory'),
                runtime=Bound(600_000_000, 5_000_000, 'ceilings."task:*".runtime'),
            ),
        ),
        (
            ("reports.x", "b", "", "slow"),
            Ceiling(
                memory=Bound(2 * 1024**3, 1_000_000, 'ceilings."task:reports.*".memory'),
                runtime=Bound(60_000_000, 5_000_000, 'ceilings."band:b".runtime'),
            ),
        ),
    ],
)
def test_the_tightest_ceiling_of_all_scopes_holds(
    names: tuple[str, str, str, str], ceiling: Ceiling
) -> None:
    """An exact name may be given more than the rest of its scope, and no more than a band."""
    assert ceiling == POLICY.ceiling(*names)


def test_without_rules_there_is_neither_ceiling_nor_weight_nor_budget() -> None:
    """Most policies have none of these."""
    policy = Policy()

    assert Ceiling() == policy.ceiling("t", "default", "", "q")
    assert 1.0 == policy.tenant_weight("acme")
    assert () == policy.budgets_for(Scope.FLEET, "")
    assert () == policy.resources


def test_the_most_specific_rule_decides_a_tenants_weight() -> None:
    """As everywhere: exact names before patterns, long before short."""
    assert [3.0, 0.5] == [POLICY.tenant_weight(name) for name in ("vip-1", "acme")]


def test_all_resources_that_are_named_are_known() -> None:
    """What is not metered or charged from the start is missing from the ledger."""
    assert (
        "cpu",
        "io",
        "memory",
        "runtime",
        "slots",
        "starts",
        "tokens",
        "usd",
    ) == POLICY.resources


@pytest.mark.parametrize(
    "source",
    [
        {"budgets": {"fleet": {"usd": "5/1d"}}},
        {"ceilings": {"task:*": {"cpu": 1}}},
        {"tenants": {"*": {"weight": 3}}},
        {"budgets": {"fleet": {"usd": "5/1d"}}, "tasks": {"*": {"tenant": "{a}"}}},
    ],
)
def test_a_policy_without_bands_has_one_that_owns_every_queue(source: dict[str, object]) -> None:
    """Budgets must be possible before anybody has thought about bands."""
    policy = load(source)

    assert (False, False) == (policy.is_empty, policy.has_bands)
    assert policy.default_band == policy.owner("whatever")


def test_an_empty_policy_and_one_with_bands_leave_foreign_queues_alone() -> None:
    """The queues of others are not ours to consume."""
    assert [None, None] == [policy.owner("foreign") for policy in (Policy(), POLICY)]
    assert "a" == POLICY.owner("q")


def test_what_is_derived_follows_a_changed_policy() -> None:
    """A policy is replaced field by field when it is changed at run time."""
    changed = replace(POLICY, budgets=(), ceilings=())

    assert () == changed.budgets_for(Scope.FLEET, "")
    assert ("io", "tokens") == changed.resources
