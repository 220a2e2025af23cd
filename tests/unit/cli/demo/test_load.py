"""The demo's load: on time, complete, and too much."""

from __future__ import annotations

from collections import Counter

from celery_budget.cli.demo.load import LOAD, SLOTS, Arrivals


def test_each_task_comes_once_however_often_one_asks() -> None:
    """Both runs must get the same load, though their loops turn at other times."""
    often, seldom = Arrivals(), Arrivals()
    steps = [number / 100 for number in range(1801)]

    many = Counter(source.band for elapsed in steps for source in often.until(elapsed))
    few = Counter(source.band for elapsed in (3.0, 18.0) for source in seldom.until(elapsed))

    assert many == few
    assert {"critical": 180, "important": 72, "optional": 69} == few


def test_the_load_is_more_than_the_slots_can_do() -> None:
    """Without overload there is nothing to show."""
    slots = sum(source.runtime_s / source.every_s for source in LOAD)

    assert slots > SLOTS
