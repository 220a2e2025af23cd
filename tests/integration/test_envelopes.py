"""Workflows that draw on one envelope, on real workers: prefork children, a broker, a ledger."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery_budget.client import Client
from celery_budget.embedded import RedisServer
from celery_budget.errors import BudgetRefused
from tests.budgets import MILLION, Budgets, Make
from tests.conftest import WaitFor
from tests.integration.test_examples import Example
from tests.servers import Broker

#: Redis databases of the workers that tests share: messages, results and the ledger.
_SHARED = (40, 44, 48)

#: Little is set aside, so that refusals are for what was spent.
POLICY = {"tasks": {"*": {"cost": {"usd": "0.01"}}}, "envelopes": {"resources": ["usd"]}}


@pytest.fixture(scope="module")
def fleet(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Budgets]:
    """Start two workers of two slots, which know of envelopes alone, for several tests."""
    directory = tmp_path_factory.mktemp("envelopes")
    made = Budgets(redis_server, directory, POLICY, databases=_SHARED)
    made.start(2)
    yield made
    made.close()


def refused(budgets: Budgets, task_id: str) -> str:
    """Name the account for which a task was refused; "" while it has no such result."""
    meta = budgets.meta(task_id)
    if meta is None or meta["status"] != "FAILURE":
        return ""
    assert meta["result"]["exc_type"] == BudgetRefused.__name__
    account, place = meta["result"]["exc_message"]
    assert place == "envelopes.on_exhausted"
    return str(account)


def spent(budgets: Budgets, account: str) -> int:
    """Tell what the ledger knows to be spent of an account."""
    found = budgets.accounts().get(account)
    return 0 if found is None else found.spent


# --- what draws on it ---


@pytest.mark.parametrize("how", ["with", "option", "set", "mapping"])
def test_a_chain_ends_where_its_envelope_is_used_up(
    fleet: Budgets, wait_for: WaitFor, key: str, how: str
) -> None:
    """What one part spends is missing for the next ones, and nobody waits for those for ever."""
    ways = {
        "with": "with app.budget.envelope(usd=1): last = workflow.delay()",
        "option": "last = workflow.apply_async(envelope=app.budget.envelope(usd=1))",
        "set": "last = workflow.set(envelope=app.budget.envelope(usd=1)).delay()",
        "mapping": "last = workflow.apply_async(envelope={'usd': 1})",
    }
    last = fleet.execute(
        "from celery import chain\n"
        "workflow = chain(*(app.pay.si(arguments[0], '0.40', n, 0.1) for n in range(8)))\n"
        f"{ways[how]}\nprint(last.id)",
        key,
    )
    wait_for(lambda: refused(fleet, last) != "", what="the last part's outcome")
    account = refused(fleet, last)
    paid = [entry["number"] for entry in fleet.journal.entries("paid", key=key)]
    wait_for(lambda: spent(fleet, account) == 400_000 * len(paid), what="the ledger to know all")

    assert account.startswith("envelope:")
    assert account.endswith(" usd")
    # A part may begin before the ledger has heard of the one that overdrew.
    assert 3 <= len(paid) <= 4


@pytest.mark.parametrize("envelope", ["{'usd': 1}", "app.budget.envelope(usd=1)"])
def test_the_parts_of_a_group_share_one_envelope(
    fleet: Budgets, wait_for: WaitFor, key: str, envelope: str
) -> None:
    """Celery copies the option to each part; a dollar for each would be no limit."""
    code = (
        "from celery import chain, group\n"
        "parts = [chain(app.pay.si(arguments[0], '0.30', n), app.note.si('')) for n in range(6)]\n"
        "parts += [app.pay.si(arguments[0], '0.30', n) for n in range(6, 12)]\n"
        f"print(','.join(r.id for r in group(parts).apply_async(envelope={envelope}).results))"
    )
    ids = fleet.execute(code, key).split(",")
    wait_for(lambda: all(fleet.meta(each) is not None for each in ids), what="all outcomes")
    accounts = {refused(fleet, each) for each in ids} - {""}
    paid = fleet.journal.count("paid", key=key)
    (account,) = accounts
    wait_for(lambda: spent(fleet, account) == paid * 300_000, what="the ledger to know all")

    # Four pass the limit; two workers of two slots had begun four more at most.
    assert 4 <= paid <= 8


def test_a_chords_body_is_not_run_when_a_part_was_refused(
    fleet: Budgets, wait_for: WaitFor, key: str
) -> None:
    """It would reckon with results that there are not, or wait for them for ever."""
    body = fleet.execute(
        "from celery import chord\n"
        "parts = [app.pay.si(arguments[0], '0.60', n, 0.2) for n in range(9)]\n"
        "workflow = chord(parts, app.total.s(key=arguments[0]))\n"
        "print(workflow.apply_async(envelope={'usd': 1}).id)",
        key,
    )
    wait_for(lambda: fleet.meta(body) is not None, what="the body's outcome")
    outcome = fleet.meta(body)

    assert outcome is not None
    assert ("FAILURE", "ChordError") == (outcome["status"], outcome["result"]["exc_type"])
    assert "BudgetRefused" in str(outcome["result"])
    assert 0 == fleet.journal.count("total", key=key)


@pytest.mark.parametrize("envelope", ["{'starts': 3}", "app.budget.envelope(starts=3)"])
def test_a_chords_body_draws_on_the_envelope_of_its_header(
    fleet: Budgets, wait_for: WaitFor, key: str, envelope: str
) -> None:
    """A worker publishes it, from options that were copied before any part ran."""
    body = fleet.execute(
        "from celery import chord\n"
        "parts = [app.note.si(arguments[0], n) for n in range(2)]\n"
        "after = app.total.s(key=arguments[0]) | app.note.si(arguments[0], 9)\n"
        f"print(chord(parts, after).apply_async(envelope={envelope}).id)",
        key,
    )
    wait_for(lambda: refused(fleet, body) != "", what="the refusal of what comes after the body")

    assert 1 == fleet.journal.count("total", key=key)
    assert [0, 1] == sorted(e["number"] for e in fleet.journal.entries("ran", key=key))
    assert 3 * MILLION == spent(fleet, refused(fleet, body))


def test_retries_draw_on_the_envelope_of_the_first_try(
    fleet: Budgets, wait_for: WaitFor, key: str
) -> None:
    """A task that fails for ever would spend for ever; and its refusal is the last that is stored.

    Celery publishes a retry before it stores that the task is retried.
    """
    task_id = fleet.execute(
        "print(app.insist.apply_async((arguments[0], '1', 0.2), envelope={'usd': 1}).id)", key
    )

    def stored() -> int:
        return sum(worker.log.count(f"[{task_id}] retry:") for worker in fleet.workers)

    wait_for(
        lambda: 0 < fleet.journal.count("paid", key=key) == stored(), what="the end of all tries"
    )
    wait_for(lambda: refused(fleet, task_id) != "", 20, what="a refusal")

    # What one try charges is known when it ends; two workers have two slots each.
    assert 1 <= fleet.journal.count("paid", key=key) <= 5


def test_an_envelope_inside_of_another_draws_on_both(
    fleet: Budgets, wait_for: WaitFor, key: str
) -> None:
    """A part may be given less than the whole workflow, and never more."""
    code = (
        "from celery import chain\n"
        "step = lambda own: app.delegate.si(arguments[0], '0.30', 9, {'usd': own})\n"
        "with app.budget.envelope(usd='1') as outer: step('0.50').delay()\n"
        "print(outer)"
    )
    outer = fleet.execute(code, key)
    wait_for(lambda: fleet.journal.count("opened", key=key) == 1, what="the inner envelope")
    opened = fleet.journal.entries("opened", key=key)[0]
    inner = opened["envelope"]
    wait_for(lambda: refused(fleet, opened["last"]) != "", what="a refusal")
    paid = fleet.journal.count("paid", key=key)
    accounts = [f"envelope:{each} usd" for each in (inner, outer)]
    wait_for(
        lambda: [300_000 * paid] * 2 == [spent(fleet, each) for each in accounts],
        what="the ledger to know all",
    )

    assert inner != outer
    # Two use it up. But a part may come before its worker has heard that the one before has ended,
    # so that each of the four slots may run one.
    assert 2 <= paid <= 4


def test_an_error_callback_hears_of_a_refusal(fleet: Budgets, wait_for: WaitFor, key: str) -> None:
    """It is called where there is nothing left to draw on, and must run all the same."""
    fleet.execute(
        "from celery import chain\n"
        "workflow = chain(*(app.pay.si(arguments[0], '1', n, 0.1) for n in range(4)))\n"
        "workflow.on_error(app.told.s(key=arguments[0]))\n"
        "with app.budget.envelope(usd=1): workflow.delay()",
        key,
    )
    wait_for(lambda: fleet.journal.count("told", key=key) == 1, what="the callback")

    assert fleet.journal.count("paid", key=key) in {1, 2}


def test_a_chord_that_celery_unlocks_ends_too(
    make: Make, wait_for: WaitFor, tmp_path: Path
) -> None:
    """With most result backends a task of Celery's own publishes the body, and must be let to."""
    results = tmp_path / "results"
    results.mkdir()
    budgets = make(POLICY, result_backend=f"file://{results}")
    budgets.start()
    code = (
        "from celery import chord\n"
        "with app.budget.envelope(starts=2):\n"
        "    parts = [app.note.s('all', n) for n in range(2)]\n"
        "    print(chord(parts, app.total.s(key='all')).delay().id)"
    )
    body = results / f"celery-task-meta-{budgets.execute(code)}"
    wait_for(body.exists, what="the body's outcome")

    assert BudgetRefused.__name__ in body.read_text()
    assert 2 == budgets.journal.count("ran", key="all")
    assert 0 == budgets.journal.count("total", key="all")


# --- how it is kept ---


def test_what_others_have_not_spent_is_waited_for(
    fleet: Budgets, wait_for: WaitFor, key: str
) -> None:
    """A part is refused for what was spent, not for what was set aside and comes back."""
    ids = fleet.execute(
        "with app.budget.envelope(usd=1):\n"
        "    ids = [app.pay.apply_async((arguments[0], '0.10', n, 0.3), cost={'usd': '0.60'}).id\n"
        "           for n in range(4)]\n"
        "print(','.join(ids))",
        key,
    ).split(",")
    wait_for(lambda: all(fleet.meta(each) is not None for each in ids), what="all outcomes")

    assert ["SUCCESS"] * 4 == [fleet.meta(each)["status"] for each in ids]  # type: ignore[index]


def test_nothing_starts_after_the_deadline(fleet: Budgets, wait_for: WaitFor, key: str) -> None:
    """What comes too late for its reader is not worth a slot."""
    gate = fleet.directory / f"gate-{key}"
    deadline = time.time() + 3
    last = fleet.execute(
        "from celery import chain\n"
        "from datetime import UTC, datetime\n"
        "key, gate, deadline = arguments\n"
        "moment = datetime.fromtimestamp(float(deadline), UTC)\n"
        "steps = [app.wait.si(key, gate), app.note.si(key, 1)]\n"
        "with app.budget.envelope(deadline=moment): print(chain(*steps).delay().id)",
        key,
        str(gate),
        str(deadline),
    )
    wait_for(lambda: fleet.journal.count("started", key=key) == 1, what="the first part")
    wait_for(lambda: time.time() > deadline, what="the deadline")
    gate.touch()
    wait_for(lambda: refused(fleet, last) != "", what="a refusal")

    assert refused(fleet, last).endswith(" deadline")
    assert 0 == fleet.journal.count("ran", key=key)


def test_an_account_is_kept_no_longer_than_its_envelope(
    fleet: Budgets, wait_for: WaitFor, key: str
) -> None:
    """There is one for each workflow, and Redis has no room for those of last month."""
    import redis

    envelope = fleet.execute(
        "with app.budget.envelope(usd=1, deadline='1h') as envelope:\n"
        "    app.pay.delay(arguments[0], '0.10')\n"
        "print(envelope)",
        key,
    )
    account = f"envelope:{envelope} usd"
    wait_for(lambda: spent(fleet, account) == 100_000, what="the ledger to know all")
    with redis.Redis.from_url(fleet.url) as client:
        left_s = client.pttl(f"{{celery-budget:default}}:account:{account}") / 1_000

    assert 86_400 < left_s <= 3_600 + 86_400 + 2


# --- what the policy says ---


def test_a_held_part_names_the_envelope_and_runs_no_more(make: Make, wait_for: WaitFor) -> None:
    """Whoever wants to look first at what has spent so much says hold."""
    budgets = make({"envelopes": {"resources": ["usd"], "on_exhausted": "hold"}})
    budgets.start()
    sender = budgets.sender()
    with sender.budget.envelope(usd=1) as envelope:
        sender.pay.delay("all", "1.00", 0)
        wait_for(lambda: spent(budgets, f"envelope:{envelope} usd") == MILLION, what="a payment")
        held = sender.pay.delay("all", "1.00", 1).id

    def status() -> dict[str, Any]:
        return budgets.inspect(sender, "budget_status", task_id=held)

    wait_for(lambda: status()["state"] == "held", what="the held part")
    wait_for(lambda: status().get("account") == f"envelope:{envelope} usd", what="its reason")
    Client(sender.app).cancel(held)
    wait_for(lambda: (budgets.meta(held) or {}).get("status") == "REVOKED", what="its end")

    assert 1 == budgets.journal.count("paid", key="all")


def test_a_degraded_part_sees_it_and_goes_on(make: Make, wait_for: WaitFor) -> None:
    """By what was spent, not by what is set aside for others."""
    steps = [{"at": "50%", "do": "degrade"}, {"do": "shed"}]
    budgets = make({**POLICY, "envelopes": {"resources": ["usd"], "on_exhausted": steps}})
    budgets.start(slots=1)
    budgets.execute(
        "from celery import chain\n"
        "steps = [app.pay.si('all', '0.30', n, 0.2) for n in range(9)]\n"
        "with app.budget.envelope(usd=1): chain(*steps).delay()"
    )
    wait_for(lambda: budgets.journal.count("paid", key="all") == 4, what="four payments")
    seen = [entry["degraded"] for entry in budgets.journal.entries("paid", key="all")]

    assert [False, False, True, True] == seen


def test_a_worker_that_keeps_no_accounts_says_so(make: Make, wait_for: WaitFor) -> None:
    """Half a fleet with the old policy would spend without limit, and nobody would know."""
    budgets = make(POLICY)
    sender = budgets.sender()
    budgets._asked["policy"] = {"bands": {"only": {"queues": ["celery"]}}}
    (worker,) = budgets.start()
    with sender.budget.envelope(starts=1):
        for number in range(3):
            sender.note.delay("all", number)
    wait_for(lambda: budgets.journal.count("ran", key="all") == 3, what="all tasks")

    assert 1 == worker.log.count("runs without its envelope")


def test_workers_share_an_envelope_over_rabbitmq(
    make: Make, rabbitmq_broker: Broker, wait_for: WaitFor
) -> None:
    """The ledger is on Redis, whatever carries the messages."""
    budgets = make(POLICY, rabbitmq_broker)
    budgets.start(2)
    sender = budgets.sender()
    with sender.budget.envelope(starts=10) as envelope:
        ids = [sender.note.delay("all", number).id for number in range(30)]
    wait_for(lambda: all(budgets.meta(each) is not None for each in ids), what="all outcomes")
    account = f"envelope:{envelope} starts"

    assert 10 == budgets.journal.count("ran", key="all")
    assert 20 == sum(refused(budgets, each) == account for each in ids)


def test_the_example_stops_at_its_dollar(
    redis_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the workflow without an envelope goes on."""
    monkeypatch.delenv("BUDGET_LEDGER_URL", raising=False)
    example = Example("one_budget_for_a_workflow", redis_broker)
    try:
        example.start("research", slots=2)
        example.run("publish.py")
        example.wait_until_printed(r"asked about ants (9)", 1)
        about_whales = example.printed(r"asked about whales (\d+)")
    finally:
        example.end()

    assert ["0", "1", "2"] == about_whales
