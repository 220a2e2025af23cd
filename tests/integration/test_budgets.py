"""Budgets on real workers: prefork children, a broker, and a ledger on Redis."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from celery_budget.cli.status import status as status_command
from celery_budget.cli.top import top
from celery_budget.embedded import RedisServer
from tests.budgets import MILLION, SINGLE, Make, most_at_once, most_within, publish
from tests.conftest import WaitFor
from tests.integration.test_examples import Example
from tests.servers import Broker, empty, own_database

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


#: Bodies that a busy machine may run later than they were started, and so closer to the next ones.
LATE = 3


# --- what several workers share ---


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_three_workers_share_starts_to_the_full_and_not_beyond(
    make: Make, kind: str, request: pytest.FixtureRequest, wait_for: WaitFor
) -> None:
    """Celery's rate_limit counts for each worker by itself."""
    broker = request.getfixturevalue("rabbitmq_broker") if kind == "rabbitmq" else None
    budgets = make({"budgets": {"task:*.note": {"starts": "50/1s"}}}, broker)
    budgets.start(3)
    publish(budgets.sender().note, [("all", number) for number in range(500)])
    wait_for(
        lambda: (t := budgets.times("ran", "all")) != [] and t[-1] > t[0] + 8,
        what="eight seconds of starts",
    )
    times = budgets.times("ran", "all")
    # The first second is for three workers to hear of one another.
    count = sum(times[0] + 1 < at < times[0] + 8 for at in times)

    # 50 a second, 5 saved up; the start of what runs in a slot may have been decided earlier.
    in_flight = 3 * 2
    assert most_within(times, 1.0) <= 50 + 5 + in_flight + LATE
    # The share that is used to the full is a benchmark's matter: here other tests run beside it.
    assert 0.5 * 7 * 50 <= count <= 7 * 50 + 5 + in_flight + LATE
    assert len({entry["worker"] for entry in budgets.journal.entries("ran")}) == 3


def test_slots_hold_for_the_fleet_and_those_of_a_killed_worker_come_back(
    make: Make, wait_for: WaitFor
) -> None:
    """A worker that was killed gives nothing back by itself."""
    budgets = make({"budgets": {"task:*.pause": {"slots": 3}}})
    workers = budgets.start(3)
    publish(budgets.sender().pause, [("all", 0.2, number) for number in range(300)])
    victim = workers[0]

    def running_on_victim() -> int:
        mine = {"key": "all", "worker": victim.pid}
        return budgets.journal.count("started", **mine) - budgets.journal.count("ended", **mine)

    wait_for(
        lambda: budgets.journal.count("ended", key="all") > 6 and running_on_victim() > 0,
        what="the victim to hold a slot",
    )
    victim.kill()
    killed = time.time()

    def spans() -> list[tuple[float, float]]:
        ended = {entry["number"]: entry["at"] for entry in budgets.journal.entries("ended")}
        lost = {True: killed, False: time.time()}
        return [
            (entry["at"], ended.get(entry["number"], lost[entry["worker"] == victim.pid]))
            for entry in budgets.journal.entries("started")
        ]

    def since_killed() -> list[tuple[float, float]]:
        return [span for span in spans() if span[0] > killed]

    wait_for(lambda: most_at_once(since_killed()) >= 3, 20, what="three at once without the victim")

    # Not before the end of its lease: until then it could have been merely cut off.
    assert max(begin for begin, _ in since_killed()) - killed > 3.0
    assert most_at_once(spans()) <= 3


def test_what_is_known_only_afterwards_stops_spending_and_stays_as_debt(
    make: Make, wait_for: WaitFor
) -> None:
    """An overrun that nobody remembers would be spent again in the next window."""
    budgets = make(
        {
            "tasks": {"*.pay": {"cost": {"usd": "0.01"}}},
            "budgets": {"fleet": {"usd": {"limit": "1.00/month", "time_zone": "Europe/Berlin"}}},
        }
    )
    budgets.start(2)
    publish(budgets.sender().pay, [("all", "0.30", number, 0.1) for number in range(40)])
    wait_for(lambda: budgets.accounts()["fleet usd"].balance <= 0, what="an empty account")
    wait_for(lambda: not budgets.accounts()["fleet usd"].leased, what="the end of what ran")
    account = budgets.accounts()["fleet usd"]
    paid = budgets.journal.count("paid", key="all")

    # Four tasks pass the limit, and two workers of two slots had begun four more at most.
    assert 4 <= paid <= 8
    assert paid * 300_000 == account.spent
    assert MILLION - account.spent == account.balance
    assert account.balance < 0


def test_tenants_get_slot_time_by_their_weights(make: Make, wait_for: WaitFor) -> None:
    """Who pays for three shares has three."""
    budgets = make(
        {
            "tenants": {"vip-*": {"weight": 3}},
            "budgets": {"tenant:*": {"slots": 2}},
        }
    )
    budgets.start()
    pause = budgets.sender().pause
    # Due at one moment, so that the worker has all of them at hand: kombu hands on ten in each turn
    # of the loop, which takes a slow machine the time of some tasks. They do not count.
    due = datetime.now(UTC) + timedelta(seconds=6)
    for tenant in ("vip-one", "other"):
        publish(pause, [("all", 0.03, n) for n in range(160)], tenant=tenant, eta=due)
    wait_for(lambda: budgets.journal.count("started", key="all") >= 140, what="half of them")

    tenants = [entry["tenant"] for entry in budgets.journal.entries("started", key="all")][60:140]
    assert tenants.count("vip-one") == pytest.approx(60, abs=10)


def test_what_a_killed_child_had_charged_is_spent(make: Make, wait_for: WaitFor) -> None:
    """The money is gone; of the rest nothing is known."""
    budgets = make({"budgets": {"fleet": {"usd": "100/1d"}}})
    budgets.start()
    budgets.sender().pay_and_die.delay("0.70")
    wait_for(
        lambda: (account := budgets.accounts().get("fleet usd")) is not None and account.spent > 0,
        what="the ledger to hear of it",
    )

    assert 700_000 == budgets.accounts()["fleet usd"].spent


# --- every pool ---


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "eventlet", "solo"])
def test_every_pool_keeps_its_budgets(make: Make, wait_for: WaitFor, pool: str) -> None:
    """Slots, loops and meters differ from pool to pool; a budget must not."""
    budgets = make({"budgets": {"fleet": {"starts": "10/1s", "usd": "100/1d"}}})
    budgets.start(pool=pool)
    publish(budgets.sender().pay, [("all", "0.10", number) for number in range(30)])
    wait_for(lambda: budgets.journal.count("paid", key="all") == 30, what="all tasks")
    wait_for(lambda: budgets.accounts()["fleet usd"].spent == 3 * MILLION, what="the charges")
    times = budgets.times("paid", "all")

    assert most_within(times, 1.0) <= 10 + 1 + 2 + LATE
    # 29 more starts at ten a second, of which one was saved up and two are in flight.
    assert 2.5 <= times[-1] - times[0]


# --- without a ledger ---


class Frozen:
    """A server of its own for the ledger, which can be stopped and goes on where it was."""

    def __init__(self, server: RedisServer) -> None:
        self._pid = int(_info(server.url)["process_id"])
        self.url = server.url

    def stop(self) -> None:
        """Answer nothing more."""
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer what has been asked meanwhile, and all that comes."""
        os.kill(self._pid, signal.SIGCONT)


def _info(url: str) -> dict[str, Any]:
    with redis.Redis.from_url(url) as client:
        return client.info("server")


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Frozen]:
    """Start a server that a test may stop."""
    monkeypatch.delenv("CELERY_BUDGET_REDIS_URL", raising=False)
    with RedisServer() as server:
        made = Frozen(server)
        yield made
        with suppress(ProcessLookupError):
            made.go_on()


def test_without_its_ledger_each_band_does_as_it_says_and_all_is_told_later(
    make: Make, frozen: Frozen, wait_for: WaitFor
) -> None:
    """Open bands go on, closed ones wait, local ones keep to their share; nothing is lost."""
    bands = {band: {"on_ledger_loss": band} for band in ("open", "local", "closed")}
    limits = {"starts": "10/1s", "usd": "10000/1d"}
    budgets = make(
        {
            "default_band": "open",
            "bands": bands,
            "budgets": {f"band:{band}": limits for band in bands},
        },
        budget_ledger_url=frozen.url,
    )
    (worker,) = budgets.start(slots=3)
    pay = budgets.sender().pay

    def count(band: str) -> int:
        return budgets.journal.count("paid", key=band)

    def dollars(band: str) -> float:
        return budgets.accounts(frozen.url)[f"band:{band} usd"].spent / MILLION

    for band in bands:
        publish(pay, [(band, "1", number) for number in range(300)], band=band)
    wait_for(lambda: all(count(band) for band in bands), what="each band")
    frozen.stop()
    # The open band comes to the end of its backlog only because nobody counts.
    wait_for(lambda: count("open") == 300, 30, what="the open band")
    lost, closed, local = budgets.times("paid", "open")[-1], count("closed"), count("local")
    wait_for(lambda: count("local") >= local + 20, 20, what="the local band to go on")
    went_on = [at for at in budgets.times("paid", "local") if at > lost]
    still, meanwhile = count("closed"), count("local")
    frozen.go_on()
    wait_for(lambda: count("closed") > closed, 20, what="its return")
    wait_for(
        lambda: (dollars("open"), dollars("local") >= meanwhile) == (300, True),
        20,
        what="the ledger to know all",
    )

    assert closed == still
    assert most_within(went_on, 1.0) <= 10 + 1 + 3 + LATE
    assert dollars("local") <= count("local")
    assert 1 == worker.log.count("the ledger is unavailable")


def test_memory_keeps_budgets_of_one_worker_by_itself(
    make: Make, rabbitmq_broker: Broker, wait_for: WaitFor
) -> None:
    """Without Redis, one worker can have budgets all the same."""
    budgets = make(
        {"budgets": {"fleet": {"starts": "10/1s"}}}, rabbitmq_broker, budget_ledger_url="memory://"
    )
    budgets.start()
    publish(budgets.sender().note, [("all", number) for number in range(30)])
    wait_for(lambda: budgets.journal.count("ran", key="all") == 30, what="all tasks")

    assert most_within(budgets.times("ran", "all"), 1.0) <= 10 + 1 + 2 + LATE
    assert {} == budgets.accounts()


def test_a_worker_without_a_ledger_says_what_to_set(make: Make, rabbitmq_broker: Broker) -> None:
    """It must not start and let everybody spend what they like."""
    budgets = make(
        {"budgets": {"fleet": {"starts": "10/1s"}}}, rabbitmq_broker, budget_ledger_url=None
    )
    worker = budgets.spawn()

    assert worker.wait() != 0
    assert "need a ledger, and the broker is not Redis: set budget_ledger_url" in worker.log


# --- shutting down, and being off ---


def test_a_warm_shutdown_gives_back_what_waits_for_a_budget(make: Make, wait_for: WaitFor) -> None:
    """The worker would wait for them for ever, and nobody else could run them."""
    budgets = make({"budgets": {"fleet": {"usd": "1/1d"}}})
    (worker,) = budgets.start()
    sender = budgets.sender()
    publish(sender.pay, [("first", "1")])
    wait_for(
        lambda: "fleet usd" in (found := budgets.accounts()) and found["fleet usd"].balance <= 0,
        what="an empty account",
    )
    publish(sender.pay, [("rest", "1", number) for number in range(5)])
    wait_for(lambda: len(budgets.inspect(sender, "budget")["held"]) == 5, what="five held tickets")
    status = worker.stop()

    assert 0 == status
    assert "5 unstarted tasks given back to the broker" in worker.log
    assert 5 == budgets.length("celery")


@linux
def test_an_empty_policy_starts_no_thread_and_no_connection(make: Make, wait_for: WaitFor) -> None:
    """Who installs us and says nothing must not notice it."""

    def footprint(*, is_installed: bool) -> tuple[int, int]:
        budgets = make({})
        budgets._asked["install"] = is_installed
        (worker,) = budgets.start()
        publish(budgets.sender().note, [(str(is_installed), 1)])
        wait_for(lambda: budgets.journal.count("ran", key=str(is_installed)) == 1, what="a task")
        threads = len(list(Path(f"/proc/{worker.pid}/task").iterdir()))
        sockets = [
            link
            for link in Path(f"/proc/{worker.pid}/fd").iterdir()
            if str(link.readlink()).startswith("socket:")
        ]
        worker.kill()
        return threads, len(sockets)

    assert footprint(is_installed=False) == footprint(is_installed=True)


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_two_teams_share_one_limit(
    kind: str,
    request: pytest.FixtureRequest,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the example's page says, with one worker."""
    broker = request.getfixturevalue(f"{kind}_broker")
    monkeypatch.setenv("BUDGET_LEDGER_URL", empty(own_database(redis_server.url, SINGLE[2])))
    example = Example("two_teams_one_limit", broker)
    try:
        example.start("service", slots=2)
        example.run("publish.py")
        lines = example.wait_until_printed(r"asked (\w+ \d+ at [\d.]+)", 25)
    finally:
        example.end()
    words = [line.split() for line in lines]

    assert most_within(sorted(float(at) for *_, at in words), 1.0) <= 5 + 1 + 2 + LATE
    assert max(place for place, (team, *_) in enumerate(words) if team == "blue") < 16


def test_status_and_top_show_who_has_it_and_who_waits(
    make: Make, wait_for: WaitFor, tmp_path: Path
) -> None:
    """At night the first question is what is left, and the second who has the rest."""
    budgets = make({"budgets": {"fleet": {"slots": 1}}})
    budgets.start()
    sender = budgets.sender()
    gate = tmp_path / "gate"
    publish(sender.wait, [("all", str(gate), number) for number in range(2)])
    operator = SimpleNamespace(app=sender.app, no_color=True)

    def status() -> dict[str, Any]:
        shown = CliRunner().invoke(status_command, ["--json", "-t", "0.3"], obj=operator)
        (account,) = json.loads(shown.output)["accounts"] or [{"waiting": {}}]
        return account

    wait_for(lambda: status()["waiting"] != {}, what="the second to wait")
    account = status()
    live = CliRunner(env={"COLUMNS": "160"}).invoke(top, ["--count", "1"], obj=operator)
    gate.touch()

    assert ("fleet slots", MILLION, MILLION, 0) == (
        account["name"],
        account["used"],
        account["leased"],
        account["free"],
    )
    assert [MILLION] == list(account["holders"].values())
    assert 0 == live.exit_code
    assert "fleet slots" in live.output
