"""The wire contract: what is written can be read, and nothing a sender does stops a worker."""

from __future__ import annotations

import json
import re
from math import inf, nan
from pathlib import Path

import pytest

from celery_budget.errors import HeaderError
from celery_budget.headers import MAX_AHEAD, Stamp, read, write
from celery_budget.policy.envelope import MAX_DEPTH, MAX_LIMITS, Envelope
from celery_budget.policy.names import LATEST
from celery_budget.units import LARGEST

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "headers.md"

NOW = 1_764_000_000.25

ENVELOPE = Envelope("e-1", NOW, NOW + 60, {"usd": 2_000_000})

FULL = Stamp("critical", "acme", NOW + 2, "c-1", NOW, 3, {"cpu": 5}, (ENVELOPE,))

BAND = "field band: must be 1 to 64 of the characters A-Z a-z 0-9 _ . -"
TENANT = "field tenant: must be text of at most 256 characters"
CID = "field cid: must be text of at most 256 characters"
AT = "field at: must be a number of Unix seconds between 1970 and 2200"
DEADLINE = "field deadline: must be a number of Unix seconds between 1970 and 2200"
COST = "field cost: must be an object of at most 32 resources"
ENVELOPES = "field envelopes: must be a list of at most 4 objects, each with an id, at"
MOVE = "field move: must be an integer from 0 to 2147483647"
EXAMPLE = 'write a JSON object such as {"v":1,"band":"NAME"}'
NO_OBJECT = f"header budget: is no object; {EXAMPLE}"
NO_JSON = f"header budget: is no valid JSON; {EXAMPLE}"


def header(**changes: object) -> str:
    """Make a valid header and change it."""
    return json.dumps({"v": 1, "band": "critical", "at": NOW} | changes)


def test_a_stamp_is_read_as_it_was_written() -> None:
    """Sender and worker must agree on every field."""
    assert FULL == read(write(FULL))


def test_long_texts_are_cut_by_the_writer() -> None:
    """A sender of ours must not write what the reader refuses, whatever a task's id is."""
    long = Stamp("critical", tenant="x" * 300, correlation_id="y" * 300)

    assert Stamp("critical", tenant="x" * 256, correlation_id="y" * 256) == read(write(long))


def test_the_longest_stamp_fits() -> None:
    """JSON writes a control character as six: the limit of the whole must leave room."""
    names = [f"{number:02}" + "r" * 62 for number in range(32)]
    envelope = Envelope(
        "e" * 64, LATEST - 0.3, LATEST - 0.1, dict.fromkeys(names[:MAX_LIMITS], LARGEST)
    )
    long = Stamp(
        "b" * 64, "\0" * 256, LATEST - 0.1, "\0" * 256, LATEST - 0.2, 2**31 - 1,
        dict.fromkeys(names, LARGEST), (envelope,) * MAX_DEPTH,
    )  # fmt: skip

    assert long == read(write(long))


def test_what_cannot_be_encoded_is_replaced_by_the_writer() -> None:
    """A file name that is no UTF-8 gives a lone surrogate; it must not stop the publish."""
    assert Stamp("critical", "a?b", correlation_id="é?") == read(
        write(Stamp("critical", "a\ud800b", correlation_id="é\udc80"))
    )


def test_an_absent_field_means_its_default() -> None:
    """Fields that say nothing are left out, as every message pays for its header."""
    assert '{"v":1,"band":"critical"}' == write(Stamp("critical", deadline=float("inf")))
    assert Stamp("critical") == read('{"v": 1, "band": "critical"}')


@pytest.mark.parametrize(
    "text",
    [
        '{"v":1,"band":"critical","at":1764000000.25}',
        '{"band": "critical", "at": 1764000000.25, "v": 1}',
        ' {\n"at":17640000002.5e-1,"v":1,"band":"\\u0063ritical"}\n',
    ],
)
def test_any_way_of_writing_json_is_read(text: str) -> None:
    """Libraries differ in order, spaces, escapes and exponents."""
    assert Stamp("critical", at=NOW) == read(text)


def test_whole_numbers_are_seconds_too() -> None:
    """Many languages write a float without a fraction as an integer."""
    assert Stamp("critical", deadline=NOW + 0.75, at=5.0) == read(
        header(deadline=1_764_000_001, at=5)
    )


def test_keys_of_a_newer_sender_are_left_alone() -> None:
    """A field added later must not break the workers that run today."""
    assert Stamp("critical", at=NOW) == read(header(price={"cpu": [1, 2]}, receipt="r"))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, f"header budget: must be text, not NoneType; {EXAMPLE}"),
        ({"v": 1, "band": "critical"}, f"header budget: must be text, not dict; {EXAMPLE}"),
        ([1], f"header budget: must be text, not list; {EXAMPLE}"),
        (header().encode(), f"header budget: must be text, not bytes; {EXAMPLE}"),
        ("", NO_JSON),
        ("critical", NO_JSON),
        ("[1]", NO_OBJECT),
        ("7", NO_OBJECT),
        ("null", NO_OBJECT),
        (header()[:-1], NO_JSON),
        (header() + "x", NO_JSON),
        (header(extra=nan), NO_JSON),
        ("{}", "field v: must be 1"),
        ('{"band":"critical"}', "field v: must be 1"),
        (header(v=2), "field v: is of a newer version than 1"),
        (header(v=2, band=["critical"]), "field v: is of a newer version than 1"),
        (header(v=10**30), "field v: is of a newer version than 1"),
        (header(v=0), "field v: must be 1"),
        (header(v=-1), "field v: must be 1"),
        (header(v=True), "field v: must be 1"),
        (header(v="1"), "field v: must be 1"),
        (header(v=None), "field v: must be 1"),
        ('{"v":1}', BAND),
        (header(band=None), BAND),
        (header(band=["critical"]), BAND),
        (header(band=""), BAND),
        (header(band="a b"), BAND),
        (header(band="critical\n"), BAND),
        (header(band="crïtical"), BAND),
        (header(band="x" * 65), BAND),
        (header(tenant=7), TENANT),
        (header(tenant="x" * 257), TENANT),
        (header(tenant=None), TENANT),
        (header(tenant="\ud800"), NO_JSON),
        (header().replace("critical", "\ud800"), "must be text that can be encoded as UTF-8"),
        (header(cid=[]), CID),
        (header(cid="x" * 1_000), CID),
        (header(at="now"), AT),
        (header(at=-1), AT),
        (header(at=nan), NO_JSON),
        (header(deadline=None), DEADLINE),
        (header(deadline=True), DEADLINE),
        (header(deadline="2s"), DEADLINE),
        (header(deadline=-1), DEADLINE),
        (header(deadline=10**400), DEADLINE),
        (header(deadline=NOW * 1000), DEADLINE),
        (header(deadline=LATEST + 1, at=0), DEADLINE),
        (header().replace("}", ', "deadline": 1e999}'), DEADLINE),
        (header(deadline=inf), NO_JSON),
        (header(deadline=-inf), NO_JSON),
        (header(deadline=NOW + MAX_AHEAD + 1), "less than 100 years after publishing"),
        (header(move=-1), MOVE),
        (header(move=1.5), MOVE),
        (header(move=True), MOVE),
        (header(move=2**31), MOVE),
        (header(move=10**400), MOVE),
        (header(cost={"usd": -1}), COST),
        (header(cost={"a b": 1}), COST),
        (header(envelopes={}), ENVELOPES),
        (header(envelopes=[{"id": "e"}]), ENVELOPES),
        (header(envelopes=[{"at": NOW}]), ENVELOPES),
        (header(envelopes=[{"id": "a b", "at": NOW}]), ENVELOPES),
        (header(envelopes=[{"id": "", "at": NOW}]), ENVELOPES),
        (header(envelopes=[{"id": "e", "at": NOW, "deadline": None}]), ENVELOPES),
        (header(envelopes=[{"id": "e", "at": NOW, "limits": {"usd": 0}}]), ENVELOPES),
        (header(envelopes=[{"id": "e", "at": NOW, "limits": {"usd": 2**53}}]), ENVELOPES),
        (header(envelopes=[{"id": "e", "at": NOW, "limits": {"a b": 1}}]), ENVELOPES),
        (header(envelopes=[{"id": "e", "at": NOW}] * 5), ENVELOPES),
        (header(extra="x" * 17_000), "must be at most 16384 characters"),
        ("x" * 1_000_000, "must be at most 16384 characters, not 1000000"),
        (header(v=2, extra="x" * 17_000), "must be at most 16384 characters"),
        ('{"v":1,"x":' + "[" * 8_000, f"header budget: is nested too deeply; {EXAMPLE}"),
        ("[" * 8_000, NO_OBJECT),
        ('{"v":2,"x":' + "[" * 8_000, "field v: must be 1"),
    ],
)
def test_a_senders_mistake_is_named(value: object, problem: str) -> None:
    """The warning in the worker's log is how the sender's author learns of it."""
    with pytest.raises(HeaderError, match=re.escape(problem)):
        read(value)


def test_every_field_is_on_the_reference_page() -> None:
    """The page is the contract for senders in other languages."""
    page = PAGE.read_text(encoding="utf-8")

    assert [] == [field for field in json.loads(write(FULL)) if f"| `{field}` |" not in page]


def test_the_examples_of_the_reference_page_are_headers() -> None:
    """Senders in other languages copy them."""
    examples = re.findall(r'^\{"v".*\}$', PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert ["critical"] == [read(example).band for example in examples]
