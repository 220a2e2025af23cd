"""Who waits for whom, and for how long: reserves, rank against arrival, expiry; simulated."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_budget.core.decisions import Reason
from celery_budget.policy.model import Band
from tests.properties.virtual import (
    BEGIN,
    Job,
    Served,
    VirtualWorker,
    fill,
    job,
    lengths,
    repeatable,
)


@repeatable(16)
@given(
    slots=st.integers(2, 6),
    reserve=st.integers(1, 3),
    length_s=st.floats(0.01, 2.0),
    is_held=st.booleans(),
)
def test_a_reserved_slot_is_free_when_its_band_comes(
    slots: int, reserve: int, length_s: float, is_held: bool
) -> None:
    """That is all a reserve is for: no wait, however busy the others are."""
    rng = Random(slots)
    reserve = min(reserve, slots - 1)
    worker = VirtualWorker(
        [
            Band("critical", 0, preempts=True, reserve=reserve),
            Band("important", 1, weight=4.0),
            Band("optional", 2, min_share=0.3),
        ],
        slots,
        rng=rng,
    )
    for band in ("important", "optional"):
        fill(worker, band, lengths(rng, length_s, "even"), 4 if is_held else None)

    def burst() -> None:
        for _ in range(reserve):
            worker.publish(job("critical", 0.05, now=worker.now))
        worker.at(worker.now + 0.2, burst)

    worker.at(worker.now + 3, burst)
    runs = worker.run(60)

    waits = [r.started - r.job.published for r in runs if r.job.band == "critical"]
    assert len(waits) > 200
    assert max(waits) <= 0.0031
    assert all(run.reason is not Reason.RESERVED for run in runs if run.job.band != "critical")


@pytest.mark.parametrize(
    ("delay_s", "every_s", "busy"),
    [((0.003, 0.004), 0.1, 0.97), ((0.012, 0.015), 0.4, 0.92)],
    ids=["near", "far"],
)
@pytest.mark.parametrize("slots", [1, 2, 4])
def test_rank_decides_and_not_who_answers_first(
    slots: int, delay_s: tuple[float, float], every_s: float, busy: float
) -> None:
    """Windows are closed while the worker is busy, so both bands' messages come after a slot is
    free, and the lesser one's first."""
    rng = Random(slots)
    worker = VirtualWorker(
        [Band("critical", 0, preempts=True), Band("optional", 1)],
        slots,
        rng=rng,
        delay_s={"critical": delay_s, "optional": (0.001, 0.001)},
    )
    fill(worker, "optional", lambda: rng.uniform(0.9, 1.1), None)

    def critical() -> None:
        worker.publish(job("critical", 0.001, now=worker.now))
        worker.at(worker.now + every_s, critical)

    critical()
    runs = worker.run(60)

    # How long messages take is learned from the first ones.
    urgent = [r for r in runs if r.job.band == "critical" and r.started > BEGIN + 3]
    optional = Served(runs, "optional", worker.now)
    assert max(r.started - r.job.published for r in urgent) <= 1.1 + 0.05
    assert optional.between(BEGIN, worker.now) >= busy * 60 * slots


@pytest.mark.parametrize("every_s", [0.003, 0.004, 0.0048])
@pytest.mark.parametrize("slots", [1, 4])
def test_waiting_for_urgent_messages_leaves_the_worker_busy(every_s: float, slots: int) -> None:
    """A stream in which each message is just in time for the last moment would keep slots idle
    for ever, if each wait alone were bounded."""
    worker = VirtualWorker(
        [Band("critical", 0, preempts=True), Band("optional", 1)],
        slots,
        delay_s={"": (0.002, 0.002)},
    )
    fill(worker, "optional", lambda: 1.0, None)

    def critical() -> None:
        worker.publish(job("critical", 0.0005, now=worker.now))
        worker.at(worker.now + every_s, critical)

    critical()
    runs = worker.run(60)

    busy = sum(
        Served(runs, band, worker.now).between(BEGIN, worker.now)
        for band in ("critical", "optional")
    )
    assert busy >= 0.9 * 60 * slots


def test_expired_tickets_never_start_wherever_they_stand() -> None:
    """The sender was promised it."""
    rng = Random(2)
    worker = VirtualWorker([Band("a", 0, preempts=True), Band("b", 1), Band("c", 2)], 2)
    jobs: list[Job] = []
    for number in range(600):
        expires = BEGIN + rng.uniform(0, 60)
        made = job(rng.choice("abc"), 0.5, tenant=str(number % 7), expires=expires)
        jobs.append(made)
        worker.hold(made)

    runs = worker.run(200)

    assert len(jobs) == len(runs) + len(worker.expired)
    assert worker.expired
    assert all(run.started < run.job.expires for run in runs)
