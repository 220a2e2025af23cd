"""Ceilings: told once, stopped after the grace, and never below."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from celery_budget.core.ceiling import Excess, Sample, Step, Watch
from celery_budget.policy.budget import Bound, Ceiling

MIB = 2**20
CEILING = Ceiling(
    cpu=Bound(2_000_000, 5_000_000, "c.cpu"),
    memory=Bound(100 * MIB, 1_000_000, "c.memory"),
)


def memory(mib: int) -> Sample:
    """Make a sample of memory."""
    return Sample(0, mib * MIB, 0)


def test_up_to_the_ceiling_nothing_happens() -> None:
    """What is exactly allowed is allowed; what nobody can tell harms nobody."""
    watch = Watch(CEILING)

    assert watch.look(memory(100), 1.0) is None
    assert watch.look(Sample(None, None, 10**12), 2.0) is None


def test_beyond_it_is_told_once_and_stopped_after_the_grace() -> None:
    """A body may need a while to clean up."""
    watch = Watch(CEILING)

    told = watch.look(memory(101), 1.0)
    assert (Step.TELL, Excess("memory", 101 * MIB, 100 * MIB, "c.memory")) == told
    assert watch.look(memory(120), 1.9) is None
    stopped = watch.look(memory(110), 2.0)
    assert (Step.STOP, Excess("memory", 120 * MIB, 100 * MIB, "c.memory")) == stopped


def test_freeing_memory_does_not_end_the_grace() -> None:
    """Else a task could go beyond as often as it likes."""
    watch = Watch(CEILING)
    watch.look(memory(101), 1.0)

    assert watch.look(memory(1), 1.5) is None
    assert watch.look(memory(1), 2.0) == (
        Step.STOP,
        Excess("memory", 101 * MIB, 100 * MIB, "c.memory"),
    )


def test_each_ceiling_has_a_grace_of_its_own() -> None:
    """A long grace for CPU time is no leave to take the machine's memory."""
    watch = Watch(CEILING)
    told = watch.look(Sample(2_000_001, MIB, 0), 1.0)

    assert told is not None
    assert (Step.TELL, "cpu") == (told[0], told[1].resource)
    assert watch.look(Sample(2_100_000, 200 * MIB, 0), 2.0) is None
    stopped = watch.look(Sample(2_100_000, 200 * MIB, 0), 3.0)
    assert stopped is not None
    assert (Step.STOP, "memory") == (stopped[0], stopped[1].resource)


def test_without_grace_it_is_stopped_at_once() -> None:
    """Nobody is told who could do nothing with it."""
    watch = Watch(Ceiling(runtime=Bound(1_000, 0, "c.runtime")))

    assert watch.look(Sample(None, None, 1_001), 0.0) == (
        Step.STOP,
        Excess("runtime", 1_001, 1_000, "c.runtime"),
    )


@given(st.lists(st.tuples(st.integers(0, 200), st.floats(0.001, 2.0)), max_size=40))
def test_whatever_it_uses_it_is_told_at_most_once_and_not_stopped_before(
    steps: list[tuple[int, float]],
) -> None:
    """The order is the same for every course of its memory."""
    watch = Watch(Ceiling(memory=Bound(100 * MIB, 1_000_000, "c.memory")))
    now = 0.0
    first: float | None = None
    answers: list[Step] = []
    for mib, passed in steps:
        now += passed
        if mib > 100 and first is None:
            first = now
        answer = watch.look(memory(mib), now)
        if answer is None:
            assert first is None or now < first + 1.0
            continue
        answers.append(answer[0])
        assert first is not None
        assert (answer[0] is Step.STOP) == (now >= first + 1.0)

    assert answers.count(Step.TELL) <= 1
    assert Step.TELL not in answers[1:]
