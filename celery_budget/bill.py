"""The bill: in which band an execution ran, for whom, and what it used.

One writer and one reader of the value that goes by the name `budget` in Celery's events and in
extended results. `worker/eventer.py` and `child/results.py` write it; users read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from msgspec import ValidationError, convert

if TYPE_CHECKING:
    from celery.result import AsyncResult

#: Name of the field of an event, and of the key of a stored result.
FIELD: Final = "budget"


@dataclass(frozen=True, slots=True)
class Bill:
    """What one execution of a task used.

        done = summarize.delay("acme", text)
        done.get()
        bill = Bill.of(done)
        print(bill.usage["usd"] / 1_000_000, bill.degraded)

    Attributes:
        band: Name of the band in which it ran.
        tenant: Whose work it was; None: nobody's.
        degraded: Whether it was asked to do less than usual.
        usage: Units of each resource, as far as that is known: bytes of `memory`, `io` and
            `network`, microseconds of `cpu` and `runtime`, millionths of all else.

    Source: docs/reference/events.md.

    .. versionadded:: 0.1
    """

    band: str
    tenant: str | None = None
    degraded: bool = False
    usage: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, result: AsyncResult[Any]) -> Bill | None:
        """Read what was stored with the result of a task.

        It is that of the last execution which stored something, as `result.state` is. Asks the
        result backend unless the result is there already, and does not wait.

        Args:
            result: Of one task; an app with `result_extended` on stored it.

        Returns:
            None without a bill: nothing is stored yet, results are not extended, the execution
            was not metered, or the backend has no place for one.

        .. versionadded:: 0.1
        """
        # Celery has public attributes only for what it stores itself.
        return cls.read(result._get_task_meta().get(FIELD))

    @classmethod
    def read(cls, value: object) -> Bill | None:
        """Read a bill as `write` made it, for example from an event; None if it is none.

        Keys that this version does not know are left alone.
        """
        try:
            return convert(value, cls)
        except ValidationError:
            return None

    def write(self) -> dict[str, object]:
        """Give what any serializer can write; what is not the case is left out."""
        written: dict[str, object] = {"band": self.band}
        if self.tenant is not None:
            written["tenant"] = self.tenant
        if self.degraded:
            written["degraded"] = True
        written["usage"] = dict(self.usage)
        return written
