"""Each example does what its page says, run as the page says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from celery_budget.embedded import OwnedProcess, RedisServer
from tests.servers import Broker, own_database
from tests.worker import ROOT

EXAMPLES = ROOT / "examples"


class Example:
    """One example's folder, its worker and what the worker printed."""

    def __init__(self, name: str, broker: Broker, state_url: str = "") -> None:
        self.folder = EXAMPLES / name
        urls = {"CELERY_BROKER_URL": broker.url, "CELERY_BUDGET_STATE_URL": state_url}
        self._environment = {**os.environ, **urls}
        self._workers: list[OwnedProcess] = []

    def run(self, *command: str) -> str:
        """Run a command in the example's folder and return what it printed."""
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(
        self, module: str, slots: int | None = None, *more: str, name: str = "", **environment: str
    ) -> None:
        """Start a worker of the example and return once it is ready.

        Args:
            module: With the app.
            slots: Of its pool; None: the app, or `more`, says how many.
            more: Further arguments.
            name: Of the worker; "": that of the module.
            environment: Further variables.
        """
        arguments = ["-A", module, "worker", "--loglevel", "INFO", *more]
        if slots is not None:
            arguments += ["--concurrency", str(slots)]
        worker = OwnedProcess(
            [sys.executable, "-m", "celery", *arguments, "-n", f"{name or module}@localhost"],
            env={**self._environment, **environment},
            cwd=self.folder,
        )
        self._workers.append(worker)
        worker.wait_until(lambda: " ready." in worker.log, 60, "line saying ready")

    def printed(self, pattern: str) -> list[str]:
        """List what its tasks printed so far, in order: the pattern's group of each match."""
        printed = rf"Worker-\d+\] {pattern}$"
        logs = [worker.log for worker in self._workers]
        return [found for log in logs for found in re.findall(printed, log, re.MULTILINE)]

    def wait_until_printed(self, pattern: str, count: int) -> list[str]:
        """Return what was printed once it is that much."""
        what = f"{count} lines of {pattern}"
        self._workers[0].wait_until(lambda: len(self.printed(pattern)) >= count, 30, what)
        return self.printed(pattern)

    def wait_until_logged(self, text: str) -> None:
        """Return once the first worker has logged that."""
        first = self._workers[0]
        first.wait_until(lambda: text in first.log, 30, text)

    def end(self) -> None:
        """End the workers at once."""
        for worker in self._workers:
            worker.kill()


@pytest.fixture
def example(
    request: pytest.FixtureRequest, broker: Broker, redis_server: RedisServer
) -> Iterator[Example]:
    """Set up the example that the test names, on an empty broker."""
    made = Example(request.param, broker, own_database(redis_server.url))
    yield made
    made.end()


@pytest.mark.parametrize("example", ["urgent_before_reports"], indirect=True)
def test_the_payment_passes_the_reports(example: Example) -> None:
    """This is what the first page promises to whoever tries it."""
    example.start("shop", slots=2)
    example.run("publish.py")
    printed = example.wait_until_printed(r"(charged|report) \d+", 6)

    # Publishing takes less than a second: at most two rounds of two reports are before it.
    assert "charged" in printed[:5]


@pytest.mark.parametrize("example", ["tenants_share_one_band"], indirect=True)
def test_the_small_customer_is_not_last(example: Example) -> None:
    """In the order of publishing its letters would be numbers 101 to 103."""
    example.start("letters", slots=2)
    example.run("publish.py")
    printed = example.wait_until_printed(r"sent (large|small) \d+", 103)

    assert printed.count("small") == 3
    # kombu hands on ten of those that are due in each turn of the loop, and a slow machine runs
    # some letters meanwhile.
    assert [place for place, tenant in enumerate(printed) if tenant == "small"][-1] < 50


@pytest.mark.parametrize("example", ["one_floods_the_band"], indirect=True)
def test_small_customers_do_not_wait_behind_an_import(example: Example) -> None:
    """In the order of publishing their letters would be the last of 2,003."""
    example.run("publish.py")
    example.start("mailing", slots=2)
    example.wait_until_printed(r"sent (baker|florist|tailor) 0", 3)
    printed = example.printed(r"sent (\w+) \d+")

    assert {"baker", "florist", "tailor"} <= set(printed)
    assert len(printed) < 200


@pytest.mark.parametrize("example", ["deadline_first"], indirect=True)
def test_alarms_ring_by_deadline(example: Example) -> None:
    """They were published in the opposite order; only the first may find the slot free."""
    example.start("alarms", slots=1)
    example.run("publish.py")
    first, *others = example.wait_until_printed(r"rang (.+)", 5)
    in_order = [*(f"within {minutes} min" for minutes in (10, 20, 30, 40)), "whenever"]

    assert others == [name for name in in_order if name != first]


@pytest.mark.parametrize("example", ["django_style_settings"], indirect=True)
def test_the_policy_is_found_by_its_setting(example: Example) -> None:
    """`install(app)` without a policy must see what the namespace of the settings says."""
    checked = json.loads(example.run("-m", "celery", "-A", "newsroom", "budget", "check", "--json"))
    example.start("newsroom", slots=1)
    example.run("publish.py")
    printed = example.wait_until_printed(r"(\w+: .+)", 2)

    assert [band["name"] for band in checked["bands"]] == ["breaking", "ordinary"]
    assert sorted(printed) == ["breaking: It works", "ordinary: week 47"]


@pytest.mark.parametrize("example", ["reports_give_way"], indirect=True)
def test_the_payment_does_not_wait_for_a_report(example: Example) -> None:
    """Both reports were begun before it, and both end after it, once."""
    example.start("shop", slots=2)
    example.run("publish.py")
    printed = example.wait_until_printed(r"(charged 7|report \d)", 3)

    assert "charged 7" == printed[0]
    assert ["report 0", "report 1"] == sorted(printed[1:])


@pytest.mark.parametrize("example", ["an_import_makes_room"], indirect=True)
def test_the_import_goes_on_after_the_payment(example: Example) -> None:
    """One slot, which it had when the payment came."""
    example.start("shop", slots=1)
    example.run("publish.py")
    printed = example.wait_until_printed(r"(charged 7|pages .+)", 2)

    assert ["charged 7", "pages 0 to 99, each once, in 2 runs"] == printed


@pytest.mark.skipif(sys.platform != "linux", reason="samples /proc")
@pytest.mark.parametrize("example", ["try_a_policy"], indirect=True)
def test_the_policy_is_tried_without_servers(example: Example) -> None:
    """The same figures as on the page, on any machine."""
    printed = example.run("try.py", "budget.toml", "patient.toml")

    assert 2 == len(printed.splitlines())
    assert printed in (EXAMPLES / "try_a_policy" / "README.md").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="samples /proc")
@pytest.mark.parametrize("example", ["ready_for_the_morning"], indirect=True)
def test_slots_are_free_when_the_morning_begins(example: Example) -> None:
    """The same figures as on the page, on any machine."""
    printed = example.run("try.py", "budget.toml", "late.toml")

    assert 10 == len(printed.splitlines())
    assert printed in (EXAMPLES / "ready_for_the_morning" / "README.md").read_text()


@pytest.mark.parametrize("example", ["stop_a_runaway"], indirect=True)
def test_the_large_picture_gives_up(example: Example) -> None:
    """Memory that a task may not have is given back while it runs, and the reason is told."""
    example.start("pictures", slots=2)
    example.run("publish.py")
    rendered = example.wait_until_printed(r"rendered (\d+) MB", 2)
    (told,) = example.wait_until_printed(r"gave up: memory (.+)", 1)

    assert sorted(rendered) == ["10", "20"]
    assert told.endswith('is above the 200MiB of ceilings."task:pictures.render".memory')


def test_every_example_is_tested_and_asks_a_question() -> None:
    """An example that nobody runs is out of date after the next change."""
    tested = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    folders = [path for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "policies"]

    for folder in folders:
        assert f'"{folder.name}"' in tested
        assert (folder / "README.md").read_text().splitlines()[0].endswith("?")


@pytest.mark.parametrize("example", ["a_map_moves_on"], indirect=True)
def test_the_map_is_drawn_where_there_is_memory(example: Example) -> None:
    """And the alarm rings where it was published, whatever the map does there."""
    example.start("atlas", slots=2, name="small", NODE_MEMORY="400MiB")
    example.run("publish.py")
    example.wait_until_printed(r"(alarm: fire)", 1)
    example.wait_until_logged("is evicted as its node is short of memory")
    assert [] == example.printed(r"(drew map 1).*")
    example.start("atlas", slots=2, name="large")

    assert ["drew map 1"] == example.wait_until_printed(r"(drew map 1).*", 1)


@pytest.mark.parametrize("example", ["come_back_later"], indirect=True)
def test_reports_are_refused_once_too_many_wait(example: Example) -> None:
    """And a payment is taken at once; what was taken is run."""
    *taken, refused = example.run("publish.py").splitlines()
    assert [f"report {number}" for number in range(1, len(taken) + 1)] == taken
    assert 20 <= len(taken) <= 40
    assert re.fullmatch(r"come back in \d+ s", refused)
    example.start("shop", slots=2)

    printed = example.wait_until_printed(r"(charged 7|wrote report \d+)", len(taken) + 1)
    assert "charged 7" in printed
    assert len(set(printed)) == len(taken) + 1


@pytest.mark.parametrize("example", ["smaller_previews"], indirect=True)
def test_previews_get_smaller_while_orders_wait(example: Example) -> None:
    """The first are full ones, as nobody had to wait yet."""
    example.start("shop", slots=2)
    example.run("publish.py")
    printed = example.wait_until_printed(r"(full|small) preview \d+", 40)

    assert "full" == printed[0]
    assert printed.count("small") > 20


@pytest.mark.parametrize("example", ["grow_with_the_load"], indirect=True)
def test_the_pool_grows_with_what_waits(example: Example) -> None:
    """Letters wait in the broker, where only our autoscaler looks."""
    example.start("mail", None, "--autoscale", "4,1")
    example.run("publish.py")

    example.wait_until_logged("Scaling up")
    assert len(example.wait_until_printed(r"sent (\d+)", 8)) >= 8


@pytest.mark.skipif(sys.platform != "linux", reason="samples /proc")
@pytest.mark.parametrize("example", ["prices_before_forecasts"], indirect=True)
def test_forecasts_stand_still_for_a_price(example: Example) -> None:
    """What the worker says that it froze; how long a price takes depends on the machine."""
    example.start("shop")
    example.run("publish.py")
    example.wait_until_printed(r"price (\d) took [\d.]+ s", 10)
    asked = ["-m", "celery", "-A", "shop", "inspect", "budget", "--json", "--timeout", "10"]
    (told,) = json.loads(example.run(*asked)).values()

    assert told["freezes"] > 0
