"""Workers' answers as values, whatever version of the package the worker has."""

from __future__ import annotations

from celery_budget.client.answers import fleet_of
from celery_budget.client.fleet import BandLoad
from celery_budget.policy.load import load

POLICY = load(
    {
        "default_band": "optional",
        "bands": {
            "critical": {"queues": ["critical", "urgent"]},
            "optional": {"queues": ["optional"]},
        },
    }
)


def test_a_fleet_sums_bands_over_workers_and_queues() -> None:
    """An operator asks for the band, not for each worker."""
    replies = {
        "w2": {"slots": 4, "bands": {"critical": {"running": 1, "held": 2, "window": 0}}},
        "w1": {
            "slots": 2,
            "bands": {
                "critical": {"running": 2, "held": 0, "throttled_by": None},
                "optional": {"running": 0, "held": 5, "throttled_to": 0.5, "throttled_by": "queue"},
            },
        },
    }

    fleet = fleet_of(POLICY, replies, {"critical": 3, "urgent": 4, "optional": 1, "celery": 9})

    assert ["w1", "w2"] == list(fleet.workers)
    assert 6 == fleet.slots
    assert BandLoad(running=3, held=2) == fleet.load("critical")
    assert BandLoad(0, 5, throttled_to=0.5, throttled_by="queue") == fleet.load("optional")
    assert (7, 1) == (fleet.depth("critical"), fleet.depth("optional"))
    assert {"celery": 9} == fleet.other_depths


def test_workers_that_cannot_answer_are_listed_with_the_reason() -> None:
    """Leaving them out would make the fleet look smaller than it is."""
    replies = {
        "plain": {"error": "KeyError('budget')"},
        "empty": {"bands": {}, "note": "this worker has no policy"},
    }

    fleet = fleet_of(POLICY, replies, {})

    assert {
        "empty": (None, "this worker has no policy"),
        "plain": (None, "this worker runs without celery-budget"),
    } == {name: (worker.slots, worker.note) for name, worker in fleet.workers.items()}


def test_an_empty_policy_has_no_bands_to_show() -> None:
    """Its one band is a means of the program, not something the operator declared."""
    fleet = fleet_of(load(None), {}, {"celery": 2})

    assert ((), {"celery": 2}) == (fleet.bands, fleet.other_depths)
