"""The wire contract: header `budget`, version 1, with one writer and one reader.

The value is one text that holds a JSON object: brokers carry a text in one piece, where each
item of a table costs them a step in Python. It holds what was settled when the message was
published; it decides nothing. Written by the sender's stamp, read in the worker for each
message, so both take about 1 µs.
"""

from __future__ import annotations

import re
from math import inf
from typing import Annotated, Final, NoReturn

from msgspec import DecodeError, Meta, Struct, ValidationError
from msgspec.json import Decoder, Encoder
from msgspec.structs import replace

from celery_budget.errors import HeaderError
from celery_budget.policy.budget import MAX_COSTS
from celery_budget.policy.envelope import MAX_DEPTH, MAX_LIMITS, Envelope
from celery_budget.policy.names import LATEST, MAX_NAME, MAX_TEXT, NAME_PATTERN, is_name
from celery_budget.units import LARGEST

#: Name of the message header.
HEADER = "budget"

#: Version this module writes, and the only one it reads.
VERSION = 1

MAX_CHARACTERS = 16_384
MAX_MOVE = 2**31 - 1

#: Farthest deadline after publishing. Somewhat more than the longest duration a policy may
#: name (100 years of 365 days), so that clocks which disagree do not spoil a legal one.
MAX_AHEAD = 100 * 366 * 86_400.0

#: An infinite number that was sent is a mistake; only its absence means "no deadline".
_Seconds = Annotated[float, Meta(ge=0, le=LATEST)]
_Text = Annotated[str, Meta(max_length=MAX_TEXT)]
_Count = Annotated[int, Meta(ge=0, le=MAX_MOVE)]
_Cost = Annotated[
    dict[Annotated[str, Meta(pattern=NAME_PATTERN)], Annotated[int, Meta(ge=0, le=LARGEST)]],
    Meta(max_length=MAX_COSTS),
]
_Envelopes = Annotated[tuple[Envelope, ...], Meta(max_length=MAX_DEPTH)]


class Stamp(
    Struct,
    frozen=True,
    gc=False,
    omit_defaults=True,
    rename={"correlation_id": "cid"},
    tag_field="v",
    tag=VERSION,
):
    """What a message says about itself.

    Attributes:
        band: Name of its band; the reader's policy may not know it.
        tenant: Whose work it is; "" when nobody said.
        deadline: Soft deadline, Unix seconds; inf when it has none.
        correlation_id: Shared by all tasks of one piece of work; "": the task id.
        at: When it was published, Unix seconds of the sender's clock; 0.0: unknown.
        move: Move number; 0 until an operator moved the task to another band.
        cost: Units of each resource that it is expected to use, as far as somebody said.
        envelopes: What it draws on together with other parts of its workflow, outermost first.
        degraded: Whether it is to do less, as too much waited when it was published.
    """

    # Not by msgspec's `pattern`: it takes 1 µs a message, the cached `is_name` 0.2.
    band: str
    tenant: _Text = ""
    deadline: _Seconds = inf
    correlation_id: _Text = ""
    at: _Seconds = 0.0
    move: _Count = 0
    cost: _Cost = {}
    envelopes: _Envelopes = ()
    degraded: bool = False


class _Unversioned(Struct, tag_field="v", tag=0):
    """No version there is: msgspec insists on a `v` only where it must tell two types apart."""


class _Version(Struct):
    """As much of a header as a reader of any version understands."""

    v: int = 0


_decode: Final = Decoder(Stamp | _Unversioned).decode
_decode_version: Final = Decoder(_Version).decode
_encode: Final = Encoder().encode

_SECONDS = "must be a number of Unix seconds between 1970 and 2200"
_TEXT = f"must be text of at most {MAX_TEXT} characters"

#: What a sender should have written.
_RULES = {
    "v": f"must be {VERSION}",
    "band": f"must be 1 to {MAX_NAME} of the characters A-Z a-z 0-9 _ . -",
    "tenant": _TEXT,
    "deadline": _SECONDS,
    "cid": _TEXT,
    "at": _SECONDS,
    "move": f"must be an integer from 0 to {MAX_MOVE}",
    "cost": f"must be an object of at most {MAX_COSTS} resources and their units, below 2**53",
    "envelopes": (
        f"must be a list of at most {MAX_DEPTH} objects, each with an id, at, and at most "
        f"{MAX_LIMITS} limits: resources and their units, above 0 and below 2**53"
    ),
    "degraded": "must be true or false",
}
_EXAMPLE = 'write a JSON object such as {"v":1,"band":"NAME"}'

#: "… - at `$.move`", "… - at `$.cost[...]`" or "… missing required field `band`".
_AT_END = re.compile(r"`(?:\$\.)?(\w+)[^`]*`$")


def write(stamp: Stamp) -> str:
    """Build the header of a message, which `read` is sure to accept.

    Args:
        stamp: Its band must be a valid name; texts are cut at 256 characters, and what UTF-8
            cannot encode becomes "?".

    Source: docs/reference/headers.md.

    .. versionadded:: 0.1
    """
    cut = Stamp(
        stamp.band,
        stamp.tenant[:MAX_TEXT],
        # msgspec leaves out a default by identity, and would write another infinity as null.
        inf if stamp.deadline == inf else stamp.deadline,
        stamp.correlation_id[:MAX_TEXT],
        stamp.at,
        stamp.move,
        stamp.cost,
        stamp.envelopes,
        stamp.degraded,
    )
    try:
        return _encode(cut).decode()
    except UnicodeEncodeError:  # a lone surrogate
        tenant, correlation_id = _encodable(cut.tenant), _encodable(cut.correlation_id)
        return _encode(replace(cut, tenant=tenant, correlation_id=correlation_id)).decode()


def read(value: object) -> Stamp:
    """Read the header of a message, or say what its sender did wrong.

    Keys that this version does not know are left alone. A text of more than 16,384
    characters is refused unseen.

    Args:
        value: As decoded from the message.

    Raises:
        HeaderError: It is not a header of version 1 with possible values.

    Source: docs/reference/headers.md.

    .. versionadded:: 0.1
    """
    if not isinstance(value, str):
        raise HeaderError("", f"must be text, not {type(value).__name__}; {_EXAMPLE}")
    if len(value) > MAX_CHARACTERS:
        raise HeaderError("", f"must be at most {MAX_CHARACTERS} characters, not {len(value)}")
    try:
        stamp = _decode(value)
    except ValidationError as error:
        _refuse(value, str(error))
    except DecodeError:
        raise HeaderError("", f"is no valid JSON; {_EXAMPLE}") from None
    except UnicodeEncodeError:
        raise HeaderError("", "must be text that can be encoded as UTF-8") from None
    except RecursionError:
        raise HeaderError("", f"is nested too deeply; {_EXAMPLE}") from None
    if not isinstance(stamp, Stamp):
        _refuse_version(0)
    if not is_name(stamp.band):
        raise HeaderError("band", _RULES["band"])
    if stamp.deadline != inf and stamp.at and stamp.deadline > stamp.at + MAX_AHEAD:
        raise HeaderError("deadline", "must be less than 100 years after publishing")
    return stamp


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _refuse(text: str, mistake: str) -> NoReturn:
    """Say what to write instead.

    The version comes first: the mistake may be none in a newer one.

    Args:
        text: The header.
        mistake: What msgspec says of it; its end names the field.
    """
    try:
        version = _decode_version(text).v
    except (DecodeError, RecursionError):  # no object, or no integer
        version = VERSION
    if version != VERSION:
        _refuse_version(version)
    found = _AT_END.search(mistake)
    field = found[1] if found and found[1] in _RULES else ""
    raise HeaderError(field, _RULES.get(field, f"is no object; {_EXAMPLE}"))


def _refuse_version(version: int) -> NoReturn:
    if version > VERSION:
        raise HeaderError(
            "v",
            f"is of a newer version than {VERSION}; "
            "upgrade celery-budget in the workers before the senders",
        )
    raise HeaderError("v", _RULES["v"])
