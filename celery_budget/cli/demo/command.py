"""The command `celery-budget demo`."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import click
from rich.console import Console

from celery_budget.embedded import ServerFailed, ServerMissing

_INSTALL = "pip install 'celery-budget[demo]'"


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(min=2, max=600),
    default=18.0,
    show_default=True,
    help="Length of each of the two runs.",
)
@click.option(
    "--plot",
    "picture",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default=Path("celery-budget-demo.png"),
    show_default=True,
    help="Where to write the plot.",
)
@click.option(
    "--json",
    "document",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Where to write all numbers as JSON.",
)
def demo(seconds: float, picture: Path, document: Path | None) -> None:
    """Show an overload on stock Celery and on priority bands, in under a minute.

    Starts a Redis server and a worker of its own, floods them twice with the same load,
    compares the waits and draws them. Nothing keeps running afterwards, nor after Ctrl-C.
    """
    console = Console()
    missing = [module for module in ("redis", "matplotlib") if find_spec(module) is None]
    if missing:
        raise click.ClickException(f"The demo needs {' and '.join(missing)}: {_INSTALL}")
    # Imported late: `celery-budget --help` must work without what only the demo needs.
    from celery_budget.cli.demo.plot import draw  # noqa: PLC0415
    from celery_budget.cli.demo.screen import comparison, verdict  # noqa: PLC0415
    from celery_budget.cli.demo.session import compare  # noqa: PLC0415

    try:
        results = compare(console, seconds)
    except (ServerMissing, ServerFailed) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")
        raise SystemExit(130) from None
    console.print(comparison(results), *verdict(results), sep="\n", highlight=False)
    draw(results, picture)
    console.print(f"Plot: {picture}", highlight=False, soft_wrap=True)
    if document is not None:
        numbers = {variant.value: result.document() for variant, result in results.items()}
        document.write_text(json.dumps(numbers, indent=1) + "\n")
        console.print(f"Numbers: {document}", highlight=False, soft_wrap=True)
