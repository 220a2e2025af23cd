"""Loading under generated input: a policy or a `PolicyError` that can be shown, nothing else."""

from __future__ import annotations

import pickle
import re
import tempfile
from collections.abc import Iterable
from math import fsum
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from celery_budget.errors import AmountError, DurationError, PolicyError
from celery_budget.policy.budget import Action, Scope
from celery_budget.policy.load import load, schema
from celery_budget.policy.model import Policy
from celery_budget.policy.preemption import LARGEST_CHECKPOINT
from celery_budget.policy.terms import resolve
from celery_budget.units import BUILT_IN, LARGEST, MAX_SECONDS, amount, seconds, share

KEYS = [key for table in schema()["$defs"].values() for key in table["properties"]]  # type: ignore[attr-defined]

SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**63, 2**64, 1e308, 5e-324])
    | st.floats()
    | st.text()
    | st.text(st.characters(categories=["Cs", "Cc", "Lo"]))
    | st.binary()
    | st.datetimes()
    | st.timedeltas()
    | st.complex_numbers()
    | st.sampled_from(
        ["a", "b", "*", "a.*", "[", "[!", "[]", "[b-a]", "{", "{x", "{x}", "2s", "1d"]
    )
)

KEY = st.sampled_from([*KEYS, "a", "b", "wieght"]) | st.text() | st.integers() | st.none()

JUNK = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.sets(st.integers(), max_size=3)
        | st.dictionaries(KEY, inner, max_size=5)
    ),
    max_leaves=25,
)

NUMBER = st.floats(min_value=0, max_value=3) | st.integers(min_value=-1, max_value=4) | JUNK
DURATION = st.sampled_from(["250ms", "2s", 1, 0.5]) | SCALARS
NAME = st.sampled_from(["a", "b", "c"]) | st.text(max_size=8)

RESOURCE = st.sampled_from([*BUILT_IN, "usd"]) | NAME
AMOUNT = st.sampled_from(["3s", "2MiB", "0.5", 3, "5M", "-1", 2**53]) | SCALARS
LIMIT = (
    st.builds("{}/{}".format, st.sampled_from(["1s", "2GB", "5"]), st.text("1dhms", max_size=4))
    | st.sampled_from(["5/1d", "9/1s", "5s/1m", "1GB/day", "5/month", "5/1h", "4", "3MiB", 3])
    | AMOUNT
)
SHARE = st.sampled_from(["80%", "20%", 0.5, 1, "101%", 80]) | SCALARS
ACTION = st.sampled_from(["hold", "degrade", "demote", "shed", "stop"])
TARGET = (
    st.sampled_from(["fleet", "tenant:*", "band:a", "band:b", "header:x:*", "task:a.*", "tenant"])
    | st.builds("{}:{}".format, st.sampled_from([*Scope]), st.text("ab*:", max_size=5))
    | NAME
)
STEP = st.fixed_dictionaries({}, optional={"do": ACTION | JUNK, "at": SHARE})
BUDGET = (
    st.fixed_dictionaries(
        {"limit": LIMIT},
        optional={
            "burst": AMOUNT,
            "time_zone": st.sampled_from(["UTC", "Europe/Berlin", "Europe", "x"]) | SCALARS,
            "on_exhausted": ACTION | st.lists(STEP, max_size=3) | JUNK,
            "at": SHARE,
            "reserve": st.dictionaries(NAME, SHARE, max_size=2) | JUNK,
        },
    )
    | LIMIT
    | JUNK
)

#: Tables of amounts; most of a policy with mistakes in all of them is refused.
AMOUNTS = {
    "budgets": st.dictionaries(
        TARGET, st.dictionaries(RESOURCE, BUDGET, max_size=2) | JUNK, max_size=2
    ),
    "ceilings": st.dictionaries(
        TARGET,
        st.dictionaries(st.sampled_from(["cpu", "memory", "runtime", "grace"]), AMOUNT, max_size=3),
        max_size=2,
    ),
    "tenants": st.dictionaries(
        st.text("ab*", max_size=4),
        st.fixed_dictionaries({}, optional={"weight": NUMBER}),
        max_size=2,
    ),
    "envelopes": st.fixed_dictionaries(
        {},
        optional={
            "on_exhausted": ACTION | st.lists(STEP, max_size=3) | JUNK,
            "at": SHARE,
            "resources": st.lists(RESOURCE, max_size=3) | JUNK,
        },
    )
    | JUNK,
}

METHODS = st.lists(st.sampled_from(["freeze", "x"]), max_size=2) | JUNK

NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "default_band": NAME,
        "bands": st.dictionaries(
            NAME,
            st.fixed_dictionaries(
                {},
                optional={
                    "queues": st.lists(NAME, max_size=3) | JUNK,
                    "weight": NUMBER,
                    "reserve": NUMBER,
                    "reserve_most": NUMBER,
                    "lend": NUMBER,
                    "min_share": NUMBER,
                    "preempts": st.booleans() | JUNK,
                    "latency_target": DURATION,
                    "deadline": DURATION,
                    "expires": DURATION,
                    "on_ledger_loss": st.sampled_from(["open", "local", "x"]) | SCALARS,
                    "preempt": METHODS,
                },
            ),
            max_size=4,
        ),
        "tasks": st.dictionaries(
            st.text("ab.*?[]!-", max_size=8),
            st.fixed_dictionaries(
                {},
                optional={
                    "band": NAME,
                    "tenant": st.text("{}x!:.", max_size=5),
                    "cost": st.dictionaries(RESOURCE, AMOUNT, max_size=3) | JUNK,
                    "preempt": METHODS,
                },
            ),
            max_size=4,
        ),
        "preemption": st.fixed_dictionaries(
            {},
            optional={
                "spare": NUMBER,
                "max_freeze": DURATION,
                "checkpoint_every": DURATION,
                "evict_grace": DURATION,
                "max_checkpoint": AMOUNT,
            },
        )
        | JUNK,
        "caller_options": st.lists(st.sampled_from(["band", "tenant", "x"])) | JUNK,
        "seed": NUMBER,
        **AMOUNTS,
    },
)

AT = st.sampled_from(["20%", 0.5, "80%", 1])
STEPS = st.lists(
    st.fixed_dictionaries({"do": st.sampled_from([*Action]), "at": AT}), min_size=1, max_size=3
)
EXHAUSTION = (
    st.just({})
    | st.fixed_dictionaries({"on_exhausted": st.sampled_from([*Action])}, optional={"at": AT})
    | st.fixed_dictionaries({"on_exhausted": STEPS})
)
BURST = st.fixed_dictionaries({}, optional={"burst": st.integers(0, 2)})
ZONE = st.fixed_dictionaries({"time_zone": st.sampled_from(["UTC", "Europe/Berlin"])})
RESERVE = st.fixed_dictionaries(
    {"reserve": st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from([0.3, 0.6]))}
)
LIMITED = (
    st.tuples(st.sampled_from([("starts", "9/1s"), ("cpu", "5s/1m"), ("usd", "5/1d")]), BURST)
    | st.tuples(st.sampled_from([("usd", "5/month"), ("io", f"{LARGEST}/week")]), BURST | ZONE)
    | st.tuples(st.sampled_from([("slots", 3), ("memory", "1GB")]), st.just({}))
)

#: Each part is right, so that only what the parts do to one another may refuse it.
SOUND_BUDGET = st.builds(
    lambda limited, *more: {limited[0][0]: {"limit": limited[0][1], **limited[1], **merged(more)}},
    LIMITED,
    EXHAUSTION,
    RESERVE,
)
SOUND_TARGET = st.sampled_from(["task:a.*", "tenant:*", "band:a", "band:b"])
SOUND_TABLE = (
    st.builds(
        lambda target, budget: {"budgets": {target: budget}},
        SOUND_TARGET | st.sampled_from(["fleet", "header:x:*"]),
        SOUND_BUDGET,
    )
    | st.builds(
        lambda target, ceiling: {"ceilings": {target: ceiling}},
        SOUND_TARGET,
        st.dictionaries(
            st.sampled_from(["cpu", "memory", "runtime", "grace"]), st.integers(0, 2), max_size=3
        ),
    )
    | st.builds(
        lambda cost: {"tasks": {"t": {"cost": cost}}},
        st.dictionaries(st.sampled_from([*BUILT_IN, "usd"]), st.integers(-1, 9), max_size=3),
    )
)


def merged(tables: Iterable[dict[str, object]]) -> dict[str, object]:
    """Put the keys of some tables into one."""
    return {key: value for table in tables for key, value in table.items()}


def hold(policy: Policy) -> None:
    """Assert what every part of the program takes for granted about a policy."""
    names = [band.name for band in policy.bands]
    queues = [queue for band in policy.bands for queue in band.queues]
    assert policy.default_band in names
    assert list(range(len(names))) == [band.rank for band in policy.bands]
    assert len(set(queues)) == len(queues)
    assert fsum(band.min_share for band in policy.bands) < 1
    assert policy.preemption.spare >= 1
    assert policy.preemption.max_freeze_s > 0
    assert policy.preemption.checkpoint_every_s > 0
    assert policy.preemption.evict_grace_s > 0
    assert 0 < policy.preemption.max_checkpoint <= LARGEST_CHECKPOINT
    for band in policy.bands:
        assert 0.001 <= band.weight <= 1_000_000
        assert type(band.weight) is float
        assert type(band.reserve) is int
        assert 0 <= band.reserve <= 100_000
        for duration in (band.latency_target, band.deadline, band.expires):
            assert duration is None or 0 < duration <= MAX_SECONDS
    for rule in policy.tasks:
        assert rule.band is None or rule.band in names
        terms = resolve(policy, rule.pattern, now=0.0, arguments=lambda: {"x": "acme"})
        assert terms.band in names
        assert all(0 <= units <= LARGEST for _, units in rule.cost or ())
        assert (rule.cost or ()) == terms.cost
    hold_budgets(policy, names)


def hold_budgets(policy: Policy, names: list[str]) -> None:
    """Assert what the ledger, which counts in doubles, takes for granted about budgets."""
    for budget in policy.budgets:
        assert 0 < budget.limit <= budget.limit + budget.burst <= LARGEST
        assert (budget.scope is Scope.HEADER) == bool(budget.header)
        assert budget.resource in policy.resources
        window = budget.window
        if window is None:
            assert budget.burst == 0
            assert budget.resource in ("slots", "memory")
        else:
            assert (window.length_us > 0) != bool(window.calendar)
            assert window.turns or budget.burst > 0
        shares = [at for at, _ in budget.actions]
        assert shares
        assert sorted(set(shares)) == shares
        assert all(0 < at <= 1 for at in shares)
        assert not {Action.HOLD, Action.SHED} & {action for _, action in budget.actions[:-1]}
        kept = dict(budget.reserve)
        assert set(kept) <= set(names)
        assert fsum(kept.values()) < 1
        assert policy.budgets_for(budget.scope, "a", budget.header) is not None
    for ceiling in policy.ceilings:
        assert all(0 < units <= LARGEST for _, units in ceiling.limits)
        assert 0 <= ceiling.grace_us <= LARGEST
    for rule in policy.tenants:
        assert 0.001 <= rule.weight <= 1_000_000
        assert policy.tenant_weight(rule.pattern) > 0


def load_or_refuse(source: Any) -> None:
    """Load; a refusal must survive a process border and be fit for a terminal and a log."""
    try:
        policy = load(source)
    except PolicyError as error:
        refusal = error
    else:
        hold(policy)
        return
    assert refusal.problems
    assert str(refusal) == str(pickle.loads(pickle.dumps(refusal)))
    for problem in refusal.problems:
        assert str(problem).isprintable(), str(problem)
        assert len(str(problem)) < 1_000


@given(JUNK)
def test_junk_is_refused_with_a_message(source: Any) -> None:
    """A policy comes from a file that people, tools and templates write."""
    if not isinstance(source, str):  # a path: the file tests below have it
        load_or_refuse(source)


@given(NEARLY)
def test_what_is_nearly_a_policy_is_loaded_or_refused(source: dict[str, object]) -> None:
    """Mistakes are small in practice; what passes must be safe for the dispatcher."""
    load_or_refuse(source)


# Parts that are wrong only together meet in one of a hundred.
@settings(max_examples=max(400, settings.default.max_examples))
@given(SOUND_TABLE)
def test_what_is_nearly_a_budget_is_loaded_or_refused(table: dict[str, object]) -> None:
    """Among many mistakes one that is let through would not be seen."""
    load_or_refuse({"default_band": "a", "bands": {"a": {}, "b": {}}, **table})


@given(st.sampled_from([*BUILT_IN, "usd"]), AMOUNT | st.text("0123456789. kMGiBs-+e%", max_size=12))
def test_an_amount_is_bounded_or_refused(resource: str, value: Any) -> None:
    """Whatever reaches the ledger must be a whole number that a double can hold."""
    try:
        result, text = amount(resource, value), ""
    except AmountError as error:
        result, text = 0, str(error)

    assert type(result) is int
    assert 0 <= result <= LARGEST
    assert text.isprintable()
    assert len(text) < 300


@given(SHARE | st.text("0123456789.% -e", max_size=8))
def test_a_share_is_bounded_or_refused(value: Any) -> None:
    """A share of nan would compare with no threshold."""
    try:
        result, text = share(value), ""
    except AmountError as error:
        result, text = 1.0, str(error)

    assert 0 < result <= 1
    assert text.isprintable()


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "ignore"))
)
def test_any_file_is_loaded_or_refused(content: bytes) -> None:
    """The wrong file is named sooner or later."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "policy.toml"
        file.write_bytes(content)
        load_or_refuse(file)


@given(SCALARS | st.text("0123456789. dhms-+e", max_size=12))
def test_a_duration_is_bounded_or_refused(value: Any) -> None:
    """`now` plus any duration must stay a date that a header can carry."""
    try:
        result, text = seconds(value), ""
    except DurationError as error:
        result, text = 0.0, str(error)

    assert 0 <= result <= MAX_SECONDS
    assert text.isprintable()


PATTERN = schema()["$defs"]["BandTable"]["properties"]["deadline"]["anyOf"][0]["pattern"]  # type: ignore[index]


@given(st.text("0123456789. dhms", max_size=10) | st.from_regex(PATTERN))
def test_the_schema_underlines_no_duration_that_is_taken(text: str) -> None:
    """An editor that is stricter than the loader would be switched off."""
    try:
        is_taken = seconds(text) > 0
    except DurationError:
        is_taken = False

    assert not is_taken or re.search(PATTERN, text) is not None
