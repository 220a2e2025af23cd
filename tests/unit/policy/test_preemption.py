"""What the policy, a decorator and a band say of tasks that may give way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from celery_budget.errors import OptionError, PolicyError
from celery_budget.policy.abilities import methods
from celery_budget.policy.load import load
from celery_budget.policy.preemption import Method, PreemptionRule
from celery_budget.policy.terms import Declared
from celery_budget.producer.declared import declared

FREEZE = (Method.FREEZE,)

BANDS: dict[str, Any] = {"urgent": {"preempts": True}, "usual": {"preempt": ["freeze"]}}


def test_the_policy_is_read() -> None:
    """How many and how long is a matter of the worker."""
    policy = load(
        {
            "default_band": "usual",
            "bands": BANDS,
            "tasks": {"a": {"preempt": []}},
            "preemption": {
                "spare": 3,
                "max_freeze": "5s",
                "checkpoint_every": "10s",
                "evict_grace": "1m",
                "max_checkpoint": "64KiB",
            },
        }
    )

    assert PreemptionRule(3, 5.0, 10.0, 65_536, 60.0) == policy.preemption
    assert [None, FREEZE] == [band.preempt for band in policy.bands]
    assert () == policy.tasks[0].preempt


def test_without_a_word_one_task_gives_way_for_half_a_minute() -> None:
    """Spare children cost memory that nobody asked for."""
    assert PreemptionRule(1, 30.0, 1.0, 2**20, 5.0) == load({}).preemption


@pytest.mark.parametrize(
    ("task", "said", "band", "expected"),
    [
        ("ruled", Declared(preempt=FREEZE), "usual", ()),
        ("other", Declared(preempt=()), "usual", ()),
        ("other", Declared(preempt=FREEZE), "urgent", FREEZE),
        ("other", Declared(), "usual", FREEZE),
        ("other", Declared(), "urgent", ()),
        ("other", Declared(), "unknown", ()),
    ],
)
def test_the_rule_goes_before_the_task_and_that_before_the_band(
    task: str, said: Declared, band: str, expected: tuple[Method, ...]
) -> None:
    """As with all other options."""
    policy = load(
        {"default_band": "usual", "bands": BANDS, "tasks": {"ruled": {"preempt": []}}},
    )

    assert expected == methods(policy, task, said, band)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"bands": {"a": {"preempts": True}, "b": {"preempt": ["freze"]}}, "default_band": "a"},
            'bands.b.preempt[0]: "freze" is not a way to give way; did you mean freeze?',
        ),
        (
            {"bands": {"a": {"preempt": "freeze"}}},
            'bands.a.preempt: expected array, got str; write ["freeze"]',
        ),
        ({"preemption": {"spar": 1}}, "preemption.spar: unknown key; did you mean spare?"),
        ({"preemption": {"spare": 0}}, "preemption.spare: expected int >= 1"),
        ({"preemption": 1}, "preemption: must be a table, not a number"),
        (
            {"preemption": {"max_checkpoint": "1GiB"}},
            "preemption.max_checkpoint: must be more than zero and at most 512MiB",
        ),
        (
            {"preemption": {"max_checkpoint": "1 apple"}},
            "preemption.max_checkpoint: '1 apple' is not an amount of memory",
        ),
    ],
)
def test_each_mistake_has_its_place(content: dict[str, object], message: str) -> None:
    """And says what to write instead."""
    with pytest.raises(PolicyError) as caught:
        load(content)

    assert message in str(caught.value)


def test_a_task_declares_it() -> None:
    """By its decorator or base class."""
    assert FREEZE == declared(cast("Any", SimpleNamespace(preempt=["freeze"]))).preempt
    assert () == declared(cast("Any", SimpleNamespace(preempt=()))).preempt
    assert declared(cast("Any", SimpleNamespace(band="a"))).preempt is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("freeze", "option preempt: is 'freeze'; give a list such as [\"freeze\"]"),
        (["freez"], "'freez', which is no way to give way; did you mean freeze?"),
        ([3], "names 3, which is no way to give way; known: freeze"),
    ],
)
def test_a_task_cannot_declare_anything_else(value: object, message: str) -> None:
    """The message says what to write."""
    with pytest.raises(OptionError) as caught:
        declared(cast("Any", SimpleNamespace(preempt=value)))

    assert message in str(caught.value)
