"""Letters due at one moment: a hundred of a large customer, then three of a small one."""

from datetime import UTC, datetime, timedelta

from letters import send

moment = datetime.now(UTC) + timedelta(seconds=3)
for number in range(100):
    send.apply_async(("large", number), eta=moment)
for number in range(3):
    send.apply_async(("small", number), eta=moment)
