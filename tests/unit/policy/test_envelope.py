"""Envelopes as values, how they nest, and what a policy says of them."""

from __future__ import annotations

import re
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_budget.errors import OptionError, PolicyError
from celery_budget.policy.budget import Action, Scope
from celery_budget.policy.envelope import (
    KEPT_S,
    LIFE_S,
    MAX_DEPTH,
    Envelope,
    EnvelopeRule,
    budgets_of,
    nest,
)
from celery_budget.policy.load import load

AT = 1_764_000_000.0

OUTER = Envelope("outer", AT, AT + 60, {"usd": 10, "starts": 5})


def test_an_envelope_ends_at_its_deadline_and_after_30_days_without() -> None:
    """A workflow that was forgotten must not keep accounts for ever."""
    assert AT + 60 == OUTER.ends
    assert AT + LIFE_S == Envelope("id", AT).ends


def test_each_amount_and_the_time_has_an_account() -> None:
    """They are what a worker asks before a part starts, and what a refusal names."""
    found = dict(budgets_of(OUTER, EnvelopeRule(((1.0, Action.HOLD),))))
    usd = found["envelope:outer usd"]

    assert ["deadline", "starts", "usd"] == sorted(name.split()[1] for name in found)
    assert usd.window is not None
    assert (Scope.ENVELOPE, 10, AT + 60) == (usd.scope, usd.limit, usd.window.ends)
    assert int((AT + 60 + KEPT_S) * 1e6) == usd.window.kept_us
    assert {((1.0, Action.HOLD),)} == {budget.actions for budget in found.values()}


def test_an_inner_envelope_is_added_to_the_outer_ones() -> None:
    """A part draws on all of them."""
    inner = Envelope("inner", AT, limits={"usd": 100})

    assert (OUTER, inner) == nest((OUTER,), inner)


def test_an_envelope_that_is_there_is_not_added_again() -> None:
    """Celery copies the option to all parts, and parts take over what their parent has."""
    assert (OUTER,) == nest((OUTER,), Envelope("outer", AT + 1, limits={"usd": 1}))


@pytest.mark.parametrize(
    ("deadline", "limits", "is_left_out"),
    [
        (AT + 60, {"usd": 10, "starts": 5}, True),
        (AT + 99, {"usd": 10}, True),
        (inf, {"starts": 6}, True),
        (AT + 60, {}, True),
        (AT + 59, {"usd": 10}, False),
        (inf, {"usd": 9}, False),
        (inf, {"usd": 10, "cpu": 1}, False),
    ],
)
def test_an_envelope_without_an_id_is_left_out_where_it_asks_for_nothing_new(
    deadline: float, limits: dict[str, int], *, is_left_out: bool
) -> None:
    """A chord's body repeats its header's option, and can only do what it would do anyway."""
    inner = Envelope("", AT, deadline, limits)

    assert ((OUTER,) if is_left_out else (OUTER, inner)) == nest((OUTER,), inner)


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 9)),
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 9)),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=20),
)
def test_what_is_left_out_never_runs_out_first(
    inner: dict[str, int], outer: dict[str, int], uses: list[tuple[str, int]]
) -> None:
    """Whatever is spent inside is spent outside too."""
    outside = Envelope("outer", AT, limits=outer)
    if nest((outside,), Envelope("", AT, limits=inner)) != (outside,):
        return
    spent = dict.fromkeys("abc", 0)
    for resource, units in uses:
        spent[resource] += units
        if any(spent[each] >= limit for each, limit in inner.items()):
            assert any(spent[each] >= limit for each, limit in outer.items())


def test_too_many_envelopes_are_an_error() -> None:
    """Each brings accounts that have to be asked before every start."""
    outer = tuple(Envelope(str(number), AT) for number in range(MAX_DEPTH))

    with pytest.raises(OptionError, match="inside of 4 others already"):
        nest(outer, Envelope("one more", AT))


# --- what a policy says ---


def test_an_empty_table_is_enough() -> None:
    """An app may have envelopes and no other budget."""
    policy = load({"envelopes": {}})

    assert EnvelopeRule(((1.0, Action.SHED),)) == policy.envelopes
    assert (False, True, "default") == (
        policy.is_empty,
        policy.has_accounts,
        policy.owner("anything"),
    )


def test_resources_of_envelopes_are_metered_and_charged() -> None:
    """Nobody measures what the policy does not name."""
    policy = load({"envelopes": {"resources": ["usd", "cpu", "usd"]}})

    assert ("cpu", "usd") == policy.resources


def test_steps_are_written_as_in_budgets() -> None:
    """One way to write them is enough to learn."""
    steps = [{"at": "80%", "do": "degrade"}, {"do": "hold"}]
    listed = load({"envelopes": {"on_exhausted": steps}}).envelopes
    single = load({"envelopes": {"on_exhausted": "degrade", "at": 0.5}}).envelopes

    assert listed is not None
    assert ((0.8, Action.DEGRADE), (1.0, Action.HOLD)) == listed.actions
    assert single is not None
    assert ((0.5, Action.DEGRADE),) == single.actions


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (7, "envelopes: must be a table, not a number"),
        ({"resource": ["usd"]}, "envelopes.resource: unknown key; did you mean resources?"),
        ({"resources": "usd"}, 'envelopes.resources: expected array, got str; write ["usd"]'),
        ({"resources": ["a b"]}, "envelopes.resources[0]: expected str matching regex"),
        ({"resources": ["slots"]}, "envelopes.resources: slots is held and given back"),
        ({"resources": ["deadline"]}, "envelopes.resources: deadline is a part of each envelope"),
        ({"on_exhausted": "shedd"}, '"shedd" is not an action; did you mean shed?'),
        ({"on_exhausted": "demote"}, "envelopes.on_exhausted: there is no lower band to demote to"),
        ({"at": "50%"}, "envelopes.at: needs an on_exhausted"),
        (
            {"resources": [f"r{n}" for n in range(16)]},
            "envelopes.resources: is one custom resource too many; 16 are possible",
        ),
    ],
)
def test_every_mistake_has_its_place(table: Any, problem: str) -> None:
    """Its author looks for the line."""
    budgets = {"fleet": {"own": "1/1d"}}

    with pytest.raises(PolicyError, match=re.escape(problem)):
        load({"envelopes": table, "budgets": budgets})
