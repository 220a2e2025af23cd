"""How many cases the property tests try."""

from __future__ import annotations

import os

from hypothesis import settings

#: Unless it is given, as many as Hypothesis tries by itself.
CASES = os.environ.get("CELERY_BUDGET_CASES")

if CASES:
    settings.register_profile("many", max_examples=int(CASES))
    settings.load_profile("many")
