"""Which task types the catalogue lists, and what it says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery

from celery_budget import install
from celery_budget.client.catalogue import CatalogueEntry, list_tasks
from celery_budget.core.sketch import Profile, Sketch, bucket_of
from celery_budget.core.summary import Calibration
from celery_budget.policy.load import load

POLICY = {
    "bands": {"high": {"queues": ["celery"]}, "low": {"queues": ["low"]}},
    "default_band": "high",
    "tasks": {"*.ruled": {"band": "low", "cost": {"io": "1MB"}}},
    "budgets": {"fleet": {"cpu": "60s/1m", "slots": 4}, "task:*": {"usd": "1/1d", "cpu": "9s/1m"}},
}


def listed(
    profiles: Mapping[str, Profile] | None = None, pattern: str = "*", **settings: object
) -> dict[str, CatalogueEntry]:
    """List the tasks of an app that connects to nothing."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(settings)
    install(app, POLICY)

    @app.task(name="shop.plain", shared=False)
    def plain() -> None: ...

    @app.task(name="shop.ruled", shared=False)
    def ruled() -> None: ...

    @app.task(name="shop.declared", shared=False, band="low")
    def declared() -> None: ...

    found = list_tasks(app, load(POLICY), profiles or {}, pattern)
    return {entry.task: entry for entry in found}


def test_the_apps_task_types_have_the_band_of_a_plain_call() -> None:
    """By rule, declaration or default; Celery's own tasks are nobody's concern."""
    assert {"shop.declared": "low", "shop.plain": "high", "shop.ruled": "low"} == {
        name: entry.band for name, entry in listed(pattern="shop.*").items()
    }
    assert [] == [name for name in listed() if name.startswith("celery.")]


def test_a_route_decides_and_a_router_that_wants_arguments_leaves_it_open() -> None:
    """A catalogue must not fail for one of a hundred tasks."""

    def choose(name: str, args: Any, *_: object, **__: object) -> dict[str, str] | None:
        return {"queue": args[0]} if name == "shop.declared" else None

    found = listed(task_routes=[choose, {"shop.plain": {"queue": "low"}}])

    assert [None, "low"] == [found["shop.declared"].band, found["shop.plain"].band]


def test_what_only_the_fleet_knows_is_listed_too() -> None:
    """An operator's machine may have an older app."""
    sketch = Sketch()
    sketch.observe(bucket_of(1_000), bucket_of(1_000))
    found = listed({"old.task": {"cpu": sketch}}, "o*")

    assert ["old.task"] == list(found)
    assert "high" == found["old.task"].band
    assert 1 == found["old.task"].resources["cpu"].count


def test_resources_are_those_that_budgets_limit() -> None:
    """Of others nothing is learned; what is counted by ones needs no estimate."""
    (entry,) = listed(pattern="shop.ruled").values()

    assert ["cpu", "usd"] == list(entry.resources)
    assert {Calibration.UNSEEN} == {known.calibration for known in entry.resources.values()}
