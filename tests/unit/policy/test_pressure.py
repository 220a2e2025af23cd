"""`[pressure]` as it is written, and what is said of mistakes in it."""

from __future__ import annotations

import pytest

from celery_budget.errors import PolicyError
from celery_budget.policy.load import load
from celery_budget.policy.pressure import PressureRule


def test_all_of_it() -> None:
    """Shares in both notations."""
    policy = load({"pressure": {"memory": "75%", "stall": 0.4, "evict": False}})

    assert PressureRule(0.75, 0.4, evict=False) == policy.pressure


def test_an_empty_table_is_enough() -> None:
    """Without it nobody looks; with it the policy says something, and memory is metered."""
    assert load({}).pressure is None
    policy = load({"pressure": {}})
    assert PressureRule(0.9, 0.6, evict=True) == policy.pressure
    assert not policy.is_empty
    assert "memory" in policy.resources
    assert policy.fingerprint != load({"bands": {"default": {}}}).fingerprint


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        ({"memory": "8GiB"}, "pressure.memory: '8GiB' is not a share: write a percentage"),
        ({"stall": 1.5}, "pressure.stall: 1.5 is not a share: it must be more than 0"),
        ({"evict": "no"}, "pressure.evict: expected bool, got str"),
        ({"memry": "80%"}, "pressure.memry: unknown key; did you mean memory?"),
        (3, "pressure: must be a table, not a number"),
    ],
)
def test_mistakes_are_named(table: object, mistake: str) -> None:
    """With their place."""
    with pytest.raises(PolicyError) as caught:
        load({"pressure": table})

    assert mistake in str(caught.value)
