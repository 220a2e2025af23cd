"""The header under generated input: stamps come back, junk is refused, nothing else happens."""

from __future__ import annotations

import json
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from celery_budget.errors import HeaderError
from celery_budget.headers import MAX_AHEAD, Stamp, read, write

NOW = 1_764_000_000.25


@given(
    st.builds(
        Stamp,
        band=st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True),
        tenant=st.text(st.characters(exclude_categories=["Cs"])),
        deadline=st.just(inf) | st.floats(min_value=NOW, max_value=NOW + MAX_AHEAD),
        correlation_id=st.text(st.characters(exclude_categories=["Cs"]), max_size=400),
        at=st.floats(min_value=NOW, max_value=NOW + 1e6),
        move=st.integers(min_value=0, max_value=2**31 - 1),
    )
)
def test_whatever_is_written_is_accepted(stamp: Stamp) -> None:
    """A sender of ours must never be told that it made a mistake; long texts are cut."""
    found = read(json.loads(json.dumps(write(stamp))))

    assert stamp.band == found.band
    assert stamp.tenant[:256] == found.tenant
    assert stamp.deadline == found.deadline
    assert stamp.correlation_id[:256] == found.correlation_id
    assert stamp.at == found.at
    assert stamp.move == found.move


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.sampled_from([1, "critical", NOW]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(
    JUNK
    | st.dictionaries(
        st.sampled_from(["v", "band", "tenant", "deadline", "cid", "at", "move", "x"]), JUNK
    )
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
