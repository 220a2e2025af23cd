"""What tasks of the tests did, as lines of one file that every process appends to.

Works on any broker without a result backend and survives SIGKILL of the writer: each line is
one write of an append-only file.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

#: Names the file; `worker_process` sets it for the workers it starts.
JOURNAL_VARIABLE = "CELERY_BUDGET_TEST_JOURNAL"


def record(event: str, **fields: object) -> None:
    """Append an event with the time and the process id.

    Args:
        event: What happened, e.g. `"started"`.
        fields: Anything JSON can hold.
    """
    entry = {"event": event, "at": time.time(), "pid": os.getpid(), **fields}
    line = json.dumps(entry).encode() + b"\n"
    descriptor = os.open(os.environ[JOURNAL_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


class Journal:
    """Read what tasks recorded; each look reads only what is new.

    Args:
        path: Of the file, which the first record makes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0
        self._entries: list[dict[str, Any]] = []
        #: Of each question: how many entries it was asked of, and the answer.
        self._counts: dict[tuple[object, ...], tuple[int, int]] = {}

    def entries(self, event: str | None = None, **fields: object) -> list[dict[str, Any]]:
        """List entries in the order they were written, all or those of one event.

        Args:
            event: None for every event.
            fields: Values that an entry must have.
        """
        self._catch_up()
        return self._found(0, event, fields)

    def count(self, event: str, **fields: object) -> int:
        """Count the entries of one event, with these values; in no time when asked again."""
        self._catch_up()
        question = (event, *sorted(fields.items()))
        asked, count = self._counts.get(question, (0, 0))
        count += len(self._found(asked, event, fields))
        self._counts[question] = len(self._entries), count
        return count

    def _found(
        self, first: int, event: str | None, fields: dict[str, object]
    ) -> list[dict[str, Any]]:
        return [
            entry
            for entry in self._entries[first:]
            if event in (None, entry["event"])
            and all(entry.get(field) == value for field, value in fields.items())
        ]

    def _catch_up(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            # The newest line may be half written.
            whole, end, _half = file.read().rpartition(b"\n")
        self._read += len(whole) + len(end)
        self._entries += [json.loads(line) for line in whole.splitlines()]
