"""The wire contract: header `budget`, version 1, with one writer and one reader.

The value is a dict of JSON types, so that every serializer and every broker carries it.
It holds what was settled when the message was published; it decides nothing. Written by
the sender's stamp, read in the worker for each message, so both take about 1 µs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, NoReturn

from celery_budget.errors import HeaderError
from celery_budget.policy.names import LATEST, MAX_TEXT, is_name, is_text

#: Name of the message header.
HEADER = "budget"

#: Version this module writes, and the only one it reads.
VERSION = 1

MAX_KEYS = 32
MAX_CHARACTERS = 8_192
MAX_MOVE = 2**31 - 1

#: Farthest deadline after publishing. Somewhat more than the longest duration a policy may
#: name (100 years of 365 days), so that clocks which disagree do not spoil a legal one.
MAX_AHEAD = 100 * 366 * 86_400.0

_FIELDS = frozenset({"v", "band", "tenant", "deadline", "cid", "at", "move"})


@dataclass(slots=True)
class Stamp:
    """What a message says about itself.

    Not frozen because one is made for each message, and a frozen one costs 1 µs more.

    Attributes:
        band: Name of its band; the reader's policy may not know it.
        tenant: Whose work it is; "" when nobody said.
        deadline: Soft deadline, Unix seconds; inf when it has none.
        correlation_id: Shared by all tasks of one piece of work; "": the task id.
        at: When it was published, Unix seconds of the sender's clock; 0.0: unknown.
        move: Move number; 0 until an operator moved the task to another band.
    """

    band: str
    tenant: str = ""
    deadline: float = inf
    correlation_id: str = ""
    at: float = 0.0
    move: int = 0


def write(stamp: Stamp) -> dict[str, Any]:
    """Build the header of a message, which `read` is sure to accept.

    Args:
        stamp: Its band must be a valid name; texts are cut at 256 characters.

    Source: docs/reference/headers.md.

    .. versionadded:: 0.1
    """
    header: dict[str, Any] = {"v": VERSION, "band": stamp.band, "at": stamp.at}
    if stamp.tenant:
        header["tenant"] = stamp.tenant[:MAX_TEXT]
    if stamp.deadline != inf:
        header["deadline"] = stamp.deadline
    if stamp.correlation_id:
        header["cid"] = stamp.correlation_id[:MAX_TEXT]
    if stamp.move:
        header["move"] = stamp.move
    return header


def read(value: object) -> Stamp:
    """Read the header of a message, or say what its sender did wrong.

    Keys that this version does not know are left alone. However large the value is, no
    more than a few thousand characters of it are looked at.

    Args:
        value: As decoded from the message.

    Raises:
        HeaderError: It is not a header of version 1 with possible values.

    Source: docs/reference/headers.md.

    .. versionadded:: 0.1
    """
    if not isinstance(value, dict):
        raise HeaderError("", f"must be an object, not {type(value).__name__}")
    if not _FIELDS.issuperset(value):
        _refuse_oversized(value)
    take = value.get
    version = take("v")
    if type(version) is not int or version != VERSION:
        _refuse_version(version)
    band = take("band")
    if not isinstance(band, str) or not is_name(band):
        _refuse_band(band)
    tenant = take("tenant", "")
    if not is_text(tenant):
        _refuse_text("tenant", tenant)
    correlation_id = take("cid", "")
    if not is_text(correlation_id):
        _refuse_text("cid", correlation_id)
    at = _time("at", take("at", 0.0))
    deadline = take("deadline", inf)
    if deadline is not inf:  # by identity: an inf that was sent is a mistake
        deadline = _deadline(deadline, at)
    move = take("move", 0)
    if type(move) is not int or not 0 <= move <= MAX_MOVE:
        raise HeaderError("move", f"must be an integer from 0 to {MAX_MOVE}")
    return Stamp(band, tenant, deadline, correlation_id, at, move)


def _deadline(value: object, at: float) -> float:
    deadline = _time("deadline", value)
    if at and deadline > at + MAX_AHEAD:
        raise HeaderError("deadline", "must be less than 100 years after publishing")
    return deadline


def _time(field: str, value: object) -> float:
    # By exact type: bool is an int to Python, never to a sender. The bounds are false for
    # nan, and come before float(), as a huge int has none.
    if type(value) is not float and type(value) is not int:
        raise HeaderError(field, f"must be a number, not {type(value).__name__}")
    if not 0 <= value <= LATEST:
        raise HeaderError(field, "must be Unix seconds between 1970 and 2200")
    return float(value)


def _refuse_version(version: object) -> NoReturn:
    if type(version) is int and version > VERSION:
        raise HeaderError(
            "v",
            f"is of a newer version than {VERSION}; "
            "upgrade celery-budget in the workers before the senders",
        )
    raise HeaderError("v", f"must be {VERSION}")


def _refuse_band(band: object) -> NoReturn:
    if not isinstance(band, str):
        raise HeaderError("band", f"must be the name of a band, not {type(band).__name__}")
    raise HeaderError("band", "must be 1 to 64 of the characters A-Z a-z 0-9 _ . -")


def _refuse_text(field: str, value: object) -> NoReturn:
    if not isinstance(value, str):
        raise HeaderError(field, f"must be text, not {type(value).__name__}")
    if len(value) > MAX_TEXT:
        raise HeaderError(field, f"must be at most {MAX_TEXT} characters, not {len(value)}")
    raise HeaderError(field, "must be text that can be encoded as UTF-8")


def _refuse_oversized(value: dict[Any, Any]) -> None:
    """Raise if unknown keys make the header too large; each step adds to the count."""
    if len(value) > MAX_KEYS:
        raise HeaderError("", f"must have at most {MAX_KEYS} keys, not {len(value)}")
    total = 0
    pending: list[object] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str | bytes | list | tuple | dict):
            total += len(item)
        elif isinstance(item, int):
            total += item.bit_length() // 3
        total += 1
        if total > MAX_CHARACTERS:
            raise HeaderError("", f"must be at most {MAX_CHARACTERS} characters in all")
        if isinstance(item, dict):
            pending.extend(item)
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
