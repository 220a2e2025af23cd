"""Names of lanes, and what a policy says of them."""

from __future__ import annotations

import pytest

from celery_budget.errors import PolicyError
from celery_budget.policy.lanes import MAX_LANES, lane_of, lanes_of, number_of, queue_of
from celery_budget.policy.load import load

LANES = load(
    {
        "default_band": "optional",
        "bands": {
            "critical": {"queues": ["critical"]},
            "optional": {"queues": ["optional", "second"], "lanes": 8},
        },
    }
)


def test_a_lane_is_known_by_its_name() -> None:
    """Workers with another policy know lanes by nothing else."""
    for number in range(MAX_LANES):
        assert "q.x" == queue_of(lane_of("q.x", number))
        assert number == number_of(lane_of("q.x", number))
    assert 8 == len(set(lanes_of("q", 8)))
    assert () == lanes_of("q", 1)


@pytest.mark.parametrize("name", ["q", "q.lane", "q.lane08", "q.lane64", ".lane1", "q.lane1x"])
def test_what_is_no_lane_is_none(name: str) -> None:
    """Queues of the user's may have names that only look like one."""
    assert queue_of(name) is None


def test_a_lane_belongs_to_the_band_of_its_queue_whatever_its_number() -> None:
    """Others may have more lanes than this policy."""
    assert "optional" == LANES.owner("optional.lane3")
    assert "optional" == LANES.owner("optional.lane40")
    assert "critical" == LANES.owner("critical.lane0")
    assert LANES.owner("second.lane0") is None
    assert LANES.owner("other.lane0") is None


def test_the_base_of_a_lane_is_its_queue_and_that_of_others_themselves() -> None:
    """What the policy says of a queue holds for its lanes."""
    assert "optional" == LANES.base("optional.lane3")
    assert "second.lane0" == LANES.base("second.lane0")
    assert "optional" == LANES.base("optional")


def test_a_policy_without_lanes_has_none() -> None:
    """Nothing must be declared that nobody asked for."""
    assert () == LANES.bands[0].lane_queues
    assert 8 == len(LANES.bands[1].lane_queues)


@pytest.mark.parametrize(
    ("bands", "problem"),
    [
        ({"a": {"lanes": 0}}, "bands.a.lanes: expected int >= 1"),
        ({"a": {"lanes": 65}}, "bands.a.lanes: expected int <= 64"),
        ({"a": {"lanes": True}}, "bands.a.lanes: expected int"),
        (
            {"a": {"lanes": 4}, "b": {"queues": ["a.lane3"]}},
            (
                'bands.a.lanes: lane "a.lane3" is a queue of band b already; '
                "give that queue another name"
            ),
        ),
        (
            {"a": {"queues": ["q" * 255], "lanes": 2}},
            "bands.a.lanes: a lane's name would be too long: its queue's name and .laneN",
        ),
    ],
)
def test_a_mistake_is_told(bands: dict[str, object], problem: str) -> None:
    """Two bands that share a queue would take each other's tasks."""
    with pytest.raises(PolicyError) as caught:
        load({"default_band": "a", "bands": bands})

    assert any(str(each).startswith(problem) for each in caught.value.problems), str(caught.value)


def test_a_queue_that_is_named_like_a_lane_beyond_the_number_may_be_declared() -> None:
    """It is the band's own then, and no lane."""
    policy = load({"default_band": "a", "bands": {"a": {"lanes": 4}, "b": {"queues": ["a.lane4"]}}})

    assert "b" == policy.owner("a.lane4")
    assert "a.lane4" == policy.base("a.lane4")
