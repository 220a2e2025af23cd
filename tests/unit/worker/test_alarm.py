"""Alarms ring at their time, whatever the timer behind them does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from celery_budget.worker.alarm import Alarm


class Timer:
    """Calls when it is told that time has passed.

    Attributes:
        now: Its time, seconds.
        due: What is to be called, by time.
    """

    def __init__(self, early_s: float = 0.0) -> None:
        self.now = 100.0
        self.due: list[tuple[float, Callable[[], None]]] = []
        self._early_s = early_s

    def call_after(self, seconds: float, call: Callable[[], None]) -> None:
        """Remember one more."""
        self.due.append((self.now + max(0.0, seconds - self._early_s), call))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self.due:
            at, call = min(self.due, key=lambda each: each[0])
            if at > until:
                break
            self.due.remove((at, call))
            self.now = max(self.now, at)
            call()
        self.now = until


@pytest.mark.parametrize("early_s", [0.0, 0.001])
def test_it_rings_until_its_time_has_come(early_s: float) -> None:
    """A timer that comes too early is set again by whoever still waits."""
    timer = Timer(early_s)
    rung: list[float] = []

    def ring() -> None:
        rung.append(timer.now)
        if timer.now < 105.0:
            timer.now += 0.0001  # what it takes to ask
            alarm.set(105.0)

    alarm = Alarm(lambda: timer.now, ring)
    alarm.attach(timer.call_after)
    alarm.set(105.0)
    assert alarm.is_set
    timer.run(106.0)

    assert rung[0] >= 105.0 - early_s
    assert 105.0 <= rung[-1] <= 105.01
    assert not timer.due


def test_an_earlier_time_goes_first_and_later_ones_add_no_timers() -> None:
    """However often it is set."""
    timer = Timer()
    rung: list[float] = []
    alarm = Alarm(lambda: timer.now, lambda: rung.append(timer.now))
    alarm.attach(timer.call_after)
    alarm.set(110.0)
    alarm.set(105.0)
    for _ in range(5):
        alarm.set(120.0)
    timer.run(130.0)

    assert [105.0, 110.0] == rung


def test_another_timer_knows_nothing_of_what_was_set() -> None:
    """After a reconnect."""
    old, new = Timer(), Timer()
    rung: list[float] = []
    alarm = Alarm(lambda: new.now, lambda: rung.append(new.now))
    alarm.attach(old.call_after)
    alarm.set(105.0)
    alarm.attach(new.call_after)
    assert not alarm.is_set
    alarm.set(107.0)
    new.run(110.0)

    assert [107.0] == rung
