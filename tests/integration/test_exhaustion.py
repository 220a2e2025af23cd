"""What happens on real workers when a budget is used up: each action, and what callers see."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from celery_budget.embedded import RedisServer
from celery_budget.errors import BudgetRefused
from tests.budgets import MILLION, Budgets, publish, spend_all
from tests.conftest import WaitFor

#: Redis databases of the worker that tests share: messages, results and the ledger.
_SHARED = (28, 32, 36)

ACTIONS = {
    "default_band": "high",
    "bands": {"high": {"queues": ["celery"]}, "low": {}},
    "tasks": {"*.wait": {"cost": {"tokens": 600}}},
    "budgets": {
        "tenant:degrade-*": {"usd": {"limit": "1/1d", "on_exhausted": "degrade", "at": "50%"}},
        "tenant:demote-*": {"usd": {"limit": "1/1d", "on_exhausted": "demote"}},
        "tenant:shed-*": {"usd": {"limit": "1/1d", "on_exhausted": "shed"}},
        "tenant:hold-*": {"usd": {"limit": "1/1d"}},
        "tenant:cost-*": {"tokens": {"limit": "1000/1d"}},
        "band:low": {"cpu": "600s/1h"},
    },
}


@pytest.fixture(scope="module")
def spending(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Budgets]:
    """Start one worker whose budgets run out in every way, for several tests."""
    directory = tmp_path_factory.mktemp("budgets")
    made = Budgets(redis_server, directory, ACTIONS, databases=_SHARED)
    made.start()
    yield made
    made.close()


def budget_status(budgets: Budgets, sender: ModuleType, task_id: str) -> dict[str, Any]:
    """Ask the worker about one task."""
    return budgets.inspect(sender, "budget_status", task_id=task_id)


def test_a_degraded_task_sees_that_it_should_do_less(
    spending: Budgets, wait_for: WaitFor, key: str
) -> None:
    """From the share on that the policy names, and it is not stopped."""
    pay = spending.sender().pay
    tenant = f"degrade-{key}"
    name = f"tenant:{tenant} usd"
    for number in range(12):
        publish(pay, [(key, "0.10", number)], tenant=tenant)
        wait_for(
            lambda n=number: (
                (account := spending.accounts().get(name)) is not None
                and account.spent == 100_000 * (n + 1)
            ),
            what="the ledger to hear of the payment",
        )

    seen = {entry["number"]: entry["degraded"] for entry in spending.journal.entries(key=key)}
    # What the worker has been granted counts as used, so that it may begin a little early.
    assert [False] * 3 == [seen[number] for number in range(3)]
    assert [True] * 6 == [seen[number] for number in range(6, 12)]


def test_a_demoted_task_runs_in_the_lower_band(
    spending: Budgets, wait_for: WaitFor, key: str
) -> None:
    """It waits behind those who have money left, and not for ever."""
    sender = spending.sender()
    gate = spending.directory / f"gate-{key}"
    tenant = f"demote-{key}"
    spend_all(spending, sender.pay, wait_for, tenant)
    (demoted,) = publish(sender.wait, [(key, str(gate))], tenant=tenant)
    wait_for(lambda: spending.journal.count("started", key=key) == 1, what="its start")
    status = budget_status(spending, sender, demoted)
    gate.touch()

    assert ("running", "low") == (status["state"], status["band"])
    assert ["high"] == [entry["band"] for entry in spending.journal.entries(key=tenant)]


def test_a_shed_task_ends_with_budget_refused(
    spending: Budgets, wait_for: WaitFor, key: str
) -> None:
    """Whoever waits for it must not wait for ever; without a result nothing breaks."""
    sender = spending.sender()
    tenant = f"shed-{key}"
    spend_all(spending, sender.pay, wait_for, tenant)
    quiet = sender.pay.apply_async((key, "1"), tenant=tenant, ignore_result=True).id
    called = sender.pay.apply_async(
        (key, "1"), tenant=tenant, link_error=sender.told.s(key=key).set(tenant="")
    ).id
    wait_for(lambda: spending.meta(called) is not None, what="a result")
    wait_for(lambda: spending.journal.count("told", key=key) == 1, what="the error callback")
    after = sender.note.delay(key).id
    wait_for(lambda: spending.meta(after) is not None, what="the worker to go on")
    sender.app.conf.result_backend = spending.results
    result = sender.app.AsyncResult(called)

    with pytest.raises(BudgetRefused, match="is used up") as raised:
        result.maybe_throw()
    assert f"tenant:{tenant} usd" == raised.value.account
    assert 'budgets."tenant:shed-*".usd' == raised.value.budget
    assert spending.meta(quiet) is None
    assert 0 == spending.journal.count("paid", key=key)


def test_a_chord_learns_that_a_part_of_it_was_shed(
    spending: Budgets, wait_for: WaitFor, key: str
) -> None:
    """Its body would wait for ever for a part that never runs."""
    sender = spending.sender()
    tenant = f"shed-{key}"
    spend_all(spending, sender.pay, wait_for, tenant)
    # Publishing a chord asks the result backend for its counter.
    body = spending.execute(
        "from celery import chord\n"
        "key, tenant = arguments\n"
        "header = [app.note.s(key, 1), app.pay.s(key, '1').set(tenant=tenant)]\n"
        "print(chord(header)(app.total.s(key=key)).id)",
        key,
        tenant,
    )
    wait_for(lambda: spending.meta(body) is not None, what="the body's outcome")
    outcome = spending.meta(body)

    assert outcome is not None
    assert ("FAILURE", "ChordError") == (outcome["status"], outcome["result"]["exc_type"])
    assert "BudgetRefused" in str(outcome["result"])
    assert 0 == spending.journal.count("total", key=key)


def test_a_held_task_says_which_budget_it_waits_for(
    spending: Budgets, wait_for: WaitFor, key: str
) -> None:
    """Else an operator looks for a fault in the worker."""
    sender = spending.sender()
    tenant = f"hold-{key}"
    spend_all(spending, sender.pay, wait_for, tenant)
    waiting = sender.pay.apply_async((key, "0.10"), tenant=tenant).id
    wait_for(
        lambda: budget_status(spending, sender, waiting)["state"] == "held", what="the held task"
    )
    status = budget_status(spending, sender, waiting)
    listed = {each["id"]: each for each in spending.inspect(sender, "budget")["held"]}

    assert "budget" == status["reason"]
    assert "budget" == listed[waiting]["reason"]
    assert 0 == spending.journal.count("paid", key=key)


@pytest.mark.parametrize("source", ["policy", "decorator", "call"])
def test_a_declared_cost_is_set_aside_when_the_task_starts(
    spending: Budgets, wait_for: WaitFor, key: str, source: str
) -> None:
    """Of 1,000 tokens only one task that may need 600 can start; unused, they are free again."""
    sender = spending.sender()
    gate = spending.directory / f"gate-{key}"
    tenant = f"cost-{key}"
    chosen = sender.declared if source == "decorator" else sender.wait
    options: dict[str, Any] = {"cost": {"tokens": 600}} if source == "call" else {}
    ids = publish(chosen, [(key, str(gate), n) for n in range(2)], tenant=tenant, **options)
    wait_for(lambda: spending.journal.count("started", key=key) >= 1, what="the first task")
    wait_for(
        lambda: (
            {budget_status(spending, sender, each)["state"] for each in ids} == {"running", "held"}
        ),
        what="the second to be held",
    )
    started = spending.journal.count("started", key=key)
    reserved = spending.accounts()[f"tenant:{tenant} tokens"].leased
    gate.touch()
    wait_for(lambda: spending.journal.count("ended", key=key) == 2, what="both tasks")

    assert 1 == started
    assert 600 * MILLION <= reserved <= 1_000 * MILLION


def test_a_bands_cpu_budget_is_charged_what_was_measured(
    spending: Budgets, wait_for: WaitFor, key: str
) -> None:
    """A budget in seconds of processor time is kept by the meter, not by estimates."""
    sender = spending.sender()

    def spent() -> int:
        account = spending.accounts().get("band:low cpu")
        return 0 if account is None else account.spent

    before = spent()
    publish(sender.spin, [(key, 0.3)] * 4, band="low")
    wait_for(lambda: spending.journal.count("spun", key=key) == 4, what="all tasks")
    used = 1e6 * sum(entry["seconds"] for entry in spending.journal.entries("spun", key=key))
    wait_for(lambda: spent() - before >= used, what="the ledger to hear of it")

    # What is around a task's body counts as well, which on a slow machine is tens of milliseconds
    # for the first task of a child. The estimate would be 6 s for each.
    assert used == pytest.approx(spent() - before, abs=4 * 75_000)
