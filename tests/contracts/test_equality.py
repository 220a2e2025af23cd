"""The ledger in memory and the one on Redis give equal answers, whatever happens to them.

`CELERY_BUDGET_SEQUENCES=10000` runs more histories than the usual 400; a failure names its seed.
"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import count

import pytest
from redis import Redis

from celery_budget.stores.memory import MemoryLedger
from celery_budget.stores.redis.ledger import RedisLedger
from tests.contracts.sequences import ACCOUNTS, LEASE_US, steps
from tests.servers import Broker

SEQUENCES = int(os.environ.get("CELERY_BUDGET_SEQUENCES", "400"))
#: One part each, so that a failing one does not hide the others.
PARTS = 8
_namespaces = count()


@pytest.mark.parametrize("part", range(PARTS))
def test_memory_and_redis_are_equal(redis_broker: Broker, part: int) -> None:
    """The rule is written twice; what is proved of one holds for the other only if this does."""
    with Redis.from_url(redis_broker.url) as client:
        for seed in range(part, SEQUENCES, PARTS):
            # Long ones go further from the start, short ones try more starts.
            compare(client, seed, length=60 if seed % 10 == 0 else 15)


def compare(client: Redis, seed: int, length: int) -> None:
    """Let one history happen to both."""
    now = 0
    client.flushdb()
    memory = MemoryLedger(lambda: now, LEASE_US)
    redis = RedisLedger(client, f"équal{next(_namespaces)}", LEASE_US, lambda: now)
    epochs: dict[str, str] = {}
    for place, step in enumerate(steps(seed, length)):
        where = f"seed {seed}, step {place}: {step}"
        now = step.now
        if step.is_lost:
            memory.clear()
            client.flushdb()
        report = replace(step.report, epoch=epochs.get(step.report.worker, ""))

        answer = memory.exchange(report)

        assert answer == redis.exchange(report), where
        assert memory.accounts(ACCOUNTS) == redis.accounts(ACCOUNTS), where
        epochs[report.worker] = answer.epoch
