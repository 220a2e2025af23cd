"""One table of the policy file, converted key by key so that one bad value hides no other.

Knows shapes and types, not what a policy means. Called by `policy/load.py` and the files
beside it that read budgets and ceilings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast, get_args

import msgspec

from celery_budget.errors import AmountError, DurationError
from celery_budget.policy.document import (
    Document,
    PreemptionTable,
    PressureTable,
    TaskTable,
)
from celery_budget.policy.names import closest
from celery_budget.policy.notation import (
    CallerOption,
    MethodName,
    OnLossName,
    OnOverloadName,
    QueueName,
    ResourceName,
)
from celery_budget.policy.problems import Problems, join, quote
from celery_budget.policy.spending import BudgetTable, CeilingTable, EnvelopesTable, StepTable
from celery_budget.units import seconds, share

_DURATIONS = frozenset(
    {"latency_target", "deadline", "expires", "max_freeze", "checkpoint_every", "evict_grace"}
)
_LISTS: dict[str, object] = {
    "queues": QueueName,
    "caller_options": CallerOption,
    "resources": ResourceName,
    "preempt": MethodName,
}
_CHOICES: dict[str, tuple[object, str]] = {
    "caller_options": (CallerOption, "an option of a call"),
    "on_ledger_loss": (OnLossName, "a way to go on"),
    "on_overload": (OnOverloadName, "an answer to too much"),
    "preempt": (MethodName, "a way to give way"),
}

#: Keys whose values mean something only together with others, and so are left as they are
#: to whoever knows these.
_LEFT: dict[type[msgspec.Struct], frozenset[str]] = {
    Document: frozenset(
        {"bands", "tasks", "budgets", "ceilings", "tenants", "envelopes", "preemption", "pressure"}
    ),
    TaskTable: frozenset({"cost"}),
    BudgetTable: frozenset({"limit", "burst", "on_exhausted", "at", "reserve"}),
    EnvelopesTable: frozenset({"on_exhausted", "at"}),
    StepTable: frozenset({"at", "do"}),
    CeilingTable: frozenset({"cpu", "memory", "runtime", "grace"}),
    PreemptionTable: frozenset({"max_checkpoint"}),
    PressureTable: frozenset({"memory", "stall", "cpu"}),
}

#: bool before int, which it is a kind of to Python.
_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "true or false"),
    (str, "text"),
    ((int, float), "a number"),
    ((list, tuple), "a list"),
    (Mapping, "a table"),
)


class Table:
    """The good values of one table; the bad ones are noted as problems.

    Args:
        shape: Its keys and their types, from `policy/document.py`.
        raw: What the file or the mapping holds there; anything at all.
        path: Its place, "" for the file itself.
        problems: Gets every mistake.
    """

    __slots__ = ("_problems", "_refused", "_values", "path")

    def __init__(
        self, shape: type[msgspec.Struct], raw: object, path: str, problems: Problems
    ) -> None:
        self.path = path
        self._problems = problems
        self._values: dict[str, object] = {}
        self._refused: set[str] = set()
        if not isinstance(raw, Mapping):
            problems.add(path, f"must be a table, not {kind(raw)}")
            return
        left = _LEFT.get(shape, frozenset())
        types = {described.name: described.type for described in msgspec.structs.fields(shape)}
        for key, value in raw.items():
            if not isinstance(key, str) or key not in types:
                self._refuse_key(key, value, types)
            elif key in left:
                self._values[key] = value
            elif key in _DURATIONS:
                self._read_duration(key, value)
            elif key in _LISTS and isinstance(value, list | tuple):
                self._read_list(key, value, types[key])
            else:
                self._convert(key, value, types[key], join(path, key))
            if key not in self._values:
                self._refused.add(str(key))

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def is_refused(self, key: str) -> bool:
        """Tell whether the key is there with a value that was wrong."""
        return key in self._refused

    def raw(self, key: str) -> object:
        """Give a value that is left as it was written, or None when it is absent."""
        return self._values.get(key)

    def text(self, key: str) -> str | None:
        """Read a text, or None when it is absent or was wrong."""
        return cast("str | None", self._values.get(key))

    def texts(self, key: str) -> tuple[str, ...] | None:
        """Read a list of texts, or None when it is absent or was wrong."""
        return cast("tuple[str, ...] | None", self._values.get(key))

    def number(self, key: str) -> float | None:
        """Read a number or a duration in seconds, or None when it is absent or was wrong."""
        return cast("float | None", self._values.get(key))

    def integer(self, key: str) -> int | None:
        """Read an integer, or None when it is absent or was wrong."""
        return cast("int | None", self._values.get(key))

    def share(self, key: str) -> float | None:
        """Read a share that was left as it was written, or None when it is absent or wrong."""
        if key not in self:
            return None
        try:
            return share(cast("str", self._values[key]))  # it refuses whatever is no share
        except AmountError as error:
            self._problems.add(join(self.path, key), str(error))
            return None

    def is_set(self, key: str) -> bool:
        """Tell whether a switch is on."""
        return self._values.get(key) is True

    def _read_duration(self, key: str, value: object) -> None:
        place = join(self.path, key)
        try:
            result = seconds(cast("str", value))  # it refuses whatever is no duration
        except DurationError as error:
            self._problems.add(place, str(error))
            return
        if result > 0:
            self._values[key] = result
        else:
            self._problems.add(place, "must be longer than zero", "leave the key out for none")

    def _read_list(self, key: str, values: Sequence[object], wanted: object) -> None:
        place = join(self.path, key)
        good = []
        for index, value in enumerate(values):
            self._values.pop(key, None)
            self._convert(key, value, _LISTS[key], f"{place}[{index}]")
            if key in self._values:
                good.append(self._values[key])
        if len(good) == len(values):
            self._convert(key, good, wanted, place)
        if good:
            self._values[key] = tuple(good)

    def _convert(self, key: str, value: object, wanted: object, place: str) -> None:
        try:
            result = msgspec.convert(value, cast("type[object]", wanted))
        except (ValueError, ArithmeticError, RecursionError) as error:
            self._refuse_value(key, value, str(error).replace("`", ""), place)
            return
        self._values[key] = result

    def _refuse_value(self, key: str, value: object, message: str, place: str) -> None:
        if isinstance(value, str) and message.startswith("Invalid enum value"):
            choices, meaning = _CHOICES[key]
            known: tuple[str, ...] = get_args(choices)
            self._problems.add(
                place,
                f"{quote(value)} is not {meaning}",
                closest(value, known) or f"known: {', '.join(known)}",
            )
            return
        suggestion = ""
        if isinstance(value, str) and key in _LISTS and place.endswith(key):
            suggestion = f"write [{quote(value)}]"
        self._problems.add(place, f"{message[:1].lower()}{message[1:]}", suggestion)

    def _refuse_key(self, key: object, value: object, known: Mapping[str, object]) -> None:
        place = join(self.path, key)
        if not isinstance(key, str):
            self._problems.add(place, f"a key must be text, not {kind(key)}")
            return
        suggestion = closest(key, known)
        if not suggestion and isinstance(value, Mapping) and self.path:
            # [tasks.payments.charge] without quotes is a table within a table.
            head, _, name = self.path.partition(".")
            whole = join(head, f"{name}.{key}")
            suggestion = f"names with dots need quotes: [{whole}]"
        self._problems.add(place, "unknown key", suggestion or f"known: {', '.join(known)}")


def kind(value: object) -> str:
    """Name the type of a value as the author of a TOML file would."""
    if value is None:
        return "nothing"
    for types, name in _KINDS:
        if isinstance(value, types):
            return name
    return f"a {type(value).__name__}"
