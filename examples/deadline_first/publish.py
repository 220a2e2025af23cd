"""Alarms due at one moment; the later ones were published first."""

from datetime import UTC, datetime, timedelta

from alarms import ring

moment = datetime.now(UTC) + timedelta(seconds=3)
ring.apply_async(("whenever",), eta=moment)
for minutes in (40, 30, 20, 10):
    ring.apply_async((f"within {minutes} min",), eta=moment, deadline=minutes * 60)
