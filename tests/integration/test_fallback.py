"""Transports whose messages cannot be asked for by number: bands order what was prefetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker

from celery_budget import install
from celery_budget.embedded import RedisServer
from tests.apps.shop import POLICY
from tests.conftest import WaitFor
from tests.fleet import Fleet
from tests.servers import Broker, own_database

FALLBACK = "transport has no windows for bands"


@pytest.fixture
def fleet(redis_server: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    """Offer a fleet on files instead of a broker; only results go to Redis."""
    for folder in ("in", "processed", "control"):
        (tmp_path / folder).mkdir()
    made = Fleet(Broker("filesystem", "filesystem://"), own_database(redis_server.url, 8), tmp_path)
    made.settings = {
        "broker_transport_options": {
            "data_folder_in": str(tmp_path / "in"),
            "data_folder_out": str(tmp_path / "in"),
            "processed_folder": str(tmp_path / "processed"),
            "control_folder": str(tmp_path / "control"),
            "store_processed": False,
        },
    }
    yield made
    made.close()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_filesystem_runs_by_band_and_says_once_what_is_missing(
    pool: str, fleet: Fleet, wait_for: WaitFor, key: str
) -> None:
    """Such transports are for development, where an app must start all the same."""
    worker = fleet.start(pool=pool, concurrency=1)
    shop = fleet.sender()
    gate = fleet.gate()
    shop.wait.delay(key, str(gate))
    wait_for(lambda: fleet.journal.count("started", key=key) == 1, what="a full slot")
    shop.note.apply_async((key, 1), band="optional", tenant="acme")
    shop.note.apply_async((key, 2), band="critical")
    wait_for(lambda: worker.log.count("note[") >= 2, what="both messages")
    gate.touch()
    wait_for(lambda: fleet.journal.count("ran", key=key) == 2, what="both tasks")

    ran = fleet.journal.entries("ran", key=key)
    assert [(2, "critical", None), (1, "optional", "acme")] == [
        (entry["number"], entry["band"], entry["tenant"]) for entry in ran
    ]
    assert 1 == worker.log.count(FALLBACK)


def test_memory_runs_in_the_process_that_sends(wait_for: WaitFor) -> None:
    """Unit tests of users' apps run on this transport, with a worker in a thread."""
    app = Celery("remembered", broker="memory://", backend="cache+memory://", set_as_current=False)
    install(app, policy=POLICY)
    bands: list[str | None] = []

    @app.task(name="remembered.note", shared=False)
    def note() -> None:
        from celery_budget import budget

        bands.append(budget.band)

    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        note.apply_async(band="critical")
        note.apply_async(band="optional")
        wait_for(lambda: len(bands) == 2, what="both tasks")

    assert {"critical", "optional"} == set(bands)
