"""The header under generated input: stamps come back, junk is refused, nothing else happens."""

from __future__ import annotations

import json
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from celery_budget.errors import HeaderError
from celery_budget.headers import MAX_AHEAD, MAX_CHARACTERS, Stamp, read, write
from celery_budget.policy.envelope import MAX_DEPTH, MAX_LIMITS, Envelope
from celery_budget.units import LARGEST

NOW = 1_764_000_000.25

NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)

AMOUNTS = st.dictionaries(NAMES, st.integers(1, LARGEST), max_size=MAX_LIMITS)

# Lone surrogates too: file names and task ids may hold them.
TEXT = st.text(st.characters(), max_size=400)


@given(
    st.builds(
        Stamp,
        band=NAMES,
        tenant=TEXT,
        deadline=st.just(inf) | st.floats(min_value=NOW, max_value=NOW + MAX_AHEAD),
        correlation_id=TEXT,
        at=st.floats(min_value=NOW, max_value=NOW + 1e6),
        move=st.integers(min_value=0, max_value=2**31 - 1),
        cost=AMOUNTS,
        envelopes=st.lists(
            st.builds(
                Envelope,
                id=NAMES,
                at=st.floats(min_value=NOW, max_value=NOW + 1e6),
                deadline=st.just(inf) | st.floats(min_value=NOW, max_value=NOW + MAX_AHEAD),
                limits=AMOUNTS,
            ),
            max_size=MAX_DEPTH,
        ).map(tuple),
    )
)
def test_whatever_is_written_is_accepted(stamp: Stamp) -> None:
    """A sender of ours must never be told that it made a mistake; long texts are cut."""
    header = write(stamp)
    found = read(header)

    assert len(header) <= MAX_CHARACTERS
    assert stamp.band == found.band
    assert encodable(stamp.tenant[:256]) == found.tenant
    assert stamp.deadline == found.deadline
    assert encodable(stamp.correlation_id[:256]) == found.correlation_id
    assert stamp.at == found.at
    assert stamp.move == found.move
    assert stamp.cost == found.cost
    assert stamp.envelopes == found.envelopes


def encodable(text: str) -> str:
    """Replace what UTF-8 cannot encode."""
    return text.encode(errors="replace").decode()


FIELDS = [
    "v",
    "band",
    "tenant",
    "deadline",
    "cid",
    "at",
    "move",
    "cost",
    "envelopes",
    "id",
    "limits",
]

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXT
    | st.sampled_from([1, 2, "critical", NOW, 10**40, -(10**400)])
)

JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(FIELDS), inner),
    max_leaves=20,
)

OBJECTS = st.dictionaries(st.sampled_from(FIELDS), JSON) | st.builds(
    lambda changes: {"v": 1, "band": "critical", **changes},
    st.dictionaries(st.sampled_from(FIELDS), LEAVES, max_size=2),
)

ENVELOPE = Envelope("e-1", NOW, NOW + 60, {"usd": 2_000_000})

VALID = write(Stamp("critical", "acme", NOW + 2, "c-1", NOW, 3, {"cpu": 5}, (ENVELOPE,)))

MUTATED = st.builds(
    lambda start, cut, junk: VALID[:start] + junk + VALID[start + cut :],
    st.integers(0, len(VALID)),
    st.integers(0, 5),
    st.text(max_size=5) | st.sampled_from(["[" * 5_000, '{"v":' * 1_000, "9" * 5_000, "\\ud800"]),
)


@given(
    JSON
    | st.binary()
    | TEXT
    | MUTATED
    | st.builds(json.dumps, OBJECTS | JSON, ensure_ascii=st.booleans())
)
def test_junk_is_read_or_refused_and_nothing_else(value: object) -> None:
    """Any other exception would stop the worker's consumer loop."""
    try:
        stamp = read(value)
    except HeaderError as error:
        stamp, text = None, str(error)

    if stamp is None:
        assert text.startswith("header budget")
    else:
        assert stamp == read(write(stamp))
