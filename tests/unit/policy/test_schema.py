"""The JSON Schema: editors that follow it must agree with the loader."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from celery_budget.policy.load import load, schema

POLICIES = sorted((Path(__file__).parents[3] / "examples" / "policies").glob("*.toml"))

SCHEMA: dict[str, Any] = schema()

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}

#: Keywords that only inform.
ANNOTATIONS = {"title", "description", "default", "examples", "$defs", "$schema", "required"}


def is_valid(value: Any, rule: dict[str, Any]) -> bool:
    """Judge a value by the keywords that our schema uses; another keyword is a KeyError."""
    if "$ref" in rule:
        return is_valid(value, SCHEMA["$defs"][rule["$ref"].removeprefix("#/$defs/")])
    kind = rule.get("type")
    if kind and (
        not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")
    ):
        return False
    checks = {
        "type": lambda _: True,
        "anyOf": lambda any_of: any(is_valid(value, one) for one in any_of),
        "enum": lambda allowed: value in allowed,
        "pattern": lambda pattern: re.search(pattern, value) is not None,
        "minLength": lambda least: len(value) >= least,
        "maxLength": lambda most: len(value) <= most,
        "minItems": lambda least: len(value) >= least,
        "maxItems": lambda most: len(value) <= most,
        "maxProperties": lambda most: len(value) <= most,
        "minimum": lambda least: value >= least,
        "maximum": lambda most: value <= most,
        "exclusiveMinimum": lambda bound: value > bound,
        "exclusiveMaximum": lambda bound: value < bound,
        "items": lambda item: all(is_valid(one, item) for one in value),
        "propertyNames": lambda name: all(is_valid(key, name) for key in value),
        "properties": lambda known: all(
            is_valid(value[key], sub) for key, sub in known.items() if key in value
        ),
        "additionalProperties": lambda other: all(
            other and is_valid(one, other)
            for key, one in value.items()
            if key not in rule.get("properties", {})
        ),
    }
    return all(checks[key](sub) for key, sub in rule.items() if key not in ANNOTATIONS)


HOLD = {"on_exhausted": "hold"}
DEGRADE = {"do": "degrade", "at": " 80 % "}


@pytest.mark.parametrize("file", POLICIES, ids=lambda file: file.name)
def test_the_example_policies_are_valid(file: Path) -> None:
    """An editor must not underline what the loader takes."""
    assert is_valid(tomllib.loads(file.read_text(encoding="utf-8")), SCHEMA)


@pytest.mark.parametrize(
    "content",
    [
        {"bands": {"a": {"weight": 4, "deadline": 2, "expires": "1h 30m"}}},
        {"bands": {"a": {"latency_target": " 7 "}}},
        {"bands": {"a": {}}, "tasks": {"*": {"tenant": "{a}", "deadline": 0.5}}},
        {"bands": {"a": {"on_ledger_loss": "open"}}},
        {"bands": {"a": {"preempts": True}, "b": {"preempt": ["freeze"]}}, "default_band": "b"},
        {"bands": {"a": {"preempt": []}}, "tasks": {"*": {"preempt": ["freeze"]}}},
        {"preemption": {"spare": 2, "max_freeze": "5s"}},
        {"preemption": {"checkpoint_every": 3, "max_checkpoint": "64KiB", "evict_grace": "1m"}},
        {"bands": {"a": {"preempt": ["checkpoint", "freeze"]}}},
        {"pressure": {}},
        {"pressure": {"memory": "80%", "stall": 0.4, "evict": False}},
        {"bands": {"a": {}}, "tasks": {"*": {"cost": {"cpu": 3, "memory": "2 MiB", "x": "0"}}}},
        {"budgets": {"fleet": {"slots": 10, "usd": "5 / 1d", "x": {"limit": "1/month"}}}},
        {"budgets": {"header:x-a:*": {"usd": {"limit": "5/1d", "burst": 0, "at": 1, **HOLD}}}},
        {"budgets": {"tenant:*": {"usd": {"limit": "5/1h 30m", "on_exhausted": [{**DEGRADE}]}}}},
        {"bands": {"a": {}}, "budgets": {"fleet": {"slots": {"limit": 1, "reserve": {"a": 0.5}}}}},
        {"ceilings": {"task:*": {"cpu": 1, "memory": "1GiB", "runtime": "1m", "grace": 0}}},
        {"tenants": {"*": {"weight": 3}}},
        {},
    ],
)
def test_what_the_loader_takes_is_valid(content: dict[str, object]) -> None:
    """Durations have two types, and both are in use."""
    load(content)

    assert is_valid(content, SCHEMA)


@pytest.mark.parametrize(
    "content",
    [
        {"sed": 1},
        {"bands": []},
        {"bands": {"a b": {}}},
        {"bands": {f"b{n}": {} for n in range(65)}},
        {"bands": {"a": {"wieght": 1}}},
        {"bands": {"a": {"weight": 0}}},
        {"bands": {"a": {"reserve": True}}},
        {"bands": {"a": {"min_share": 1}}},
        {"bands": {"a": {"queues": []}}},
        {"bands": {"a": {"queues": "q"}}},
        {"bands": {"a": {"deadline": "2x"}}},
        {"bands": {"a": {"deadline": 0}}},
        {"tasks": {"": {}}},
        {"tasks": {"t": {"tenant": ""}}},
        {"caller_options": ["queue"]},
        {"bands": {"a": {"on_ledger_loss": "wait"}}},
        {"bands": {"a": {}, "b": {"preempt": "freeze"}}},
        {"bands": {"a": {}, "b": {"preempt": ["stop"]}}},
        {"preemption": {"spare": 0}},
        {"preemption": {"max_freeze": 0}},
        {"pressure": {"memory": "8GiB"}},
        {"pressure": {"stall": 0}},
        {"tasks": {"t": {"cost": {"a b": 1}}}},
        {"tasks": {"t": {"cost": {"cpu": -1}}}},
        {"tasks": {"t": {"cost": 3}}},
        {"budgets": {"tennant:*": {}}},
        {"budgets": {"tenant": {}}},
        {"budgets": {"header:x": {}}},
        {"budgets": {"fleet": {"a b": "5/1d"}}},
        {"budgets": {"fleet": {"usd": "lots"}}},
        {"budgets": {"fleet": {"usd": "5/"}}},
        {"budgets": {"fleet": {"usd": {"limt": "5/1d"}}}},
        {"budgets": {"fleet": {"usd": {"limit": "5/1d", "on_exhausted": "stop"}}}},
        {"budgets": {"fleet": {"usd": {"limit": "5/1d", "at": "80"}}}},
        {"budgets": {"fleet": {f"r{n}": "5/1d" for n in range(17)}}},
        {"budgets": {f"task:{n}": {} for n in range(257)}},
        {"ceilings": {"node:*": {}}},
        {"ceilings": {"task:*": {"io": 1}}},
        {"tenants": {"*": {"weight": 0}}},
        {"seed": -1},
    ],
)
def test_what_one_key_shows_to_be_wrong_is_invalid(content: dict[str, object]) -> None:
    """The editor should find what the loader would refuse later."""
    assert not is_valid(content, SCHEMA)


def test_every_key_is_described() -> None:
    """The description is what an editor shows on hover."""
    missing = [
        f"{name}.{key}"
        for name, table in SCHEMA["$defs"].items()
        for key, rule in table["properties"].items()
        if not rule.get("description")
    ]

    assert [] == missing


def test_the_schema_is_json() -> None:
    """It is printed for editors."""
    assert SCHEMA == json.loads(json.dumps(SCHEMA))
