"""The two command groups and where their commands live.

Celery imports this module for each of its commands, workers included, so it loads no command
before that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import click

from celery_budget.worker import control as _commands  # noqa: F401 - for `celery inspect budget`


class LazyGroup(click.Group):
    """A group that imports a command when it is used.

    Args:
        lazy: Name of each command to "module:attribute".
    """

    def __init__(self, *args: object, lazy: Mapping[str, str], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the commands, in the order of use."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load a command; None for a name that is none."""
        place = self._lazy.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(
    cls=LazyGroup,
    lazy={
        "check": "celery_budget.cli.check:check",
        "status": "celery_budget.cli.status:status",
        "top": "celery_budget.cli.top:top",
        "catalogue": "celery_budget.cli.catalogue:catalogue",
        "forecast": "celery_budget.cli.forecast:forecast",
        "move": "celery_budget.cli.task:move",
        "promote": "celery_budget.cli.task:promote",
        "demote": "celery_budget.cli.task:demote",
        "cancel": "celery_budget.cli.task:cancel",
        "pause": "celery_budget.cli.live:pause",
        "resume": "celery_budget.cli.live:resume",
        "policy": "celery_budget.cli.live:policy",
    },
)
def budget(**_preload_options: object) -> None:
    """Bands and budgets: check the policy, watch both, move and cancel tasks.

    Exit status: 0 fine, 1 found something wrong, 2 misuse.
    """


@click.group(
    cls=LazyGroup,
    lazy={
        "demo": "celery_budget.cli.demo.command:demo",
        "check": "celery_budget.cli.check:check",
    },
)
def main() -> None:
    """Priority bands for Celery, without an app: the demo, and checking a policy file.

    With an app: celery -A APP budget --help.
    """
