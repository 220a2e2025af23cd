"""Tenant templates: whose work a call is, taken from its arguments.

Pure. `parse_template` judges templates for the policy loader; `render_tenant` fills them for
`policy/terms.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from string import Formatter

from celery_budget.errors import OptionError
from celery_budget.policy.names import MAX_TEXT, is_text

#: Longest value of one field; a tenant is an identifier, not a document.
MAX_FIELD = 128

Arguments = Callable[[], Mapping[str, object]]


def render_tenant(template: str, arguments: Arguments | None) -> str:
    """Fill a tenant template from a call's arguments.

    A field that the call does not have, or whose value is None or a container, leaves the
    tenant "": such a call is nobody's, and publishing must not fail for it.

    Args:
        template: For example "{customer_id}", "eu-{customer_id}" or the constant "acme".
        arguments: Names and values; called only if the template has fields.

    Raises:
        OptionError: The template cannot be read.
    """
    parts = parse_template(template)
    if all(name is None for _, name in parts):
        return "".join(literal for literal, _ in parts)
    if arguments is None:
        return ""
    values = arguments()
    texts = []
    for literal, name in parts:
        texts.append(literal)
        if name is None:
            continue
        value = values.get(name)
        if value is None or isinstance(value, Mapping | list | tuple | set | frozenset):
            return ""
        texts.append(str(value)[:MAX_FIELD])
    text = "".join(texts)[:MAX_TEXT]
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


@lru_cache(maxsize=1024)
def parse_template(template: str) -> tuple[tuple[str, str | None], ...]:
    """Split a tenant template into pairs of literal text and the field after it.

    Raises:
        OptionError: It is too long, unbalanced, or a field is more than a plain name.
    """
    if not is_text(template):
        raise OptionError("tenant", f"the template must be text of at most {MAX_TEXT} characters")
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise OptionError(
            "tenant", f"the template is not balanced ({error})", "write a brace itself as {{ or }}"
        ) from error
    parts: list[tuple[str, str | None]] = []
    for literal, name, spec, conversion in parsed:
        if name is not None and (not name.isidentifier() or spec or conversion):
            shown = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise OptionError(
                "tenant",
                f"field {shown!r} is more than the name of an argument",
                "write for example {customer_id}",
            )
        parts.append((literal, name))
    return tuple(parts)
