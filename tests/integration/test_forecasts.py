"""Slots are kept by forecast on real workers, and what is expected can be seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from time import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from celery_budget.cli.forecast import forecast
from celery_budget.core.season import BIN_S, SEEN, WEEK, bin_of
from celery_budget.core.tally import Entry, Tally
from celery_budget.stores.redis.arrivals import RedisArrivals
from celery_budget.stores.redis.connect import connect
from tests.budgets import Make, publish
from tests.conftest import WaitFor
from tests.servers import Broker

NOTE = "tests.apps.budgets.note"
POLICY: dict[str, Any] = {
    "default_band": "optional",
    "bands": {
        "critical": {"queues": ["critical"], "preempts": True, "reserve_most": 2},
        "optional": {"queues": ["celery"]},
    },
    "tasks": {"*.note": {"band": "critical"}},
}
WITHOUT = {
    **POLICY,
    "bands": {**POLICY["bands"], "critical": {"queues": ["critical"], "preempts": True}},
}


def ask(sender: ModuleType, *arguments: str) -> Result:
    """Run the command as an operator would."""
    operator = SimpleNamespace(app=sender.app, no_color=True)
    return CliRunner(env={"COLUMNS": "160"}).invoke(forecast, arguments, obj=operator)


def remember(url: str, load: float) -> None:
    """Let the fleet have counted a spike about now in the weeks before, as its workers do.

    Args:
        url: Of the ledger.
        load: Slots in use on average.
    """
    now = bin_of(time())
    arrivals = int(load * BIN_S)
    with connect(url) as client:
        store = RedisArrivals(client, "default")
        for number, back in enumerate((1, 2), 1):
            # This quarter of an hour may be over at any moment.
            spike = [now - back * WEEK + place for place in range(3)]
            entries = [Entry("critical", NOTE, at, arrivals, arrivals * 10**6) for at in spike]
            seen = [Entry("critical", SEEN, place - 8 + n, 1, 0) for place in spike for n in (0, 8)]
            unique = {entry[:3]: entry for entry in (*entries, *seen)}
            store.count(
                Tally("before", number, 4, time(), now, ("critical",), tuple(unique.values()))
            )


def counted(url: str) -> int:
    """Tell how many arrivals the fleet has counted this week."""
    week = bin_of(time()) // WEEK
    with connect(url) as client:
        rows = RedisArrivals(client, "default").weeks("critical", week).get(week, {})
    return sum(sum(row.counts) for task, row in rows.items() if task != SEEN)


def band(sender: ModuleType, name: str, field: str) -> int | None:
    """Ask the one worker about a band; None while it does not listen yet."""
    asked = sender.app.control.inspect(timeout=30, limit=1)
    for answer in (asked._request("budget") or {}).values():
        return int(answer["bands"][name][field])
    return None


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_a_spike_that_is_expected_finds_its_slots(make: Make, wait_for: WaitFor, pool: str) -> None:
    """Kept by a worker that has just started; what arrives is counted, and all of it is shown."""
    budgets = make(POLICY)
    sender = budgets.sender()
    remember(budgets.url, 2.0)
    (worker,) = budgets.start(1, "--loglevel", "INFO", slots=4, pool=pool)
    wait_for(lambda: band(sender, "critical", "reserve") == 2, what="the reserve")
    gate = budgets.directory / "gate"
    publish(sender.wait, [("lesser", str(gate), number) for number in range(8)])
    wait_for(lambda: band(sender, "optional", "running") == 2, what="lesser tasks")
    # None of them ends before the gate opens: only what is kept lets these run.
    publish(sender.note, [("urgent", number) for number in range(20)])
    wait_for(lambda: budgets.journal.count("ran", key="urgent") == 20, what="urgent tasks")
    wait_for(lambda: counted(budgets.url) == 20, what="the tally")
    running = band(sender, "optional", "running")
    told, shown = ask(sender, "--json"), ask(sender)
    gate.touch()
    wait_for(lambda: budgets.journal.count("ended", key="lesser") == 8, what="lesser tasks")

    assert running == 2
    assert "Slots kept from now on, as the forecast says: 2 for critical." in worker.log
    (outlook,) = json.loads(told.output)
    assert (0, 0, "critical", "") == (
        told.exit_code,
        shown.exit_code,
        outlook["band"],
        outlook["worker"],
    )
    assert outlook["bins"][0]["slots"] >= 2
    assert 1.5 < outlook["bins"][0]["per_s"] < 2.5
    assert outlook["error"] is None
    assert 96 == len(outlook["bins"])
    (line,) = [line for line in shown.output.splitlines() if "critical" in line]
    assert "█" in line
    assert " slots at " in line
    assert 0 == worker.stop()


def test_an_applied_policy_begins_and_ends_it(make: Make, wait_for: WaitFor) -> None:
    """Without a restart; and lesser work has its slots again."""
    budgets = make(WITHOUT)
    sender = budgets.sender()
    remember(budgets.url, 2.0)
    budgets.start(slots=4)
    operator = sender.app
    from celery_budget.client import Operator

    nothing = ask(sender)
    Operator(operator).apply(POLICY)
    wait_for(lambda: band(sender, "critical", "reserve") == 2, what="the reserve")
    Operator(operator).reset()
    wait_for(lambda: band(sender, "critical", "reserve") == 0, what="its end")

    assert "Nothing is forecast: give a band `reserve_most` in the policy." in nothing.output
    assert 0 == nothing.exit_code


@pytest.mark.parametrize("url", ["memory://", None])
def test_without_a_shared_ledger_each_worker_goes_by_its_own_count(
    make: Make, wait_for: WaitFor, rabbitmq_broker: Broker, url: str | None
) -> None:
    """And each is asked."""
    budgets = make(POLICY, rabbitmq_broker, budget_ledger_url=url)
    sender = budgets.sender()
    nobody = ask(sender, "--timeout", "0.2")
    (worker,) = budgets.start()
    publish(sender.note, [("urgent", number) for number in range(20)])
    asked: Callable[[], Any] = lambda: json.loads(ask(sender, "--json").output or "[]")  # noqa: E731
    wait_for(lambda: bool(asked()) and asked()[0]["factor"] > 1.2, what="twenty arrivals")
    (outlook,) = asked()

    assert 1 == nobody.exit_code
    assert "no worker answered" in nobody.output
    assert worker.name == outlook["worker"]
    assert BIN_S <= outlook["history_s"] <= 2 * BIN_S
