"""The page of reasons and the vocabulary of the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

from celery_budget.core.decisions import Reason

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "reasons.md"


def test_the_page_lists_every_reason_and_no_other() -> None:
    """Operators read the word in an answer and look it up there."""
    listed = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)

    assert sorted(reason.value for reason in Reason) == sorted(listed)
