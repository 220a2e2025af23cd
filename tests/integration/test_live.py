"""What operators change while workers run: another policy, and pauses."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from celery_budget.cli.main import budget
from celery_budget.client import Operator
from celery_budget.errors import OptionError, PolicyError
from celery_budget.policy.live import Live
from tests.budgets import Budgets, Make, publish
from tests.conftest import WaitFor
from tests.integration.test_examples import Example
from tests.servers import Broker

SLOW = {"budgets": {"task:*.note": {"starts": {"limit": "2/1s", "burst": "1"}}}}
FAST = {"budgets": {"task:*.note": {"starts": {"limit": "200/1s", "burst": "20"}}}}
BANDS = {
    "default_band": "one",
    "bands": {"one": {"queues": ["celery"]}, "two": {"queues": ["two"]}},
}


def run(app: Any, *command: str) -> Result:
    """Run a command as `celery -A APP budget` does."""
    return CliRunner().invoke(budget, command, obj=SimpleNamespace(app=app, no_color=True))


def status(budgets: Budgets, sender: Any, task_id: str) -> dict[str, Any]:
    """Ask the one worker for a task."""
    return budgets.inspect(sender, "budget_status", task_id=task_id)


def test_a_new_limit_reaches_every_worker_and_those_that_start_later(
    make: Make, wait_for: WaitFor, tmp_path: Path
) -> None:
    """Nobody can restart a fleet for each limit."""
    budgets = make(SLOW)
    workers = budgets.start(2)
    sender = budgets.sender()
    publish(sender.note, [("n", number) for number in range(120)])
    wait_for(lambda: len(budgets.times("ran", "n")) > 2, what="the first starts")
    file = tmp_path / "fast.toml"
    file.write_text('[budgets."task:*.note"]\nstarts = { limit = "200/1s", burst = "20" }\n')
    applied = run(sender.app, "policy", "apply", str(file), "--reason", "release day")
    wait_for(lambda: len(budgets.times("ran", "n")) == 120, what="the rest")

    assert 0 == applied.exit_code, applied.output
    assert "2 workers follow after" in applied.output
    times = budgets.times("ran", "n")
    assert times[-1] - times[0] < 30  # a minute at the old limit
    limits = {a.rule.limit for name, a in budgets.accounts().items() if "note" in name}
    assert {200_000_000} == limits
    assert all("release day" in worker.log for worker in workers)

    (late,) = budgets.start()
    wait_for(lambda: "From now on the policy holds" in late.log, what="the late worker")
    shown = json.loads(run(sender.app, "policy", "show", "--json").output)
    assert ("release day", FAST) == (shown["reason"], shown["policy"])
    back = run(sender.app, "policy", "reset")
    assert "3 workers follow" in back.output
    wait_for(lambda: "own policy holds again" in late.log, what="the way back")


def test_what_is_paused_does_not_start_and_keeps_its_place(make: Make, wait_for: WaitFor) -> None:
    """A task that does harm must be stopped without stopping all others."""
    budgets = make({"budgets": {"fleet": {"slots": {"limit": 4}}}})
    budgets.start()
    sender = budgets.sender()
    paused = run(sender.app, "pause", "task:*.note", "--reason", "wrong invoices")
    (held,) = publish(sender.note, [("held", 1)])
    publish(sender.pause, [("free", 0.0)])
    wait_for(lambda: budgets.times("ended", "free") != [], what="the other task")
    found = status(budgets, sender, held)
    listed = budgets.inspect(sender, "budget")["held"]

    assert (0, []) == (paused.exit_code, budgets.times("ran", "held")), paused.output
    assert ("paused", "task:*.note") == (found["reason"], found["pause"])
    assert ["paused"] == [each["reason"] for each in listed]
    assert "task:*.note" in run(sender.app, "status", held).output
    workers = json.loads(run(sender.app, "status", "--json").output)["workers"]
    assert ["paused: task:*.note"] == [worker["note"] for worker in workers]
    resumed = run(sender.app, "resume", "task:*.note")
    assert 0 == resumed.exit_code, resumed.output
    wait_for(lambda: budgets.times("ran", "held") != [], what="the task")
    again = run(sender.app, "resume", "task:*.note")
    assert 2 == again.exit_code
    assert "is not paused" in again.output


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "eventlet", "solo"])
def test_a_pause_ends_by_itself(make: Make, wait_for: WaitFor, pool: str) -> None:
    """Who pauses at night may not be there in the morning."""
    budgets = make({"tenants": {"*": {"weight": 2}}})
    budgets.start(pool=pool)
    sender = budgets.sender()
    begun = time.time()
    changed = Operator(sender.app).pause("fleet", for_s=2)
    publish(sender.note, [("n", 1)])
    wait_for(lambda: budgets.times("ran", "n") != [], what="the end of the pause")

    assert {} == changed.problems
    assert budgets.times("ran", "n")[0] >= begun + 2


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_a_paused_bands_messages_stay_in_the_broker(
    make: Make, wait_for: WaitFor, kind: str, request: pytest.FixtureRequest
) -> None:
    """What waits in a worker's hands cannot be had by anybody else."""
    broker: Broker | None = None
    if kind == "rabbitmq":
        broker = request.getfixturevalue("rabbitmq_broker")
    budgets = make(BANDS, broker)
    budgets.start()
    sender = budgets.sender()
    Operator(sender.app).pause("band:two")
    publish(sender.note, [("two", number) for number in range(50)], band="two")
    publish(sender.note, [("one", 1)])
    wait_for(lambda: budgets.times("ran", "one") != [], what="the other band")

    bands = budgets.inspect(sender, "budget")["bands"]
    assert (0, 0) == (bands["two"]["running"], bands["two"]["window"])
    assert bands["two"]["held"] <= 3  # those that were asked for before it was paused
    Operator(sender.app).resume("band:two")
    wait_for(lambda: len(budgets.times("ran", "two")) == 50, what="the paused band")


def test_bands_change_their_order_with_what_they_hold(make: Make, wait_for: WaitFor) -> None:
    """Held tickets go by the new policy as well."""
    first = {
        **BANDS,
        "bands": {name: {**b, "preempts": True} for name, b in BANDS["bands"].items()},
    }
    second = {**first, "bands": dict(reversed(first["bands"].items()))}
    budgets = make(first)
    budgets.start(slots=1)
    sender = budgets.sender()
    gate = budgets.directory / "gate"
    publish(sender.wait, [("busy", str(gate))])
    wait_for(lambda: budgets.times("started", "busy") != [], what="the busy slot")
    publish(sender.note, [("one", number) for number in range(20)], band="one")
    publish(sender.note, [("two", number) for number in range(20)], band="two")
    changed = Operator(sender.app).apply(second)
    gate.touch()
    wait_for(lambda: len(budgets.times("ran", "one")) == 20, what="all")

    assert {} == changed.problems
    assert max(budgets.times("ran", "two")) < sorted(budgets.times("ran", "one"))[1]


def test_a_worker_with_another_file_keeps_its_own(make: Make, wait_for: WaitFor) -> None:
    """An applied policy replaces the one it was made for, not what is deployed after it."""
    budgets = make(SLOW)
    budgets.start()
    sender = budgets.sender()
    Operator(sender.app).apply(FAST)
    budgets.deploy({"budgets": {"task:*.note": {"starts": "7/1s"}}})
    (other,) = budgets.start()
    wait_for(lambda: "does not hold on this worker" in other.log, what="the refusal")
    shown = run(sender.app, "pause", "fleet")

    assert 1 == shown.exit_code
    assert f"{other.name} does not follow: it was made for another policy file" in shown.output
    assert "1 worker follows" in shown.output


def test_what_needs_a_restart_is_refused_with_what_to_do(make: Make) -> None:
    """Queues, meters and bands are settled when a worker starts."""
    budgets = make(SLOW)
    operator = Operator(budgets.sender().app)
    refused = {
        "it has other bands": BANDS,
        "nothing meters usd yet": {"budgets": {"fleet": {"usd": "1/1d"}}},
        "it has a table .pressure.; deploy it": {"pressure": {}, **SLOW},
        "it has the first ceilings": {"ceilings": {"task:*": {"runtime": "1m"}}, **SLOW},
    }
    for text, policy in refused.items():
        with pytest.raises(PolicyError, match=text):
            operator.apply(policy)
    for target in ("tusk:x", "band:none", "node:a"):
        with pytest.raises(OptionError):
            operator.pause(target)
    assert Live() == operator.live()


def test_a_ledger_that_was_emptied_learns_the_change_again(make: Make, wait_for: WaitFor) -> None:
    """A pause must not end because Redis was restarted."""
    budgets = make(SLOW)
    budgets.start()
    sender = budgets.sender()
    operator = Operator(sender.app)
    before = operator.pause("task:*.note", reason="kept").live
    with redis.Redis.from_url(budgets.url) as client:
        client.flushdb()
    wait_for(lambda: operator.live() != Live(), what="the ledger to learn it")

    assert before == operator.live()


def test_without_a_ledger_it_says_what_to_set(make: Make, rabbitmq_broker: Broker) -> None:
    """RabbitMQ alone can keep nothing that a later worker would find."""
    budgets = make(BANDS, rabbitmq_broker, budget_ledger_url=None)
    budgets.start()
    result = run(budgets.sender().app, "pause", "fleet")

    assert 2 == result.exit_code
    assert "budget_ledger_url" in result.output


def test_a_ledger_that_each_worker_keeps_by_itself_cannot_be_changed(make: Make) -> None:
    """The command would change its own, and wait for nobody."""
    budgets = make(BANDS, budget_ledger_url="memory://")
    result = run(budgets.sender().app, "pause", "fleet")

    assert 2 == result.exit_code
    assert "memory://" in result.output


def test_the_examples_mails_go_out_when_the_limit_is_raised(redis_broker: Broker) -> None:
    """What the example's page says."""
    example = Example("raise_a_limit_at_once", redis_broker)
    budget = ("-m", "celery", "-A", "mail", "budget")
    try:
        example.start("mail", slots=2)
        example.run("publish.py")
        begun = time.monotonic()
        applied = example.run(*budget, "policy", "apply", "faster.toml", "--reason", "fine again")
        example.wait_until_printed(r"sent (\d+)", 60)
        seconds = time.monotonic() - begun
        example.run(*budget, "pause", "task:mail.send", "--for", "10m", "--reason", "wrong footer")
        example.run("publish.py")
        while_paused = len(example.printed(r"sent (\d+)"))
        shown = example.run(*budget, "policy", "show")
        example.run(*budget, "resume", "task:mail.send")
        example.wait_until_printed(r"sent (\d+)", 120)
        example.run(*budget, "policy", "reset")
    finally:
        example.end()

    assert "1 worker follows" in applied
    assert seconds < 30
    assert 60 == while_paused
    assert "task:mail.send is paused until" in shown
    assert "wrong footer" in shown
