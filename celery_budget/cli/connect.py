"""From the command line to a client, and from errors to exit statuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from celery.exceptions import ImproperlyConfigured
from kombu.exceptions import OperationalError

from celery_budget.client import Client
from celery_budget.errors import BudgetError, NotInstalled, OptionError

#: Exit status of a command that found something wrong.
WRONG = 1

timeout_option = click.option(
    "--timeout",
    "-t",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Seconds to wait for the workers' answers.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def told(ctx: click.Context) -> Iterator[None]:
    """Let what is raised inside end the command with a text and a status.

    Args:
        ctx: Of a command below `celery -A app budget`.
    """
    app = ctx.obj.app
    try:
        yield
    except (NotInstalled, OptionError, ImproperlyConfigured) as error:
        raise click.UsageError(str(error), ctx) from error
    except BudgetError as error:
        raise click.ClickException(str(error)) from error
    except OperationalError as error:
        raise click.ClickException(
            f"the broker {app.connection_for_write().as_uri()} cannot be reached: {error}"
        ) from error


@contextmanager
def opened(ctx: click.Context, timeout: float) -> Iterator[Client]:
    """Give a client of the app, within `told`.

    Args:
        ctx: Of a command below `celery -A app budget`.
        timeout: Seconds to wait for the workers' answers.
    """
    with told(ctx):
        yield Client(ctx.obj.app, timeout=timeout)


@contextmanager
def connected(ctx: click.Context, timeout: float) -> Iterator[Client]:
    """Give a client as `opened` does, once the broker was reached."""
    with opened(ctx, timeout) as client:
        reach_broker(ctx)
        yield client


def reach_broker(ctx: click.Context) -> None:
    """Try once; the first broadcast would try again and again.

    Raises:
        OperationalError: it cannot be reached.
    """
    with ctx.obj.app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
