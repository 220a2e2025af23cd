"""The lowest band's minimum share, on real workers under an overload that does not end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from celery_budget.embedded import RedisServer
from tests.conftest import WaitFor
from tests.fleet import Fleet
from tests.servers import Broker, own_database

SLOTS = 2
SPAN_S = 30.0
RUN_S = 36.0
TASK_S = 0.5
MIN_SHARE = 0.1
POLICY = {
    "default_band": "critical",
    "bands": {
        "critical": {"queues": ["critical"], "preempts": True},
        "optional": {"queues": ["optional"], "min_share": MIN_SHARE},
    },
}


@pytest.fixture
def fleets(
    redis_broker: Broker, rabbitmq_broker: Broker, redis_server: RedisServer, tmp_path: Path
) -> Iterator[list[Fleet]]:
    """Offer a fleet on each broker; they run at the same time, for the tasks only sleep."""
    with ExitStack() as stack:
        made = []
        for broker in (redis_broker, rabbitmq_broker):
            directory = tmp_path / broker.kind
            directory.mkdir()
            fleet = Fleet(broker, own_database(redis_server.url, 8), directory)
            made.append(stack.enter_context(closing(fleet)))
        yield made


def test_the_lowest_band_gets_its_minimum_share_in_any_30_s(
    fleets: list[Fleet], wait_for: WaitFor
) -> None:
    """Strict rank alone would starve it for as long as the overload lasts."""
    for fleet in fleets:
        shop = fleet.sender(policy=POLICY)
        # Before the worker starts, and more of each band than it can do in the time: from its
        # first moment to its last it has the choice.
        for number in range(int(1.5 * SLOTS * RUN_S / TASK_S)):
            for band in POLICY["bands"]:
                sent = (band, TASK_S, number)
                shop.pause.apply_async(sent, band=band, ignore_result=True)
    for fleet in fleets:
        fleet.start(policy=POLICY, concurrency=SLOTS)
    wait_for(
        lambda: all(observed_s(fleet) > RUN_S for fleet in fleets),
        timeout=RUN_S + 20,
        what="the spans to look at",
    )

    for fleet in fleets:
        critical, optional = (fleet.journal.count("ended", key=band) for band in POLICY["bands"])
        assert least_share(fleet, "optional") >= MIN_SHARE
        # The share is a floor: what it does not need goes by rank, 8 of 9 starts if no message is
        # late for its slot.
        assert critical > 3 * optional


def observed_s(fleet: Fleet) -> float:
    """Tell how long the worker has been running tasks."""
    starts, ends = fleet.journal.entries("started"), fleet.journal.entries("ended")
    return ends[-1]["at"] - starts[0]["at"] if ends else 0.0


def least_share(fleet: Fleet, key: str) -> float:
    """Tell the least part of all slots that a band had in any 30 s between its first and last."""
    started = {run["number"]: run["at"] for run in fleet.journal.entries("started", key=key)}
    runs = [(started[run["number"]], run["at"]) for run in fleet.journal.entries("ended", key=key)]
    first = min(entry["at"] for entry in fleet.journal.entries("started"))
    last = max(entry["at"] for entry in fleet.journal.entries("ended"))
    # The least is where a span begins as a run ends, or ends as a run begins, or at either end.
    moments = [*(ended for _, ended in runs), *(at - SPAN_S for at, _ in runs)]
    latest = last - SPAN_S
    begins = [first, *(moment for moment in moments if first < moment < latest), latest]
    return min(
        sum(max(0.0, min(ended, begin + SPAN_S) - max(at, begin)) for at, ended in runs)
        for begin in begins
    ) / (SLOTS * SPAN_S)
