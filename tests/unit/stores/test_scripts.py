"""Scripts are read from the package, and calls are checked against their headers."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from redis import Redis

import celery_budget.stores.redis
from celery_budget.stores.redis.scripts import Script

LUA = files(celery_budget.stores.redis).joinpath("lua")
#: Nobody is there; a call that gets so far fails otherwise.
NOBODY = Redis.from_url("redis://127.0.0.1:1/0")


def test_a_script_has_a_name_with_its_version() -> None:
    """A changed one stands beside the old one until no worker calls that."""
    assert "exchange v1" == Script("exchange").name


@pytest.mark.parametrize("keys", [0, 2])
def test_too_few_keys_are_refused(keys: int) -> None:
    """Lua would take nothing for a key, or one key for another."""
    with pytest.raises(ValueError, match=rf"^exchange v1 takes 7 keys, not {keys}$"):
        Script("exchange")(NOBODY, ["k"] * keys, ["", 1, ""])


@pytest.mark.parametrize("arguments", [0, 2, 4])
def test_another_number_of_arguments_is_refused(arguments: int) -> None:
    """They are told apart by their places only."""
    with pytest.raises(ValueError, match=rf"^exchange v1 takes 3 arguments, not {arguments}$"):
        Script("exchange")(NOBODY, ["k"] * 8, ["x"] * arguments)


def test_a_fragment_is_no_script() -> None:
    """It has no verb, and nobody calls it."""
    with pytest.raises(ValueError, match="must begin with"):
        Script("account")


@pytest.mark.parametrize("verb", ["exchange", "learn"])
def test_fragments_name_what_they_need_and_are_given_it(verb: str) -> None:
    """A local function must stand before its use."""
    uses = re.search(r"^-- Uses: (.+)$", LUA.joinpath(f"{verb}.lua").read_text(), re.MULTILINE)
    assert uses is not None
    order = uses[1].split()
    for name in order:
        needs = re.findall(r"(\w+)\.lua\b(?=.*before it)", LUA.joinpath(f"{name}.lua").read_text())
        assert set(needs) <= set(order[: order.index(name)])


def test_every_fragment_is_used() -> None:
    """One that is not is dead code."""
    names = {file.name.removesuffix(".lua") for file in LUA.iterdir()}

    scripts = {"exchange", "change", "learn", "count"}
    assert {*scripts, "account", "share", "recall", "settle", "sketch", "waiting"} == names
