"""`budget pause`, `resume` and `policy`: what an operator changes for the whole fleet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime

import click

from celery_budget.cli.connect import WRONG, json_option, reach_broker, told
from celery_budget.client import Changed, Operator
from celery_budget.errors import DurationError
from celery_budget.units import seconds

_timeout_option = click.option(
    "--timeout",
    "-t",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds to wait until the workers follow.",
)

_reason_option = click.option("--reason", default="", help="Why; it is shown to others.")


@contextmanager
def _operating(ctx: click.Context, timeout: float) -> Iterator[Operator]:
    """Give an operator of the app, once the broker was reached."""
    with told(ctx):
        reach_broker(ctx)
        yield Operator(ctx.obj.app, timeout=timeout)


@click.command()
@click.argument("target")
@click.option("--for", "for_", metavar="DURATION", help='For so long, such as "10m".')
@_reason_option
@_timeout_option
@click.pass_context
def pause(ctx: click.Context, target: str, for_: str | None, reason: str, timeout: float) -> None:
    """Let no more tasks of TARGET start; what runs goes on.

    TARGET is fleet, or band:NAME, queue:NAME, task:PATTERN or tenant:PATTERN.
    """
    try:
        for_s = None if for_ is None else seconds(for_)
    except DurationError as error:
        raise click.UsageError(str(error), ctx) from error
    with _operating(ctx, timeout) as operator:
        changed = operator.pause(target, for_s=for_s, reason=reason)
    _tell(ctx, f"{target} is paused", changed)


@click.command()
@click.argument("target")
@_timeout_option
@click.pass_context
def resume(ctx: click.Context, target: str, timeout: float) -> None:
    """Let tasks of TARGET start again, written as it was paused."""
    with _operating(ctx, timeout) as operator:
        changed = operator.resume(target)
    _tell(ctx, f"{target} goes on", changed)


@click.group()
def policy() -> None:
    """Change the policy of running workers, and show what was changed."""


@policy.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@_reason_option
@_timeout_option
@click.pass_context
def apply(ctx: click.Context, file: str, reason: str, timeout: float) -> None:
    """Let the policy in FILE hold in place of the workers' own.

    Bands with their queues, and what is metered, change with a restart alone.
    """
    with _operating(ctx, timeout) as operator:
        changed = operator.apply(file, reason)
    _tell(ctx, f"{file} holds", changed)


@policy.command()
@_reason_option
@_timeout_option
@click.pass_context
def reset(ctx: click.Context, reason: str, timeout: float) -> None:
    """Let each worker's own policy hold again."""
    with _operating(ctx, timeout) as operator:
        changed = operator.reset(reason)
    _tell(ctx, "the workers' own policy holds", changed)


@policy.command()
@json_option
@click.pass_context
def show(ctx: click.Context, *, as_json: bool) -> None:
    """Show what operators have changed: the policy that was applied, and pauses."""
    with _operating(ctx, 1.0) as operator:
        live = operator.live()
    if as_json:
        applied = json.loads(live.policy) if live.policy else None
        click.echo(json.dumps({**asdict(live), "policy": applied}, indent=2))
        return
    if live.policy:
        when = datetime.fromtimestamp(live.version / 1e6, UTC).isoformat(" ", "seconds")
        click.echo(f"A policy was applied by {live.by} (last change {when}). {live.reason}".strip())
        click.echo(json.dumps(json.loads(live.policy), indent=2))
    else:
        click.echo("The workers' own policy holds.")
    for each in live.pauses:
        until = "until it is lifted"
        if each.until is not None:
            until = f"until {datetime.fromtimestamp(each.until, UTC).isoformat(' ', 'seconds')}"
        click.echo(f"{each.target} is paused {until} by {each.by}. {each.reason}".strip())


def _tell(ctx: click.Context, what: str, changed: Changed) -> None:
    """Say who follows; status 1 when somebody does not, or nobody runs."""
    count = len(changed.followers)
    workers = "1 worker follows" if count == 1 else f"{count} workers follow"
    for worker, problem in changed.problems.items():
        click.echo(f"{worker} does not follow: {problem}", err=True)
    if not count and not changed.problems:
        click.echo(f"{what} for workers that start from now on: none answered.")
        ctx.exit(WRONG)
    click.echo(f"{what}: {workers} after {changed.after_s:.1f} s.")
    ctx.exit(WRONG if changed.problems else 0)
