"""`budget check`: says what is wrong with a policy, or what it means.

Prints only; reading and judging are `policy/load.py`. Part of the `budget` command group.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from celery_budget.app import SETTING, installed
from celery_budget.errors import PolicyError, Problem
from celery_budget.policy.load import load, schema
from celery_budget.units import format_seconds

if TYPE_CHECKING:
    from celery_budget.policy.model import Band, Policy, TaskRule

PolicySource = str | Path | Mapping[str, object] | None

FINE = 0
WRONG = 1


@click.command()
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--schema", "print_schema", is_flag=True, help="Print the file's JSON Schema.")
@click.pass_context
def check(ctx: click.Context, file: Path | None, *, as_json: bool, print_schema: bool) -> None:
    """Check the policy in FILE, or the one the app uses, and show what it means.

    Every mistake is named with its place and, where one is close, what was probably meant.
    Exit status: 0 fine, 1 mistakes found, 2 misuse.
    """
    source = None if file is not None or print_schema else _app_source(ctx)
    ctx.exit(check_policy(source, file, Console(), as_json=as_json, print_schema=print_schema))


def check_policy(
    source: PolicySource,
    file: Path | None,
    console: Console,
    *,
    as_json: bool = False,
    print_schema: bool = False,
) -> int:
    """Print what is wrong with a policy, or what it means, and answer the exit status.

    Args:
        source: The app's policy: a path, a mapping, or None for an app without one.
        file: Checked instead of `source` when given.
        console: Where to print.
        as_json: Print one JSON object instead of tables.
        print_schema: Print the JSON Schema of the file and check nothing.
    """
    if print_schema:
        _print_json(schema(), console)
        return FINE
    checked = source if file is None else file
    name = str(checked) if isinstance(checked, str | Path) else "the app's policy"
    try:
        policy = load(checked)
    except PolicyError as error:
        if as_json:
            problems = [_described(problem) for problem in error.problems]
            _print_json({"policy": name, "fine": False, "problems": problems}, console)
        else:
            _print_problems(name, error.problems, console)
        return WRONG
    if as_json:
        meaning = {
            "policy": name,
            "fine": True,
            "problems": [],
            "default_band": policy.default_band,
            "bands": [_band_values(band) for band in policy.bands],
            "tasks": [_rule_values(rule) for rule in policy.tasks],
        }
        _print_json(meaning, console)
    else:
        _print_meaning(name, policy, console)
    return FINE


def _app_source(ctx: click.Context) -> PolicySource:
    app = getattr(ctx.obj, "app", None)
    if app is None:
        raise click.UsageError("name a FILE, or ask an app: celery -A APP budget check", ctx)
    installation = installed(app)
    if installation is not None:
        return installation.policy_source
    found: PolicySource = app.conf.get(SETTING)
    return found


def _print_problems(name: str, problems: tuple[Problem, ...], console: Console) -> None:
    for problem in problems:
        line = Text()
        if problem.path:
            line.append(f"{problem.path}: ", style="bold")
        line.append(problem.message, style="red")
        if problem.suggestion:
            line.append(f"; {problem.suggestion}")
        # Not wrapped: one mistake is one line, also for grep.
        console.print(line, soft_wrap=True)
    count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    console.print(Text(f"{count} in {name}"), soft_wrap=True)


def _print_meaning(name: str, policy: Policy, console: Console) -> None:
    if policy.is_empty:
        console.print(
            Text(f"{name} declares no bands: one band takes every queue, as without a policy"),
            soft_wrap=True,
        )
        return
    bands = Table(title="Bands, most urgent first", title_justify="left")
    for column in ("rank", "band", "queues", "weight", "reserve", "min share"):
        bands.add_column(column, overflow="fold")
    for column in ("target", "deadline", "expires"):
        bands.add_column(column, overflow="fold")
    for band in policy.bands:
        mark = " (default)" if band.name == policy.default_band else ""
        bands.add_row(
            str(band.rank),
            Text(band.name + mark),
            Text(" ".join(band.queues) + (f" ({band.lanes} lanes)" if band.lane_queues else "")),
            "by rank" if band.preempts else f"{band.weight:g}",
            _reserve(band),
            f"{band.min_share:.1%}" if band.min_share else "-",
            _duration(band.latency_target),
            _duration(band.deadline),
            _duration(band.expires),
        )
    console.print(bands)
    if policy.tasks:
        rules = Table(title="Task rules, first match decides", title_justify="left")
        for column in ("tasks", "band", "tenant", "deadline", "expires"):
            rules.add_column(column, overflow="fold")
        for rule in policy.tasks:
            rules.add_row(
                Text(rule.pattern),
                Text(rule.band or "-"),
                Text(rule.tenant or "-"),
                _duration(rule.deadline),
                _duration(rule.expires),
            )
        console.print(rules)
    console.print(Text(f"{name} is fine"), soft_wrap=True)


def _reserve(band: Band) -> str:
    if band.reserve_most is None:
        return str(band.reserve) if band.reserve else "-"
    return f"{band.reserve} to {band.reserve_most}"


def _print_json(value: object, console: Console) -> None:
    console.print(
        json.dumps(value, indent=2, ensure_ascii=False),
        soft_wrap=True,
        markup=False,
        highlight=False,
        emoji=False,
    )


def _described(problem: Problem) -> dict[str, str]:
    return {
        "path": problem.path,
        "message": problem.message,
        "suggestion": problem.suggestion,
    }


def _band_values(band: Band) -> dict[str, object]:
    return {
        "name": band.name,
        "rank": band.rank,
        "queues": list(band.queues),
        "lanes": band.lanes,
        "weight": band.weight,
        "reserve": band.reserve,
        "reserve_most": band.reserve_most,
        "lend": band.lend,
        "min_share": band.min_share,
        "preempts": band.preempts,
        "latency_target_s": band.latency_target,
        "deadline_s": band.deadline,
        "expires_s": band.expires,
    }


def _rule_values(rule: TaskRule) -> dict[str, object]:
    return {
        "pattern": rule.pattern,
        "band": rule.band,
        "tenant": rule.tenant,
        "deadline_s": rule.deadline,
        "expires_s": rule.expires,
    }


def _duration(value: float | None) -> str:
    return "-" if value is None else format_seconds(value)
