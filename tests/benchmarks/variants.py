"""The variants that are compared: what the Celery app of one run looks like.

Values only, so that the runner can name a variant without making an app; `apps.py` turns one
into the app, in the worker's and the publisher's process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

BrokerName = Literal["redis", "rabbitmq"]

#: Environment variables that carry a run's broker URL, variant and directory to its processes.
BROKER = "CELERY_BUDGET_BENCH_BROKER"
VARIANT = "CELERY_BUDGET_BENCH_VARIANT"
DIRECTORY = "CELERY_BUDGET_BENCH_DIRECTORY"

#: Band names, most urgent first.
BANDS = ("critical", "important", "optional")

# Which queue each band owns; stock variants with a queue per band use the same names.
_QUEUES: Mapping[str, str] = {"critical": "critical", "important": "celery", "optional": "optional"}


def three_bands(
    reserve: int = 0, prefix: str = "", preempt: Sequence[str] = ()
) -> Mapping[str, object]:
    """Make the README's policy.

    Args:
        reserve: Slots kept for the critical band.
        prefix: Put before the names of queues.
        preempt: How running optional tasks may give way.
    """
    bands: dict[str, dict[str, object]] = {
        "critical": {"preempts": True, "reserve": reserve},
        "important": {"weight": 4},
        "optional": {"weight": 1, "min_share": 0.05},
    }
    if preempt:
        bands["optional"]["preempt"] = list(preempt)
    for band, name in _QUEUES.items():
        bands[band]["queues"] = [prefix + name]
    return {"default_band": "important", "bands": bands}


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the same tasks.

    Attributes:
        name: Row name in the report.
        policy: What `install` gets; None: stock Celery, celery_budget is never imported.
        queue_per_band: Stock only: route each band's tasks to a queue of their own.
        priorities: Stock only: publish with the broker's own message priorities.
        prefetch_multiplier: Celery's setting; 4 is its default.
        reserve: Slots that `policy` keeps free for the critical band.
        prefix: Put before the names of all queues, so that variants can share a broker.
        state_url: Where tasks keep their progress; "" for where it is without the setting.
    """

    name: str
    policy: Mapping[str, object] | None = field(default=None)
    queue_per_band: bool = False
    priorities: bool = False
    prefetch_multiplier: int = 4
    reserve: int = 0
    prefix: str = ""
    state_url: str = ""

    @property
    def queues(self) -> dict[str, str]:
        """The queue of each band."""
        return {band: self.prefix + name for band, name in _QUEUES.items()}

    def prefixed(self, prefix: str) -> Variant:
        """Give the same variant on queues of its own."""
        policy = self.policy
        if policy:
            policy = {**policy, **three_bands(self.reserve, prefix)}
        return replace(self, policy=policy, prefix=prefix)

    def encode(self) -> str:
        """Write the variant for another process's environment."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Variant:
        """Read what `encode` wrote."""
        return cls(**json.loads(text))


STOCK = Variant("stock")
STOCK_QUEUES = Variant("stock, a queue per band", queue_per_band=True)
EMPTY_POLICY = Variant("ours, empty policy", policy={})
THREE_BANDS = Variant("ours, three bands", policy=three_bands())

#: Budgets so large that nothing ever waits for one: what keeping the books costs.
BUDGETS: Mapping[str, object] = {
    "fleet": {"starts": "1000000/1s"},
    "band:*": {"cpu": "1000000s/1s"},
    "task:*": {"runtime": "1000000s/1s"},
}
THREE_BUDGETS = Variant("ours, three budgets", policy={**three_bands(), "budgets": BUDGETS})
