"""The bill: what is written is read, whatever else is in its place is none."""

from __future__ import annotations

import json

import pytest

from celery_budget import Bill

FULL = Bill("optional", "acme", degraded=True, usage={"runtime": 12, "usd": 20_000})


@pytest.mark.parametrize("bill", [FULL, Bill("a")], ids=["full", "least"])
def test_a_bill_survives_its_way_through_json(bill: Bill) -> None:
    """Events and most results travel as JSON."""
    assert bill == Bill.read(json.loads(json.dumps(bill.write())))


def test_what_is_not_the_case_is_not_written() -> None:
    """There is one with each event: it should be short."""
    assert {"band": "a", "usage": {}} == Bill("a").write()


def test_keys_of_a_newer_version_are_left_alone() -> None:
    """Workers are not all upgraded at once."""
    assert FULL == Bill.read(FULL.write() | {"node": "n1"})


@pytest.mark.parametrize("value", [None, "acme", 5, [], {}, {"band": 1}, {"band": "a", "usage": 3}])
def test_anything_else_is_no_bill(value: object) -> None:
    """A stamped header of the user's own may have the same name."""
    assert Bill.read(value) is None
