"""What may be a name or a short text in a policy, a call and a header; one rule for all three.

Pure. Called by the policy loader, `policy/terms.py` and `headers.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache

#: Band names end up in queue names, metric labels and shell commands.
NAME_PATTERN = r"^[A-Za-z0-9_.-]{1,64}$"
MAX_NAME = 64

#: Longest tenant or correlation id, in characters.
MAX_TEXT = 256

#: Unix seconds of 2200-01-01: a date beyond it is a slip of units, not a plan.
LATEST = 7_258_118_400.0

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def is_name(value: str) -> bool:
    """Tell whether a text may name a band."""
    return len(value) <= MAX_NAME and _matches(value)


def is_text(value: object) -> bool:
    """Tell whether a value is a text short enough to travel, and encodable."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate: AMQP would refuse it at the next publish
        return False
    return True


def closest(name: str, known: Iterable[str]) -> str:
    """Say "did you mean X?" for a misspelt name, or "" when nothing is close."""
    # Lower case finds "Critical" too; 64 characters bound the quadratic comparison.
    folded = {candidate.lower(): candidate for candidate in known}
    found = get_close_matches(name[:MAX_NAME].lower(), folded, n=1)
    return f"did you mean {folded[found[0]]}?" if found else ""


# Every message brings one of a handful of bands; the cache halves the cost of reading it.
@lru_cache(maxsize=1024)
def _matches(value: str) -> bool:
    return _NAME.fullmatch(value) is not None
