"""The reference page of reasons and the enum say the same."""

from __future__ import annotations

import re
from pathlib import Path

from celery_budget.core.decisions import Reason

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "reasons.md"


def test_every_reason_has_its_row() -> None:
    """A label in somebody's alert that no page explains is a question to us."""
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert [reason.value for reason in Reason] == rows
