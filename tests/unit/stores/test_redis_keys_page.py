"""The page of Redis keys and the headers of the scripts say the same."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import celery_budget.stores.redis

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "redis-keys.md").read_text(encoding="utf-8")
LUA = files(celery_budget.stores.redis).joinpath("lua")
_KEY = re.compile(r"^-- KEYS\[\d+(?:\]|\.\.\])\s+(\w+)\s+(\w+)", re.MULTILINE)


def headers() -> set[tuple[str, str, str]]:
    """List key, type and script of all that scripts declare."""
    return {
        (key, kind, file.name.removesuffix(".lua"))
        for file in LUA.iterdir()
        for key, kind in _KEY.findall(file.read_text(encoding="utf-8"))
    }


def rows(heading: str) -> list[list[str]]:
    """List the cells of the table that begins with a heading cell."""
    table = PAGE.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    return [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()[2:]
    ]


def test_every_key_has_its_row() -> None:
    """Whoever looks at the server must find what is there."""
    told = {
        (key.strip("`").partition(":")[0], kind, script)
        for key, kind, _, scripts, _ in rows("key")
        for script in re.findall(r"`(\w+)`", scripts)
    }

    assert headers() == told
    assert len(told) >= 4


def test_the_fields_of_an_account_are_in_their_order() -> None:
    """They are read by their places."""
    source = LUA.joinpath("account.lua").read_text(encoding="utf-8")
    places = re.search(r"flat array, as it is packed: \{(.+?)\}", source, re.DOTALL)
    assert places is not None
    words = re.sub(r"\n-- ", " ", places[1]).replace("then its rule: ", "")
    fields = [word.strip() for word in words.split(", then its holders")[0].split(",")]

    assert [row[1].removeprefix("rule ") for row in rows("place")] == fields
    assert [str(place + 1) for place in range(len(fields))] == [row[0] for row in rows("place")]


def test_fields_of_the_ledger_are_told() -> None:
    """The script writes and reads no others."""
    source = LUA.joinpath("exchange.lua").read_text(encoding="utf-8")
    (fields,) = re.findall(r"'HMGET', KEYS\[1\], (.+?)\)", source)
    (row,) = [row for row in rows("key") if row[0] == "`ledger`"]

    assert re.findall(r"'(\w+)'", fields) == re.findall(r"`(\w+)`", row[2])
