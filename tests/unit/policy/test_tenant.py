"""Tenant templates: which fields are possible, and what a call's arguments make of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from uuid import UUID

import pytest

from celery_budget.errors import OptionError
from celery_budget.policy.tenant import parse_template, render_tenant

ID = UUID("12345678-1234-5678-1234-567812345678")


def unused() -> Mapping[str, object]:
    """Fail a test in which the arguments are not to be asked for."""
    raise AssertionError


@pytest.mark.parametrize(
    ("template", "arguments", "expected"),
    [
        ("{customer}", {"customer": "acme"}, "acme"),
        ("{customer}", {"customer": 7}, "7"),
        ("{customer}", {"customer": ID}, str(ID)),
        ("eu-{a}/{b}", {"a": 1, "b": 2, "c": 3}, "eu-1/2"),
        ("{{{a}}}", {"a": 1}, "{1}"),
        ("{a}", {}, ""),
        ("x-{a}", {"a": None}, ""),
        ("x-{a}", {"a": {"name": "acme"}}, ""),
        ("x-{a}", {"a": ["acme"]}, ""),
        ("{a}", {"a": "x" * 1_000}, "x" * 128),
        ("{a}{b}{c}", {"a": "x" * 128, "b": "y" * 128, "c": "z"}, "x" * 128 + "y" * 128),
        ("{a}", {"a": "Zoë\ud800"}, "Zoë?"),
    ],
)
def test_a_template_is_filled_from_the_arguments(
    template: str, arguments: dict[str, object], expected: str
) -> None:
    """A tenant is short, can be sent, and is nobody rather than an error or "None"."""
    assert expected == render_tenant(template, lambda: arguments)


def test_a_constant_needs_no_arguments() -> None:
    """Binding a call's arguments costs more than all the rest of a stamp."""
    assert "acme" == render_tenant("acme", unused)
    assert "{acme}" == render_tenant("{{acme}}", unused)


def test_without_arguments_a_field_leaves_the_tenant_empty() -> None:
    """A task sent by name alone has no signature to bind to."""
    assert "" == render_tenant("eu-{customer}", None)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{customer", "not balanced"),
        ("customer}", "not balanced"),
        ("{}", "field '' is more than the name"),
        ("{0}", "field '0' is more than the name"),
        ("{a.b}", "field 'a.b' is more than the name"),
        ("{a[0]}", "field 'a[0]' is more than the name"),
        ("{a!r}", "field 'a!r' is more than the name"),
        ("{a:>10}", "field 'a:>10' is more than the name"),
        ("{a:{b}}", "field 'a:{b}' is more than the name"),
        ("x" * 257, "at most 256 characters"),
    ],
)
def test_a_template_that_reaches_into_objects_is_refused(template: str, problem: str) -> None:
    """Attribute access would let a policy read whatever hangs on an argument."""
    with pytest.raises(OptionError, match=re.escape(problem)):
        parse_template(template)
