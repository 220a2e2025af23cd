"""The wire contract: what is written can be read, and nothing a sender does stops a worker."""

from __future__ import annotations

import json
import re
from math import inf, nan
from pathlib import Path

import pytest

from celery_budget.errors import HeaderError
from celery_budget.headers import MAX_AHEAD, Stamp, read, write
from celery_budget.policy.names import LATEST

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "headers.md"

NOW = 1_764_000_000.25

FULL = Stamp("critical", "acme", NOW + 2, "c-1", NOW, 3)


def header(**changes: object) -> dict[str, object]:
    """Make a valid header and change it."""
    return {"v": 1, "band": "critical", "at": NOW} | changes


def test_a_stamp_is_read_as_it_was_written() -> None:
    """Sender and worker must agree on every field."""
    assert FULL == read(write(FULL))


def test_long_texts_are_cut_by_the_writer() -> None:
    """A sender of ours must not write what the reader refuses, whatever a task's id is."""
    long = Stamp("critical", tenant="x" * 300, correlation_id="y" * 300)

    assert Stamp("critical", tenant="x" * 256, correlation_id="y" * 256) == read(write(long))


def test_an_absent_field_means_its_default() -> None:
    """Fields that say nothing are left out, as every message pays for its header."""
    assert {"v": 1, "band": "critical", "at": NOW} == write(Stamp("critical", at=NOW))
    assert Stamp("critical", at=NOW) == read(header())
    assert Stamp("critical") == read({"v": 1, "band": "critical"})


def test_the_header_survives_json() -> None:
    """Every serializer and broker must be able to carry it."""
    assert FULL == read(json.loads(json.dumps(write(FULL))))


def test_keys_of_a_newer_sender_are_left_alone() -> None:
    """A field added later must not break the workers that run today."""
    assert "critical" == read(header(cost={"cpu": [1, 2]}, receipt="r")).band


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "header budget: must be an object, not NoneType"),
        ("{}", "header budget: must be an object, not str"),
        ([1], "header budget: must be an object, not list"),
        ({}, "field v: must be 1"),
        (header(v=2), "field v: is of a newer version than 1"),
        (header(v=0), "field v: must be 1"),
        (header(v=True), "field v: must be 1"),
        (header(v="1"), "field v: must be 1"),
        (header(band=None), "field band: must be the name of a band, not NoneType"),
        (header(band=""), "field band: must be 1 to 64 of the characters"),
        (header(band="a b"), "field band: must be 1 to 64 of the characters"),
        (header(band="critical\n"), "field band: must be 1 to 64 of the characters"),
        (header(band="x" * 65), "field band: must be 1 to 64 of the characters"),
        (header(tenant=7), "field tenant: must be text, not int"),
        (header(tenant="x" * 257), "field tenant: must be at most 256 characters, not 257"),
        (header(tenant="\ud800"), "field tenant: must be text that can be encoded"),
        (header(cid=[]), "field cid: must be text, not list"),
        (header(cid="x" * 1_000_000), "field cid: must be at most 256 characters"),
        (header(at="now"), "field at: must be a number, not str"),
        (header(at=-1), "field at: must be Unix seconds"),
        (header(at=nan), "field at: must be Unix seconds"),
        (header(deadline=None), "field deadline: must be a number, not NoneType"),
        (header(deadline=True), "field deadline: must be a number, not bool"),
        (header(deadline="2s"), "field deadline: must be a number, not str"),
        (header(deadline=nan), "field deadline: must be Unix seconds"),
        (header(deadline=float("inf")), "field deadline: must be Unix seconds"),
        (header(deadline=-inf), "field deadline: must be Unix seconds"),
        (header(deadline=-1), "field deadline: must be Unix seconds"),
        (header(deadline=10**400), "field deadline: must be Unix seconds"),
        (header(deadline=NOW * 1000), "field deadline: must be Unix seconds"),
        (header(deadline=NOW + MAX_AHEAD + 1), "less than 100 years after publishing"),
        (header(deadline=LATEST + 1, at=0), "field deadline: must be Unix seconds"),
        (header(move=-1), "field move: must be an integer"),
        (header(move=1.0), "field move: must be an integer"),
        (header(move=True), "field move: must be an integer"),
        (header(move=2**31), "field move: must be an integer"),
        (header(extra="x" * 9_000), "must be at most 8192 characters"),
        (header(extra={"a": ["x" * 9_000]}), "must be at most 8192 characters"),
        (header(extra=[0] * 9_000), "must be at most 8192 characters"),
        (header(extra=10**30_000), "must be at most 8192 characters"),
        (header(**{"k" * 9_000: 1}), "must be at most 8192 characters"),
        (header(**{f"k{n}": n for n in range(33)}), "must have at most 32 keys"),
    ],
)
def test_a_senders_mistake_is_named(value: object, problem: str) -> None:
    """The warning in the worker's log is how the sender's author learns of it."""
    with pytest.raises(HeaderError, match=re.escape(problem)):
        read(value)


def test_a_nested_bomb_is_refused_without_a_walk() -> None:
    """A value that refers to itself has no end; the count must stop the walk."""
    bomb: list[object] = []
    bomb.append(bomb)

    with pytest.raises(HeaderError, match="8192 characters"):
        read(header(extra=bomb))


def test_every_field_is_on_the_reference_page() -> None:
    """The page is the contract for senders in other languages."""
    page = PAGE.read_text(encoding="utf-8")

    assert [] == [field for field in write(FULL) if f"| `{field}` |" not in page]
