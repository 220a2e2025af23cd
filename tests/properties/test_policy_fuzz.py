"""Loading under generated input: a policy or a `PolicyError` that can be shown, nothing else."""

from __future__ import annotations

import pickle
import re
import tempfile
from math import fsum
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from celery_budget.errors import DurationError, PolicyError
from celery_budget.policy.load import load, schema
from celery_budget.policy.model import Policy
from celery_budget.policy.terms import resolve
from celery_budget.units import MAX_SECONDS, seconds

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
                    "min_share": NUMBER,
                    "preempts": st.booleans() | JUNK,
                    "latency_target": DURATION,
                    "deadline": DURATION,
                    "expires": DURATION,
                },
            ),
            max_size=4,
        ),
        "tasks": st.dictionaries(
            st.text("ab.*?[]!-", max_size=8),
            st.fixed_dictionaries(
                {}, optional={"band": NAME, "tenant": st.text("{}x!:.", max_size=5)}
            ),
            max_size=4,
        ),
        "caller_options": st.lists(st.sampled_from(["band", "tenant", "x"])) | JUNK,
        "seed": NUMBER,
    },
)


def hold(policy: Policy) -> None:
    """Assert what every part of the program takes for granted about a policy."""
    names = [band.name for band in policy.bands]
    queues = [queue for band in policy.bands for queue in band.queues]
    assert policy.default_band in names
    assert list(range(len(names))) == [band.rank for band in policy.bands]
    assert len(set(queues)) == len(queues)
    assert fsum(band.min_share for band in policy.bands) < 1
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
