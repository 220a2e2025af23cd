"""What a message that lies in a Redis list tells of its age, and what it may not do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_budget.headers import HEADER, Stamp, write
from celery_budget.worker.heads import MOST_BYTES, published

AT = 1_700_000_000.5


def message(stamp: Stamp | str | None, **headers: object) -> bytes:
    """Write a message as kombu's Redis transport does."""
    found: dict[str, Any] = {"lang": "py", "task": "shop.charge", "eta": None, **headers}
    if stamp is not None:
        found[HEADER] = write(stamp) if isinstance(stamp, Stamp) else stamp
    return json.dumps(
        {
            "body": "W1tdLCB7fSwge31d",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": found,
            "properties": {"delivery_tag": "tag", "priority": 0},
        }
    ).encode()


def test_a_stamped_message_says_since_when_it_waits() -> None:
    """Its sender wrote it down."""
    assert AT == published(message(Stamp("critical", at=AT)), "critical")


@pytest.mark.parametrize(
    "head",
    [
        message(None),
        message(Stamp("critical")),
        message(Stamp("optional", at=AT)),
        message(Stamp("critical", at=AT), eta="2100-01-01T00:00:00+00:00"),
        message(Stamp("critical", at=AT), redelivered=True),
    ],
    ids=["unstamped", "without a time", "of another band", "not due yet", "delivered before"],
)
def test_what_does_not_wait_for_a_slot_of_the_band_tells_no_age(head: bytes) -> None:
    """Or nobody knows since when."""
    assert published(head, "critical") is None


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b'{"headers": 7}',
        b'{"headers": {"budget": 7}}',
        b'{"headers": {"budget": "nonsense"}}',
        b'{"headers": {"budget": "{}", "eta": {}}}',
        message("x" * 20_000),
        message('{"v":1,"band":"critical","at":-1}'),
        b"[" * MOST_BYTES,
        b'{"a":' * (MOST_BYTES // 5),
        b'{"headers": {"x": ' + b"[" * (MOST_BYTES - 30),
    ],
    ids=range(13),
)
def test_garbage_tells_nothing_and_hurts_nobody(head: bytes) -> None:
    """Whatever a stranger puts into a queue."""
    assert published(head, "critical") is None
