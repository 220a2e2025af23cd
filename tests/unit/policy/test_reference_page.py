"""The reference page of the policy file and the shape of the file say the same."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from celery_budget.policy.document import (
    BandTable,
    Document,
    PreemptionTable,
    PressureTable,
    TaskTable,
    TenantTable,
)
from celery_budget.policy.load import load
from celery_budget.policy.spending import BudgetTable, CeilingTable, EnvelopesTable, StepTable

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "policy.md").read_text(encoding="utf-8")
POLICIES = sorted((ROOT / "examples" / "policies").glob("*.toml"))

IN_BUDGETS = '[bands.a]\n[budgets."tenant:*"]\n{example}\n'

SECTIONS: list[tuple[str, type[msgspec.Struct], str]] = [
    ("## Top of the file", Document, "{example}\n"),
    ("## Bands: `[bands.NAME]`", BandTable, "[bands.a]\n{example}\n"),
    ('## Tasks: `[tasks."PATTERN"]`', TaskTable, "[bands.a]\n[tasks.t]\n{example}\n"),
    ('## Budgets: `[budgets."SCOPE:PATTERN"]`', BudgetTable, IN_BUDGETS),
    ("## Steps of `on_exhausted`", StepTable, IN_BUDGETS),
    ("## Envelopes: `[envelopes]`", EnvelopesTable, "{example}\n"),
    (
        '## Ceilings: `[ceilings."SCOPE:PATTERN"]`',
        CeilingTable,
        "[bands.a]\n[ceilings]\n{example}\n",
    ),
    ("## Preemption: `[preemption]`", PreemptionTable, "[preemption]\n{example}\n"),
    ("## Pressure: `[pressure]`", PressureTable, "[pressure]\n{example}\n"),
    ('## Rules by tenant: `[tenants."PATTERN"]`', TenantTable, "[tenants.t]\n{example}\n"),
]


def rows(heading: str) -> list[list[str]]:
    """List the cells of the table under a heading, without its head."""
    section = PAGE.split(f"{heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(("heading", "shape", "_around"), SECTIONS)
def test_every_key_has_its_row(heading: str, shape: type[msgspec.Struct], _around: str) -> None:
    """A key that is not on the page does not exist for its users, and the other way round."""
    keys = [found.name for found in msgspec.structs.fields(shape)]

    assert keys == [row[0].strip("`") for row in rows(heading)]


@pytest.mark.parametrize(("heading", "shape", "_around"), SECTIONS)
def test_the_defaults_are_those_of_the_code(
    heading: str, shape: type[msgspec.Struct], _around: str
) -> None:
    """A default that is a value is written as one; the others are explained in words."""
    values = {
        found.name: json.dumps(found.default)
        for found in msgspec.structs.fields(shape)
        if isinstance(found.default, int | float | str)
    }
    written = {row[0].strip("`"): row[2].strip("`") for row in rows(heading) if "`" in row[2]}

    assert values == written


@pytest.mark.parametrize(("heading", "_shape", "around"), SECTIONS)
def test_the_examples_are_legal(heading: str, _shape: type[msgspec.Struct], around: str) -> None:
    """An example is the first thing that is pasted."""
    for row in rows(heading):
        example = row[3].strip("`")

        content = {"bands": {"a": {}}} | tomllib.loads(around.format(example=example))

        assert load(content), example


def test_the_example_file_is_legal() -> None:
    """The page opens with it."""
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)

    assert ["critical", "important", "optional"] == [
        band.name for band in load(tomllib.loads(example)).bands
    ]


@pytest.mark.parametrize("file", POLICIES, ids=lambda file: file.name)
def test_an_example_policy_is_fine_and_names_its_question(file: Path) -> None:
    """Who copies one starts from something that works."""
    first = file.read_text(encoding="utf-8").splitlines()[0]

    assert re.fullmatch(r"# .*\?", first)
    assert not load(file).is_empty
