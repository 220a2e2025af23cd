"""What bands and tenants are promised, in simulations over random service times.

The virtual worker runs the dispatcher's own code; `held` means that the backlog is in the worker's
reach, otherwise it waits in a broker and comes through the windows, 1 to 3 ms after it was asked
for. Examples are the same in every run: a promise that is about lengths seen before can be broken
by a length never seen, and that is no reason for a build to fail now and then.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_budget.core.share import RACE_S, SHARE_SPAN_S
from celery_budget.policy.model import Band
from tests.properties.virtual import (
    BEGIN,
    Served,
    VirtualWorker,
    fill,
    job,
    lengths,
    repeatable,
)

#: Until the lengths of tasks are known to the worker, seconds.
LEARNING_S = 30.0


def rate(share: float, slots: int, longest_s: float, blocking_s: float) -> float:
    """Reckon the slots a band is given on average for a minimum share, as documented."""
    blocking_s = max(longest_s, blocking_s) + RACE_S
    wanted = share * slots * SHARE_SPAN_S + longest_s
    slow = wanted / (SHARE_SPAN_S - blocking_s + longest_s)
    fast = wanted / (SHARE_SPAN_S - blocking_s - longest_s)
    return min(slots, slow if slow <= 1 else max(1.0, fast))


@repeatable(80)
@given(
    share=st.sampled_from([0.02, 0.05, 0.1, 0.3]),
    slots=st.sampled_from([1, 2, 3, 8]),
    own_s=st.floats(0.2, 5.0),
    others_s=st.floats(0.2, 5.0),
    kind=st.sampled_from(["even", "short", "two"]),
    is_held=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_a_minimum_share_holds_in_every_30_s(
    share: float,
    slots: int,
    own_s: float,
    others_s: float,
    kind: str,
    is_held: bool,
    seed: int,
) -> None:
    """Under endless work of a band that preempts the lowest band would never run otherwise."""
    rng = Random(seed)
    held = slots + 2 if is_held else None
    worker = VirtualWorker(
        [
            Band("critical", 0, preempts=True),
            Band("important", 1, weight=4.0),
            Band("optional", 2, min_share=share),
        ],
        slots,
        rng=rng,
    )
    fill(worker, "critical", lengths(rng, others_s, kind), held)
    fill(worker, "important", lengths(rng, others_s, kind), held)
    fill(worker, "optional", lengths(rng, own_s, kind), held)

    runs = worker.run(LEARNING_S + 150)

    begin = BEGIN + LEARNING_S
    served = Served(runs, "optional", worker.now)
    slot_s = served.least(SHARE_SPAN_S, begin, worker.now)
    assert slot_s >= share * slots * SHARE_SPAN_S
    # Over-service: no more than the rate needs, and what may be under way at both ends.
    given_slots = rate(share, slots, own_s, others_s)
    allowed = given_slots * (worker.now - begin + others_s) + 2 * own_s * max(1, given_slots)
    # A message of the preempting band that is on its way cannot start.
    assert served.between(begin, worker.now) <= allowed * (1 if is_held else 1.1)
    # Starvation bound: the next start comes when the longest task is paid off and a slot is free.
    starts = [run.started for run in runs if run.job.band == "optional" and run.started >= begin]
    gaps = [after - before for before, after in pairwise(starts)]
    assert max(gaps) <= own_s / given_slots + max(own_s, others_s) + 0.01


@pytest.mark.parametrize("others_s", [3.0, 7.0])
@pytest.mark.parametrize(("slots", "share"), [(1, 0.05), (2, 0.2), (4, 0.5)])
def test_a_minimum_share_of_short_tasks_holds_beside_long_ones(
    slots: int, share: float, others_s: float
) -> None:
    """One of theirs ends before its next message is here; a long one must not take the slot."""
    rng = Random(slots)
    worker = VirtualWorker(
        [Band("critical", 0, preempts=True), Band("short", 1, min_share=share)], slots, rng=rng
    )
    for band, longest_s in (("critical", others_s), ("short", 0.1)):
        length = lambda m=longest_s: m if rng.random() < 0.3 else 0.01 * m  # noqa: E731
        fill(worker, band, length, None)

    runs = worker.run(LEARNING_S + 240)

    served = Served(runs, "short", worker.now)
    least = served.least(SHARE_SPAN_S, BEGIN + LEARNING_S, worker.now)
    assert least >= share * slots * SHARE_SPAN_S


@pytest.mark.parametrize("is_held", [True, False], ids=["held", "broker"])
def test_minimum_shares_of_several_bands_hold_together(is_held: bool) -> None:
    """Each band's rate is above its share; were the first served first, the last would pay."""
    rng = Random(3)
    names = ["second", "third", "fourth"]
    worker = VirtualWorker(
        [Band("first", 0, preempts=True)]
        + [Band(name, rank, min_share=0.2) for rank, name in enumerate(names, 1)],
        1,
        rng=rng,
    )
    for name in ["first", *names]:
        fill(worker, name, lengths(rng, 1.0, "even"), 2 if is_held else None)

    runs = worker.run(LEARNING_S + 150)

    for name in names:
        served = Served(runs, name, worker.now)
        assert served.least(SHARE_SPAN_S, BEGIN + LEARNING_S, worker.now) >= 0.2 * SHARE_SPAN_S


def test_tasks_longer_than_a_quarter_of_the_span_cost_no_more_than_a_quarter_slot() -> None:
    """To promise them a share of every span would mean to give them most of the worker."""
    worker = VirtualWorker([Band("critical", 0, preempts=True), Band("slow", 1, min_share=0.05)], 2)
    fill(worker, "critical", lambda: 0.5, 4)
    fill(worker, "slow", lambda: 20.0, 4)

    runs = worker.run(3_000)

    share = Served(runs, "slow", worker.now).between(BEGIN, worker.now) / 3_000 / 2
    assert 0.05 <= share <= 0.05 + 0.26 / 2


@repeatable(36)
@given(
    slots=st.sampled_from([1, 2, 5]),
    heavy_s=st.sampled_from([0.1, 0.3, 1.0]),
    light_s=st.sampled_from([0.1, 0.3, 1.0]),
    kind=st.sampled_from(["even", "short", "two"]),
    is_held=st.booleans(),
)
def test_weights_divide_slot_time(
    slots: int, heavy_s: float, light_s: float, kind: str, is_held: bool
) -> None:
    """By count of tasks a band of long tasks would get many times its share."""
    rng = Random(slots)
    held = 2 * slots if is_held else None
    worker = VirtualWorker([Band("heavy", 0, weight=4.0), Band("light", 1)], slots, rng=rng)
    fill(worker, "heavy", lengths(rng, heavy_s, kind), held)
    fill(worker, "light", lengths(rng, light_s, kind), held)

    runs = worker.run(150 * max(heavy_s, light_s))

    heavy, light = (
        Served(runs, band, worker.now).between(BEGIN, worker.now) for band in ("heavy", "light")
    )
    # A message on its way cannot start: short tasks of another band then do.
    assert heavy / light == pytest.approx(4.0, rel=0.05 if is_held else 0.1)


def test_a_band_that_was_idle_has_saved_nothing_up() -> None:
    """It would take the whole worker for as long as it was away."""
    worker = VirtualWorker([Band("away", 0), Band("busy", 1)], 2)
    fill(worker, "busy", lambda: 0.5, 4)
    worker.run(600)
    back = worker.now
    fill(worker, "away", lambda: 0.5, 4)

    runs = worker.run(20)

    shares = [
        Served(runs, band, worker.now).between(back, worker.now) / 40 for band in ("away", "busy")
    ]
    assert shares == pytest.approx([0.5, 0.5], abs=0.05)


def test_what_a_minimum_share_gave_is_forgotten_after_a_span() -> None:
    """Hours of overload by a higher band must not turn 4 : 1 into all : none afterwards."""
    worker = VirtualWorker(
        [
            Band("critical", 0, preempts=True),
            Band("heavy", 1, weight=4.0),
            Band("light", 2, min_share=0.1),
        ],
        2,
    )
    for band in ("critical", "heavy", "light"):
        fill(worker, band, lambda: 0.5, 4)
    worker.run(7_200)
    worker.stop("critical")
    worker.run(300)  # the heavy band catches up 30 s of both slots
    begin = worker.now

    runs = worker.run(200)

    heavy, light = (
        Served(runs, band, worker.now).between(begin, worker.now) for band in ("heavy", "light")
    )
    assert heavy / light == pytest.approx(4.0, rel=0.1)


def overtaken(worker: VirtualWorker, others: str, own: str) -> int:
    """Count the tickets of `others` that started before the last one of `own`, from now on."""
    begin, known = worker.now, len(worker.runs)
    worker.run(200)
    started = [run.job.tenant for run in worker.runs[known:] if run.started >= begin]
    last = len(started) - 1 - started[::-1].index(own)
    assert started.count(own) == 10
    return started[:last].count(others)


@pytest.mark.parametrize("slots", [1, 2, 8])
@pytest.mark.parametrize("warm_s", [0, 20], ids="after-{}-s".format)
@pytest.mark.parametrize("is_first", [True, False], ids=["flood-first", "batch-first"])
def test_a_flood_of_one_tenant_delays_ten_tasks_of_another_by_few(
    slots: int, warm_s: int, is_first: bool
) -> None:
    """Whoever has ten tasks should not notice that somebody else has 100,000."""
    rng = Random(slots)
    length = lengths(rng, 1.0, "even")
    worker = VirtualWorker([Band("only", 0)], slots)
    flood = [job("only", length(), tenant="flood", now=worker.now) for _ in range(100_000)]
    batch = [job("only", length(), tenant="other", now=worker.now) for _ in range(10)]
    if is_first:
        for each in flood:
            worker.hold(each)
        worker.run(warm_s)
    for each in batch:
        worker.hold(each)
    if not is_first:
        for each in flood:
            worker.hold(each)

    assert overtaken(worker, "flood", "other") <= 2 * slots


def test_two_floods_share_evenly_whoever_came_first() -> None:
    """A head start would let the early tenant keep the late one out."""
    rng = Random(1)
    worker = VirtualWorker([Band("only", 0)], 2)
    for _ in range(2_000):
        worker.hold(job("only", rng.uniform(0.1, 1.0), tenant="early"))
    worker.run(100)
    late_from = worker.now
    for _ in range(300):
        worker.hold(job("only", rng.uniform(1.0, 5.0), tenant="late", now=worker.now))

    runs = worker.run(300)

    late = [run for run in runs if run.job.tenant == "late"]
    slot_s = sum(min(run.ended, worker.now) - run.started for run in late)
    assert slot_s == pytest.approx((worker.now - late_from) * 2 / 2, rel=0.08)


def test_a_stream_of_new_tenants_does_not_stop_an_old_one() -> None:
    """Each newcomer goes before the old backlog once; all of them together may not, for ever."""
    worker = VirtualWorker([Band("only", 0)], 1)
    for _ in range(1_000):
        worker.hold(job("only", 0.1, tenant="old"))

    def newcomer() -> None:
        # As much as the worker can do at all.
        worker.hold(job("only", 0.1, tenant=f"new at {worker.now}", now=worker.now))
        worker.at(worker.now + 0.1, newcomer)

    worker.at(worker.now + 5, newcomer)
    worker.run(20)
    begin = worker.now

    runs = worker.run(60)

    old = [run for run in runs if run.job.tenant == "old" and run.started >= begin]
    assert len(old) > 20
