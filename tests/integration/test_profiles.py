"""What a fleet's tasks use is learned by all its workers: real ones, and a ledger on Redis."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from celery_budget.cli.catalogue import catalogue
from celery_budget.core.sketch import WEIGHT, Profile, bucket_of
from celery_budget.embedded import RedisServer
from celery_budget.stores.redis.connect import connect
from celery_budget.stores.redis.profiles import RedisProfiles
from tests.budgets import MILLION, Budgets, Make, publish
from tests.conftest import WaitFor
from tests.servers import Broker

PAY = "tests.apps.budgets.pay"

#: Where nobody knows better, a hundredth is set aside: a dollar.
POLICY: Mapping[str, Any] = {
    "bands": {"important": {"queues": ["celery"], "on_ledger_loss": "open"}, "optional": {}},
    "default_band": "important",
    "tasks": {"*.note": {"band": "optional"}},
    "budgets": {"fleet": {"usd": "100/1d"}, "task:*": {"usd": "100/1d", "starts": "1000/1s"}},
}


def known(url: str) -> dict[str, Profile]:
    """Look at what the fleet knows."""
    with connect(url) as client:
        return RedisProfiles(client, "default").profiles()


def count(url: str) -> int:
    """Tell how many payments the fleet has seen."""
    profile = known(url).get(PAY)
    return 0 if profile is None else profile["usd"].count


def pay(budgets: Budgets, sender: ModuleType, key: str, usd: str, times: int) -> None:
    """Publish payments."""
    publish(sender.pay, [(key, usd, number) for number in range(times)])


def ask(sender: ModuleType, *arguments: str) -> Result:
    """Run the command as an operator would."""
    operator = SimpleNamespace(app=sender.app, no_color=True)
    return CliRunner(env={"COLUMNS": "160"}).invoke(catalogue, arguments, obj=operator)


def test_a_worker_that_is_new_sets_aside_what_another_has_learned(
    make: Make, wait_for: WaitFor
) -> None:
    """After a deploy all workers are new; a guess would hold back or overspend every budget."""
    budgets = make(POLICY)
    sender = budgets.sender()
    (first,) = budgets.start()
    pay(budgets, sender, "first", "0.30", 40)
    wait_for(lambda: count(budgets.url) == 40, what="the first worker's lesson")
    first.kill()
    learned = known(budgets.url)[PAY]["usd"]

    budgets.start()
    pay(budgets, sender, "second", "0.30", 1)
    wait_for(lambda: count(budgets.url) == 41, what="the second worker's lesson")
    after = known(budgets.url)[PAY]["usd"]

    assert (40, 41) == (learned.count, after.count)
    assert 0.30 * MILLION == pytest.approx(learned.quantile(0.95), rel=0.05)
    assert bucket_of(learned.quantile(0.95)) == (after.aside - learned.aside) // WEIGHT


def test_the_catalogue_tells_what_is_known_of_each_task_type(make: Make, wait_for: WaitFor) -> None:
    """Whoever sets a limit must know what tasks use, without logging in to a worker."""
    budgets = make(POLICY)
    sender = budgets.sender()
    budgets.start()
    pay(budgets, sender, "all", "0.30", 120)
    # Without the worker's end: it tells every few seconds.
    wait_for(lambda: count(budgets.url) >= 100, what="a lesson")
    told = ask(sender, "*.pay", "--json")
    (entry,) = json.loads(told.output)
    shown = ask(sender)
    nothing = ask(sender, "unknown.*")

    assert (0, 0, 0) == (told.exit_code, shown.exit_code, nothing.exit_code)
    assert (PAY, "important", ["usd"]) == (entry["task"], entry["band"], list(entry["resources"]))
    usd = entry["resources"]["usd"]
    assert 100 <= usd["count"] <= 120
    assert 0.30 * MILLION == pytest.approx(usd["p95"], rel=0.05) == pytest.approx(usd["p50"])
    assert 0 == usd["exceeded"]
    assert "good" == usd["calibration"]
    rows = [
        [cell.strip() for cell in line.strip("│ ").split("│")]
        for line in shown.output.splitlines()
        if "tests.apps.budgets" in line
    ]
    cells = {row[0].removeprefix("tests.apps.budgets."): row[1:] for row in rows}
    assert ["optional", "-", "-", "-", "-", "-", "-", "not seen"] == cells["note"]
    assert ["important", "usd"] == cells["pay"][:2]
    assert ["0.0%", "good"] == cells["pay"][-2:]
    assert "No task type matches 'unknown.*'." in nothing.output


def test_a_ledger_that_lost_everything_is_told_again_what_workers_know(
    make: Make, wait_for: WaitFor
) -> None:
    """A flush must not make the whole fleet guess."""
    budgets = make(POLICY)
    sender = budgets.sender()
    (worker,) = budgets.start()
    pay(budgets, sender, "before", "0.30", 40)
    wait_for(lambda: count(budgets.url) == 40, what="a lesson")
    with redis.Redis.from_url(budgets.url) as client:
        client.flushdb()
    pay(budgets, sender, "after", "0.30", 1)
    wait_for(lambda: count(budgets.url) == 1, what="the first lesson after the loss")
    assert 0 == worker.stop()

    assert 41 == count(budgets.url)


def test_what_was_seen_while_the_ledger_was_away_is_told_when_it_is_back(
    make: Make, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks go on meanwhile, and nothing is counted twice."""
    monkeypatch.delenv("CELERY_BUDGET_REDIS_URL", raising=False)
    with RedisServer() as server:
        with redis.Redis.from_url(server.url) as client:
            pid = int(client.info("server")["process_id"])
        budgets = make(POLICY, budget_ledger_url=server.url)
        sender = budgets.sender()
        budgets.start()
        pay(budgets, sender, "before", "0.30", 20)
        wait_for(lambda: count(server.url) == 20, what="a lesson")
        os.kill(pid, signal.SIGSTOP)
        try:
            # Without a ledger, tasks of an open band are paid for all the same.
            pay(budgets, sender, "away", "0.30", 30)
            wait_for(lambda: budgets.journal.count("paid", key="away") == 30, what="payments")
            unread = ask(sender)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        wait_for(lambda: count(server.url) >= 50, what="a lesson after the return")

        assert 50 == count(server.url)
        assert 1 == unread.exit_code
        assert "the ledger is unavailable (profiles: " in unread.output


def test_without_a_shared_ledger_the_catalogue_asks_the_workers(
    make: Make, wait_for: WaitFor, rabbitmq_broker: Broker
) -> None:
    """Their profiles are in their memory and nowhere else."""
    budgets = make(POLICY, rabbitmq_broker, budget_ledger_url="memory://")
    sender = budgets.sender()
    nobody = ask(sender, "--timeout", "0.2")
    budgets.start(2)
    pay(budgets, sender, "all", "0.30", 40)
    wait_for(lambda: budgets.journal.count("paid", key="all") == 40, what="both workers")
    # The last ones were paid a moment before they ended.
    wait_for(
        lambda: (
            json.loads(ask(sender, "*.pay", "--json").output)[0]["resources"]["usd"]["count"] == 40
        ),
        what="all to be seen",
    )
    shown = ask(sender, "*.pay")

    assert 1 == nobody.exit_code
    assert "no worker answered" in nobody.output
    assert "Each worker learns by itself (memory://)" in shown.output
    assert "40" in next(line for line in shown.output.splitlines() if PAY in line)


def test_misuse_is_told_as_such(make: Make, rabbitmq_broker: Broker) -> None:
    """A script must not take it for a finding."""
    budgets = make(POLICY, rabbitmq_broker, budget_ledger_url=None)
    told = ask(budgets.sender())

    assert 2 == told.exit_code
    assert "set budget_ledger_url" in told.output
