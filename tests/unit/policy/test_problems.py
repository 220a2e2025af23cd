"""How the places of mistakes are written."""

from __future__ import annotations

import pytest

from celery_budget.errors import PolicyError, Problem
from celery_budget.policy.names import closest
from celery_budget.policy.problems import Problems, join


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        ("", "seed", "seed"),
        ("bands", "critical", "bands.critical"),
        ("tasks", "a.b", 'tasks."a.b"'),
        ("tasks", 'say "x"\\', r'tasks."say \"x\"\\"'),
        ("tasks", "", 'tasks.""'),
        ("bands", "über", 'bands."über"'),
        ("bands", "a\n\x1b[31m", r'bands."a\n\x1b[31m"'),
        ("bands", "\ud800", r'bands."\ud800"'),
        ("bands", 3, 'bands."<int>"'),
        ("bands", "x" * 100, f'bands."{"x" * 63}…"'),
    ],
)
def test_a_place_is_written_as_in_toml(path: str, key: object, expected: str) -> None:
    """The path must be found by searching the file, and must not steer a terminal."""
    assert expected == join(path, key)


def test_no_mistakes_raise_nothing() -> None:
    """A fine policy passes."""
    problems = Problems()
    problems.raise_if_any()

    assert 0 == len(problems)


def test_mistakes_are_raised_together_in_order() -> None:
    """The order is that of the file, so that an author can go through it once."""
    problems = Problems()
    problems.add("b", "one")
    problems.add("a", "two", "do this")

    with pytest.raises(PolicyError) as caught:
        problems.raise_if_any()

    assert (Problem("b", "one"), Problem("a", "two", "do this")) == caught.value.problems


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("criticl", "did you mean critical?"),
        ("CRITICAL", "did you mean critical?"),
        ("optional-work", "did you mean optional?"),
        ("zzz", ""),
        ("x" * 1_000_000, ""),
    ],
)
def test_only_a_close_name_is_suggested(name: str, expected: str) -> None:
    """A far-fetched suggestion sends people the wrong way."""
    assert expected == closest(name, ["critical", "important", "optional"])
