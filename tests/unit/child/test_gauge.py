"""The gauge where the kernel does not help: what is not known is not guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from celery_budget.board import PoolKind
from celery_budget.child import gauge as module
from celery_budget.child.gauge import ThreadGauge, gauge


@pytest.mark.parametrize(
    ("kind", "resources", "known"),
    [
        (PoolKind.PREFORK, ("cpu", "io", "memory"), (True, True, True)),
        (PoolKind.PREFORK, ("cpu", "usd"), (True, False, False)),
        (PoolKind.PREFORK, ("memory",), (False, True, False)),
        (PoolKind.PREFORK, ("io",), (False, False, True)),
    ],
)
@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the kernel does not count io")
def test_only_what_the_policy_names_is_read(
    kind: PoolKind, resources: tuple[str, ...], known: tuple[bool, ...]
) -> None:
    """Each reading costs system calls in every task."""
    made = gauge(kind, resources)

    assert known == tuple(value is not None for value in made.since(made.start()))


@pytest.mark.parametrize("kind", PoolKind)
def test_nothing_is_read_for_a_policy_without_metered_resources(kind: PoolKind) -> None:
    """Bands alone cost what they cost before."""
    assert gauge(kind, ("runtime", "slots", "starts", "usd")) is None


def test_a_thread_tells_its_cpu_time_alone() -> None:
    """Memory and storage traffic are the process's, and other tasks run in it."""
    assert isinstance(gauge(PoolKind.THREADS, ("cpu", "io", "memory")), ThreadGauge)
    assert gauge(PoolKind.THREADS, ("io", "memory")) is None
    assert gauge(PoolKind.GREEN, ("cpu", "io", "memory")) is None


def test_without_a_reset_only_a_new_highest_peak_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An earlier task's peak must not be taken for that of this one."""
    monkeypatch.setattr(module, "_CLEAR_REFS", str(tmp_path / "missing"))
    made = gauge(PoolKind.PREFORK, ("memory",))
    peaks = []
    highest = made.start()[1].ru_maxrss * module._MAXRSS_BYTES
    for size in (2 * highest, highest):
        mark = made.start()
        bytearray(b"1") * size
        peaks.append(made.since(mark)[1])

    assert peaks[0] >= 2 * highest
    assert peaks[1] is None


def test_without_accounting_io_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The kernel then says 0, whatever was written."""
    monkeypatch.setattr(module, "_ACCOUNTING", tmp_path / "missing")
    made = gauge(PoolKind.PREFORK, ("io",))

    assert (None, None, None) == made.since(made.start())
