"""The command groups: light to import, and documented."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from celery_budget.cli.main import budget, main

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")


def _commands(group: click.Group) -> dict[str, click.Command]:
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def test_celery_loads_our_group_without_what_only_commands_need() -> None:
    """Celery imports the group in every worker: rich alone would cost it 2 MB."""
    heavy = ("rich", "redis", "matplotlib")
    code = f"import sys, celery_budget.cli.main; print([m for m in {heavy} if m in sys.modules])"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    assert "[]\n" == loaded


@pytest.mark.parametrize(
    ("group", "prefix"), [(budget, "celery -A APP budget"), (main, "celery-budget")]
)
def test_every_command_and_option_is_on_the_page(group: click.Group, prefix: str) -> None:
    """Who looks a command up must find it."""
    commands = _commands(group)
    missing = [name for name in commands if f"## `{prefix} {name}" not in PAGE]
    options = {
        option
        for name, command in commands.items()
        if name not in ("demo", "promote", "demote")
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option.startswith("--")
    }

    assert [] == missing
    assert [] == [option for option in sorted(options) if f"`{option}" not in PAGE]


@pytest.mark.parametrize("group", [budget, main])
def test_a_command_that_does_not_exist_is_misuse(group: click.Group) -> None:
    """A script with a slip must not go on."""
    assert 2 == CliRunner().invoke(group, ["chekc"]).exit_code


@pytest.mark.parametrize("group", [budget, main])
def test_help_lists_every_command_with_what_it_does(group: click.Group) -> None:
    """The help is where people start."""
    listed = CliRunner().invoke(group, ["--help"])

    assert 0 == listed.exit_code
    for name, command in _commands(group).items():
        assert f"  {name} " in listed.output
        assert command.get_short_help_str(20)[:10] in listed.output
