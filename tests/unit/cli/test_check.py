"""`budget check`: what it prints and how it exits."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery import Celery
from click.testing import CliRunner, Result
from rich.console import Console

from celery_budget import install
from celery_budget.cli.check import check, check_policy
from celery_budget.policy.load import schema

GOOD = """
default_band = "usual"
[bands.urgent]
preempts = true
latency_target = "250ms"
[bands.usual]
queues = ["celery"]
min_share = 0.05
[tasks."[p]ayments.*"]
band = "urgent"
tenant = "{customer_id}"
"""

BAD = """
[bands.urgent]
wieght = 2
[tasks.t]
band = "urgnt"
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Write a policy without mistakes."""
    file = tmp_path / "good.toml"
    file.write_text(GOOD, encoding="utf-8")
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """Write a policy with two mistakes."""
    file = tmp_path / "bad.toml"
    file.write_text(BAD, encoding="utf-8")
    return file


def run(*arguments: object, app: Celery | None = None) -> Result:
    """Run the command as Celery's command line does, with the app in the context."""
    context = None if app is None else SimpleNamespace(app=app)
    return CliRunner().invoke(check, [str(argument) for argument in arguments], obj=context)


def test_a_fine_policy_is_shown(good: Path) -> None:
    """The operator sees what the file means, patterns as they are, and exit status 0."""
    output = StringIO()

    status = check_policy(None, good, Console(file=output, width=100))

    assert 0 == status
    for expected in ("urgent", "by rank", "250ms", "usual (default)", "celery", "5.0%"):
        assert expected in output.getvalue()
    assert "[p]ayments.*" in output.getvalue()
    assert f"{good} is fine" in output.getvalue()


def test_mistakes_are_printed_one_a_line_and_exit_1(bad: Path) -> None:
    """CI stops on the status; people and grep read the lines, however narrow the terminal."""
    result = run(bad)

    assert [
        "bands.urgent.wieght: unknown key; did you mean weight?",
        'tasks.t.band: band "urgnt" is unknown; did you mean urgent?',
        f"2 mistakes in {bad}",
    ] == result.output.splitlines()
    assert 1 == result.exit_code


def test_a_mistake_stays_on_its_line_in_a_narrow_terminal(bad: Path) -> None:
    """A wrapped line cannot be found again by its path."""
    output = StringIO()
    check_policy(None, bad, Console(file=output, width=20))

    assert 3 == len(output.getvalue().splitlines())


def test_json_lists_the_mistakes(bad: Path) -> None:
    """Programs must not parse the text."""
    result = run(bad, "--json")

    found = json.loads(result.output)
    assert 1 == result.exit_code
    assert not found["fine"]
    assert {
        "path": "bands.urgent.wieght",
        "message": "unknown key",
        "suggestion": "did you mean weight?",
    } == found["problems"][0]


def test_json_tells_the_meaning(good: Path) -> None:
    """Durations are seconds there, and the key says so."""
    found = json.loads(run(good, "--json").output)

    assert found["fine"]
    assert ["urgent", "usual"] == [band["name"] for band in found["bands"]]
    assert 0.25 == found["bands"][0]["latency_target_s"]
    assert "[p]ayments.*" == found["tasks"][0]["pattern"]


def test_the_schema_is_printed_without_an_app() -> None:
    """An editor's set-up has neither app nor policy."""
    result = run("--schema")

    assert 0 == result.exit_code
    assert schema() == json.loads(result.output)


def test_the_apps_policy_is_checked_when_no_file_is_named(bad: Path) -> None:
    """What counts is what the app uses, given to `install` or set."""
    given, configured = Celery("given", set_as_current=False), Celery("set", set_as_current=False)
    install(given, policy=bad)
    configured.conf.budget_policy = str(bad)

    assert 1 == run(app=given).exit_code
    assert 1 == run(app=configured).exit_code


def test_a_file_goes_before_the_apps_policy(good: Path, bad: Path) -> None:
    """The next version of a policy is checked before it is deployed."""
    app = Celery("given", set_as_current=False)
    install(app, policy=bad)

    assert 0 == run(good, app=app).exit_code
    assert 0 == check_policy(bad, good, Console(file=StringIO()))


def test_an_app_without_a_policy_is_fine() -> None:
    """An empty policy is a legal one, and the output says what it does."""
    result = run(app=Celery("plain", set_as_current=False))

    assert 0 == result.exit_code
    assert "declares no bands" in result.output


@pytest.mark.parametrize("arguments", [["missing.toml"], ["--wrong"], []])
def test_misuse_exits_2(arguments: list[str]) -> None:
    """A wrong call must not look like a wrong policy."""
    assert 2 == run(*arguments).exit_code
