"""Precedence: who decides each option of a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf, nan

import pytest

from celery_budget.errors import OptionError, UnknownResource
from celery_budget.policy import terms
from celery_budget.policy.envelope import Envelope
from celery_budget.policy.load import load
from celery_budget.policy.model import Policy
from celery_budget.policy.terms import Asked, Declared, Source, Terms, resolve

NOW = 1_000_000.0

POLICY = load(
    {
        "default_band": "usual",
        "bands": {
            "urgent": {},
            "ruled": {"deadline": "10s", "expires": "1h"},
            "declared": {},
            "parent": {},
            "routed": {"queues": ["q"]},
            "usual": {"queues": ["celery"], "deadline": "100s"},
        },
        "tasks": {
            "ruled": {"band": "ruled", "tenant": "rule-{a}", "deadline": "5s", "expires": "6s"},
            "ruled.band": {"band": "ruled"},
        },
    }
)

CALL = Asked(band="urgent", tenant="call", deadline=NOW + 1, expires=2.0, correlation_id="call")
CARRIED = Asked("routed", "carried", NOW + 7, 8.0, "carried")
DECLARED = Declared(band="declared", tenant="declared-{a}", deadline=20.0, expires=30.0)
PARENT = Asked(band="parent", tenant="parent", deadline=NOW + 50, correlation_id="parent")


def arguments() -> Mapping[str, object]:
    """Give the arguments of the call that the templates are filled from."""
    return {"a": 1}


def unused() -> Mapping[str, object]:
    """Fail a test in which the arguments are not to be asked for."""
    raise AssertionError


@pytest.mark.parametrize(
    ("task", "said", "band", "source"),
    [
        (
            "ruled",
            {"call": CALL, "carried": CARRIED, "declared": DECLARED, "queue_is_explicit": True},
            "urgent",
            Source.CALL,
        ),
        (
            "ruled",
            {"carried": CARRIED, "declared": DECLARED, "inherited": PARENT},
            "routed",
            Source.CARRIED,
        ),
        (
            "ruled",
            {"declared": DECLARED, "queue": "q", "queue_is_explicit": True},
            "routed",
            Source.NAMED_QUEUE,
        ),
        (
            "ruled",
            {"declared": DECLARED, "inherited": PARENT, "queue": "q"},
            "ruled",
            Source.POLICY,
        ),
        (
            "other",
            {"declared": DECLARED, "inherited": PARENT, "queue": "q"},
            "declared",
            Source.DECLARED,
        ),
        ("other", {"inherited": PARENT, "queue": "q"}, "routed", Source.QUEUE),
        ("other", {"inherited": PARENT}, "parent", Source.INHERITED),
        ("other", {"queue": "foreign", "queue_is_explicit": True}, "usual", Source.DEFAULT),
        ("other", {}, "usual", Source.DEFAULT),
    ],
)
def test_the_first_that_speaks_decides_the_band(
    task: str, said: dict[str, object], band: str, source: Source
) -> None:
    """The order is a promise of the documentation; each row drops the one who decided above."""
    found = resolve(POLICY, task, now=NOW, arguments=arguments, **said)  # type: ignore[arg-type]

    assert (band, source) == (found.band, found.band_source)


@pytest.mark.parametrize(
    ("task", "said", "tenant"),
    [
        ("ruled", {"call": CALL, "carried": CARRIED, "declared": DECLARED}, "call"),
        ("ruled", {"call": Asked(tenant=""), "declared": DECLARED}, ""),
        ("ruled", {"carried": CARRIED, "declared": DECLARED}, "carried"),
        ("ruled", {"declared": DECLARED, "inherited": PARENT}, "rule-1"),
        ("other", {"declared": DECLARED, "inherited": PARENT}, "declared-1"),
        ("other", {"inherited": PARENT}, "parent"),
        ("other", {}, ""),
    ],
)
def test_the_first_that_speaks_decides_the_tenant(
    task: str, said: dict[str, object], tenant: str
) -> None:
    """Queues and bands say nothing of tenants."""
    found = resolve(POLICY, task, now=NOW, arguments=arguments, **said)  # type: ignore[arg-type]

    assert tenant == found.tenant


@pytest.mark.parametrize(
    ("task", "said", "deadline"),
    [
        ("ruled", {"call": CALL, "carried": CARRIED}, NOW + 1),
        ("ruled", {"carried": CARRIED, "inherited": PARENT}, NOW + 7),
        ("ruled", {"declared": DECLARED}, NOW + 5),
        ("other", {"declared": DECLARED}, NOW + 20),
        ("ruled.band", {}, NOW + 10),
        ("other", {}, NOW + 100),
        ("other", {"call": Asked(band="urgent")}, inf),
    ],
)
def test_the_first_that_speaks_decides_the_deadline(
    task: str, said: dict[str, object], deadline: float
) -> None:
    """Call and retry name a time, the others a duration from now."""
    found = resolve(POLICY, task, now=NOW, arguments=arguments, **said)  # type: ignore[arg-type]

    assert deadline == found.deadline


@pytest.mark.parametrize(
    ("parents", "own", "expected"),
    [(50.0, 20.0, 20.0), (10.0, 20.0, 10.0), (-5.0, 20.0, -5.0), (50.0, None, 50.0)],
)
def test_a_child_does_not_loosen_its_parents_deadline(
    parents: float, own: float | None, expected: float
) -> None:
    """The whole piece of work is late when one part of it is."""
    found = resolve(
        POLICY,
        "other",
        now=NOW,
        declared=Declared(band="urgent", deadline=own),
        inherited=Asked(deadline=NOW + parents),
    )

    assert NOW + expected == found.deadline


def test_only_the_call_itself_loosens_an_inherited_deadline() -> None:
    """Follow-up work that outlives its parent must be possible, and visible in the call."""
    found = resolve(
        POLICY, "other", now=NOW, call=Asked(deadline=NOW + 90), inherited=Asked(deadline=NOW + 9)
    )

    assert NOW + 90 == found.deadline


@pytest.mark.parametrize(
    ("task", "said", "expires"),
    [
        ("ruled", {"call": CALL, "carried": CARRIED, "declared": DECLARED}, 2.0),
        ("ruled", {"carried": CARRIED, "declared": DECLARED}, 8.0),
        ("ruled", {"declared": DECLARED}, 6.0),
        ("other", {"declared": DECLARED}, 30.0),
        ("ruled.band", {}, 3_600.0),
        ("other", {"inherited": replace(PARENT, expires=5.0)}, None),
    ],
)
def test_expiry_is_not_handed_down(
    task: str, said: dict[str, object], expires: float | None
) -> None:
    """A parent that must start soon says nothing of how long its children may wait."""
    found = resolve(POLICY, task, now=NOW, arguments=arguments, **said)  # type: ignore[arg-type]

    assert expires == found.expires


COSTED = load(
    {
        "bands": {"a": {}},
        "tasks": {"ruled": {"cost": {"usd": 2, "cpu": "2s", "memory": 2}}, "free": {}},
    }
)


@pytest.mark.parametrize(
    ("task", "said", "cost"),
    [
        ("other", {}, ()),
        ("free", {"inherited": Asked(cost=(("cpu", 9),))}, ()),
        ("other", {"declared": Declared(cost=(("io", 1), ("usd", 1)))}, (("io", 1), ("usd", 1))),
        (
            "ruled",
            {"declared": Declared(cost=(("io", 1), ("usd", 1)))},
            (("cpu", 2_000_000), ("io", 1), ("memory", 2), ("usd", 2_000_000)),
        ),
        (
            "ruled",
            {"carried": Asked(cost=(("cpu", 3), ("usd", 3)))},
            (("cpu", 3), ("memory", 2), ("usd", 3)),
        ),
        (
            "ruled",
            {"carried": Asked(cost=(("cpu", 3), ("usd", 3))), "call": Asked(cost=(("cpu", 4),))},
            (("cpu", 4), ("memory", 2), ("usd", 3)),
        ),
        (
            "ruled",
            {"call": Asked(cost=(("usd", 0),))},
            (("cpu", 2_000_000), ("memory", 2), ("usd", 0)),
        ),
    ],
)
def test_a_cost_is_settled_resource_by_resource(
    task: str, said: dict[str, object], cost: tuple[tuple[str, int], ...]
) -> None:
    """A call that knows its dollars knows nothing of the memory that the policy expects."""
    assert cost == resolve(COSTED, task, now=NOW, **said).cost  # type: ignore[arg-type]


def test_a_cost_may_be_closed_to_callers() -> None:
    """Who names a low cost gets past an estimate."""
    policy = replace(COSTED, caller_options=frozenset({"band"}))

    found = resolve(policy, "other", now=NOW, call=Asked(cost=(("usd", 1),)))

    assert ((), ("cost",)) == (found.cost, found.ignored)


def test_bands_count_only_where_there_are_any() -> None:
    """A policy of budgets alone must not refuse the bands that code mentions."""
    policy = load({"budgets": {"fleet": {"starts": "50/1s"}}})

    found = resolve(policy, "any", now=NOW, call=Asked(band="urgent"), queue="q")

    assert ("default", Source.DEFAULT) == (found.band, found.band_source)


@pytest.mark.parametrize(
    ("said", "correlation_id"),
    [
        ({"call": CALL, "carried": CARRIED, "inherited": PARENT}, "call"),
        ({"carried": CARRIED, "inherited": PARENT}, "carried"),
        ({"inherited": PARENT}, "parent"),
        ({}, ""),
    ],
)
def test_the_correlation_id_is_handed_down(said: dict[str, Asked], correlation_id: str) -> None:
    """All tasks of one piece of work must be found by one id."""
    assert correlation_id == resolve(POLICY, "other", now=NOW, **said).correlation_id  # type: ignore[arg-type]


def test_options_that_are_not_the_callers_are_ignored_and_named() -> None:
    """The operator may close an option; the caller must be able to learn why nothing happened."""
    policy = replace(POLICY, caller_options=frozenset({"expires"}))

    found = resolve(policy, "ruled", now=NOW, call=CALL, arguments=arguments)

    assert (
        Terms(
            band="ruled",
            tenant="rule-1",
            deadline=NOW + 5,
            expires=2.0,
            correlation_id="call",
            band_source=Source.POLICY,
            ignored=("band", "tenant", "deadline"),
        )
        == found
    )


def test_a_retry_keeps_its_terms_where_callers_may_set_nothing() -> None:
    """What was settled once is no wish of a caller: a retry must not change its band."""
    policy = replace(POLICY, caller_options=frozenset())

    found = resolve(policy, "ruled", now=NOW, carried=CARRIED)

    assert ("routed", "carried", NOW + 7, ()) == (
        found.band,
        found.tenant,
        found.deadline,
        found.ignored,
    )


@pytest.mark.parametrize("said", ["carried", "inherited"])
def test_a_band_that_is_gone_from_the_policy_is_not_handed_down(said: str) -> None:
    """Messages outlive policies; the children of an old one must still be published."""
    found = resolve(POLICY, "other", now=NOW, **{said: Asked(band="gone")})  # type: ignore[arg-type]

    assert ("usual", Source.DEFAULT) == (found.band, found.band_source)


@pytest.mark.parametrize(
    ("band", "text"),
    [
        ("urgnt", "option band: 'urgnt' is not a band of the policy; did you mean urgent?"),
        (
            "zzz",
            (
                "option band: 'zzz' is not a band of the policy; "
                "it has urgent, ruled, declared, parent, routed, usual"
            ),
        ),
        (3, "option band: must be the name of a band, not int"),
    ],
)
@pytest.mark.parametrize("said", ["call", "declared"])
def test_an_unknown_band_is_refused_with_a_suggestion(said: str, band: str, text: str) -> None:
    """A misspelt band would run with the wrong priority for weeks."""
    options = {"call": Asked(band=band)} if said == "call" else {"declared": Declared(band=band)}

    with pytest.raises(OptionError) as caught:
        resolve(POLICY, "other", now=NOW, **options)  # type: ignore[arg-type]

    assert text == str(caught.value)


@pytest.mark.parametrize(
    ("call", "option"),
    [
        (Asked(tenant="x" * 257), "tenant"),
        (Asked(tenant="\ud800"), "tenant"),
        (Asked(correlation_id="x" * 257), "correlation_id"),
        (Asked(deadline=nan), "deadline"),
        (Asked(deadline=inf), "deadline"),
        (Asked(deadline=-1.0), "deadline"),
        (Asked(deadline=NOW * 1e6), "deadline"),
        (Asked(expires=nan), "expires"),
        (Asked(expires=inf), "expires"),
        (Asked(cost=(("a b", 1),)), "cost"),
        (Asked(cost=(("cpu", -1),)), "cost"),
        (Asked(cost=(("cpu", 2**53),)), "cost"),
        (Asked(cost=tuple((f"r{n}", 1) for n in range(33))), "cost"),
    ],
)
def test_a_value_that_no_message_can_carry_is_refused_at_the_call(call: Asked, option: str) -> None:
    """The caller can mend it; the worker that would refuse the header cannot."""
    with pytest.raises(OptionError) as caught:
        resolve(POLICY, "other", now=NOW, call=call)

    assert option == caught.value.option


def test_without_a_policy_there_is_one_band_whatever_tasks_name() -> None:
    """Code with bands must run in a project or a test that has no policy file."""
    found = resolve(
        Policy(), "any", now=NOW, call=Asked(band="urgent"), declared=Declared(band="declared")
    )

    assert Terms("default", "", inf, None, "", Source.DEFAULT) == found


def test_arguments_are_asked_for_only_by_a_template() -> None:
    """Binding them costs more than all the rest."""
    assert "" == resolve(POLICY, "other", now=NOW, arguments=unused).tenant


def test_rules_of_different_policies_are_kept_apart() -> None:
    """Rules are remembered by task name, and one process may hold several apps."""
    first = load({"bands": {"a": {}}, "tasks": {"t": {"tenant": "first"}}})
    second = load({"bands": {"a": {}}, "tasks": {"t": {"tenant": "second"}}})

    assert ["first", "second", "first"] == [
        resolve(policy, "t", now=NOW).tenant for policy in (first, second, first)
    ]


def test_remembered_rules_are_bounded() -> None:
    """Task names come with messages, so a stranger could fill the memory."""
    for number in range(terms.MAX_CACHED + 10):
        resolve(POLICY, f"task{number}", now=NOW)

    assert len(terms._rules) <= terms.MAX_CACHED


# --- envelopes ---

ENVELOPED = load({"bands": {"a": {"deadline": "100s"}}, "envelopes": {"resources": ["usd"]}})

OUTER = Envelope("outer", NOW, NOW + 30, {"usd": 5})
INNER = Envelope("inner", NOW, limits={"starts": 5})


def test_a_task_takes_over_the_envelopes_of_its_parent() -> None:
    """All parts of a workflow draw on them, whoever publishes the part."""
    settled = resolve(ENVELOPED, "t", now=NOW, inherited=Asked(envelopes=(OUTER,)))

    assert ((OUTER,), NOW + 30) == (settled.envelopes, settled.deadline)


def test_the_envelope_of_a_call_is_inside_of_those() -> None:
    """It limits a part of the workflow."""
    inherited, call = Asked(envelopes=(OUTER,)), Asked(envelopes=(INNER,), deadline=NOW + 90)
    settled = resolve(ENVELOPED, "t", now=NOW, inherited=inherited, call=call)

    assert ((OUTER, INNER), NOW + 30) == (settled.envelopes, settled.deadline)


def test_a_retry_keeps_what_was_carried() -> None:
    """Not what is open where it happens to be published."""
    inherited = Asked(envelopes=(OUTER,))
    settled = [
        resolve(ENVELOPED, "t", now=NOW, inherited=inherited, carried=Asked("a", envelopes=each))
        for each in ((INNER,), ())
    ]

    assert [(INNER,), ()] == [each.envelopes for each in settled]


def test_an_envelope_makes_nobody_urgent_where_calls_may_not_be() -> None:
    """Else it would be a way around `caller_options`; its end holds all the same."""
    policy = replace(ENVELOPED, caller_options=frozenset())
    settled = resolve(policy, "t", now=NOW, call=Asked(envelopes=(OUTER,)))

    assert ((OUTER,), NOW + 100) == (settled.envelopes, settled.deadline)


def test_an_envelope_needs_accounts_and_known_resources() -> None:
    """Workers count nothing that the policy does not name."""
    eur = Asked(envelopes=(Envelope("e", NOW, limits={"eur": 1}),))
    with pytest.raises(UnknownResource, match="it names starts, usd"):
        resolve(ENVELOPED, "t", now=NOW, call=eur)
    with pytest.raises(OptionError, match="keep no accounts; add"):
        resolve(POLICY, "t", now=NOW, call=Asked(envelopes=(INNER,)))
