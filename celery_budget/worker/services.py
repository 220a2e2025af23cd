"""What a worker is handed by the app: backends and facts that it does not make itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from celery_budget.stores.protocols import Stores
    from celery_budget.worker.metering import Connect


class Services(NamedTuple):
    """Made by `install` for the worker's bootstep.

    Attributes:
        stores: Makes the ledger, with leases of so many microseconds, and what is kept beside it;
            connects to nothing yet.
        connect: Makes the meter of the children.
        region: Of this worker; "" when none was named.
        version: Of the policy: when it was loaded, microseconds since 1970.
        node_memory: What the worker may use of its node, bytes; None: all that there is.
    """

    stores: Callable[[int], Stores]
    connect: Connect
    region: str
    version: int
    node_memory: int | None
