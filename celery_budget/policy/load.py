"""Load: from a file or a mapping to a checked `Policy`. The only place that reads a file.

Every mistake is collected before the policy is refused; what one key alone shows is checked
against the shapes in `policy/document.py`, the rest here and, for budgets, ceilings and
costs, in the files of their names. Called by `install` and the CLI.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from math import fsum
from pathlib import Path

import msgspec

from celery_budget.errors import OptionError, PolicyError, Problem
from celery_budget.policy.budget import BudgetRule, CeilingRule, TenantRule
from celery_budget.policy.budgets import read_budgets
from celery_budget.policy.ceilings import read_ceilings, read_tenants
from celery_budget.policy.costs import bound_customs, read_amount, read_cost
from celery_budget.policy.document import (
    MAX_BANDS,
    BandTable,
    Document,
    PreemptionTable,
    TaskTable,
)
from celery_budget.policy.envelopes import read_envelopes
from celery_budget.policy.model import Band, OnLoss, OnOverload, Policy, TaskRule
from celery_budget.policy.names import is_name, is_text
from celery_budget.policy.pattern import is_pattern, specificity
from celery_budget.policy.preemption import (
    DEFAULT_PREEMPTION,
    LARGEST_CHECKPOINT,
    Method,
    PreemptionRule,
)
from celery_budget.policy.pressure import read_pressure
from celery_budget.policy.problems import Problems, escape, join, listed, quote
from celery_budget.policy.table import Table, kind
from celery_budget.policy.tenant import parse_template

#: Messages of a band that may wait where its policy says only what happens then: some megabytes in
#: a broker.
MAX_QUEUED = 10_000

#: A policy is a page or two; whatever is larger is another file.
MAX_FILE_BYTES = 1_048_576

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def load(source: str | Path | Mapping[str, object] | None) -> Policy:
    """Read and check a policy.

    Args:
        source: Path of a TOML file, or the same content as a mapping; None, "" or an empty
            mapping give the policy of an app without one.

    Raises:
        PolicyError: With every mistake, each with its place and, where one is close, what
            was probably meant.

    .. versionadded:: 0.1
    """
    if source is None or source == "":
        return Policy()
    content: object = read(Path(source)) if isinstance(source, str | Path) else source
    if not isinstance(content, Mapping):
        raise PolicyError([Problem("", f"a policy is a path or a table, not {kind(content)}")])
    problems = Problems()
    policy = _build(content, problems)
    problems.raise_if_any()
    return policy


def schema() -> dict[str, object]:
    """Describe the policy file as a JSON Schema, for editors.

    .. versionadded:: 0.1
    """
    described = msgspec.json.schema(Document)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}


def read(path: Path) -> Mapping[str, object]:
    """Read what a policy file holds, without a look at what it means.

    Raises:
        PolicyError: It cannot be read, or is not TOML.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _refusal(path, f"cannot be read: {why}", "give the path of a TOML file") from error
    if len(raw) > MAX_FILE_BYTES:
        raise _refusal(path, "is larger than 1 MiB and so no policy")
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _refusal(f"{path}:{line}", "is not UTF-8 text", "save the file as UTF-8") from error
    except RecursionError as error:
        raise _refusal(path, "is nested too deeply to be a policy") from error
    except ValueError as error:  # TOMLDecodeError, and int() beyond its limit of digits
        text = str(error)
        place = _PLACE.search(text)
        message = text[: place.start()] if place else text
        where = f"{path}:{place[1]}:{place[2]}" if place and place[1] else path
        raise _refusal(where, f"is not TOML: {message[:1].lower()}{message[1:]}") from error


def _refusal(place: str | Path, message: str, suggestion: str = "") -> PolicyError:
    return PolicyError([Problem(escape(str(place)), message, suggestion)])


def _build(content: Mapping[str, object], problems: Problems) -> Policy:
    top = Table(Document, content, "", problems)
    raw_bands = content.get("bands", {})
    bands = _bands(raw_bands, problems)
    # Names as written, good or bad: a band that was refused is not unknown as well.
    known = (
        [name for name in raw_bands if isinstance(name, str)]
        if isinstance(raw_bands, Mapping)
        else []
    )
    rules = _rules(content.get("tasks", {}), known, problems)
    budgets = read_budgets(content.get("budgets", {}), known, problems)
    ceilings = read_ceilings(content.get("ceilings", {}), known, problems)
    tenants = read_tenants(content.get("tenants", {}), problems)
    envelopes = None
    if "envelopes" in content:
        envelopes = read_envelopes(content["envelopes"], known, problems)
    bound_customs(budgets, rules, envelopes, problems)
    others = any(content.get(key) for key in ("bands", "budgets", "ceilings", "tenants"))
    if rules and not others and envelopes is None:
        problems.add(
            "bands",
            "at least one band is needed for the rules in tasks",
            "or a budget, a ceiling or the weight of a tenant",
        )
    default = top.text("default_band")
    if default is not None and default not in known:
        problems.unknown_band("default_band", default, known)
    elif "default_band" not in content and len(known) > 1:
        problems.add(
            "default_band",
            "is missing, and there is more than one band",
            f"write one of {listed(known)}",
        )
    options = top.texts("caller_options")
    plain = Policy()
    return Policy(
        bands=tuple(bands) or plain.bands,
        default_band=default or (known[0] if known else plain.default_band),
        tasks=tuple(sorted(rules, key=_specificity)),
        caller_options=plain.caller_options if options is None else frozenset(options),
        seed=top.integer("seed") or plain.seed,
        budgets=tuple(sorted(budgets, key=_specificity)),
        ceilings=tuple(sorted(ceilings, key=_specificity)),
        tenants=tuple(sorted(tenants, key=_specificity)),
        envelopes=envelopes,
        preemption=_preemption(content.get("preemption", {}), problems),
        pressure=read_pressure(content["pressure"], problems) if "pressure" in content else None,
    )


def _preemption(raw: object, problems: Problems) -> PreemptionRule:
    table = Table(PreemptionTable, raw, "preemption", problems)
    plain = DEFAULT_PREEMPTION
    largest = None
    if "max_checkpoint" in table:
        place = join(table.path, "max_checkpoint")
        largest = read_amount("memory", table.raw("max_checkpoint"), place, problems)
        if largest is not None and not 0 < largest <= LARGEST_CHECKPOINT:
            problems.add(place, "must be more than zero and at most 512MiB")
    return PreemptionRule(
        spare=table.integer("spare") or plain.spare,
        max_freeze_s=table.number("max_freeze") or plain.max_freeze_s,
        checkpoint_every_s=table.number("checkpoint_every") or plain.checkpoint_every_s,
        max_checkpoint=largest or plain.max_checkpoint,
        evict_grace_s=table.number("evict_grace") or plain.evict_grace_s,
    )


def _lend(table: Table, problems: Problems) -> int:
    lend, reserve = table.integer("lend") or 0, table.integer("reserve") or 0
    if lend > reserve and not table.is_refused("reserve"):
        problems.add(
            join(table.path, "lend"),
            f"lends {lend} slots of a reserve of {reserve}",
            "write at most as many as reserve",
        )
    return lend


def _reserve_most(table: Table, problems: Problems) -> int | None:
    most, reserve = table.integer("reserve_most"), table.integer("reserve") or 0
    if most is not None and most < reserve and not table.is_refused("reserve"):
        problems.add(
            join(table.path, "reserve_most"),
            f"keeps {most} slots at most, and reserve keeps {reserve} in any case",
            "write at least as many as reserve, or leave it out to keep nothing by forecast",
        )
    return most


def _methods(table: Table) -> tuple[Method, ...] | None:
    names = table.texts("preempt")
    return None if names is None else tuple(Method(name) for name in names)


def _max_queued(table: Table) -> int | None:
    said = table.integer("max_queued")
    return MAX_QUEUED if said is None and "on_overload" in table else said


def _bands(raw: object, problems: Problems) -> list[Band]:
    if not isinstance(raw, Mapping):
        problems.add("bands", f"must be a table of bands, not {kind(raw)}")
        return []
    if len(raw) > MAX_BANDS:
        problems.add("bands", f"holds {len(raw)} bands; at most {MAX_BANDS} are possible")
        return []
    bands: list[Band] = []
    owners: dict[str, str] = {}
    for name, content in raw.items():
        path = join("bands", name)
        if not isinstance(name, str) or not is_name(name):
            problems.add(path, "a band's name is 1 to 64 of the characters A-Z a-z 0-9 _ . -")
            continue
        table = Table(BandTable, content, path, problems)
        queues = table.texts("queues") or (name,)
        if not table.is_refused("queues"):
            _claim(queues, name, owners, table, problems)
        bands.append(
            Band(
                name=name,
                rank=len(bands),
                queues=queues,
                weight=table.number("weight") or 1.0,
                reserve=table.integer("reserve") or 0,
                reserve_most=_reserve_most(table, problems),
                lend=_lend(table, problems),
                min_share=table.number("min_share") or 0.0,
                preempts=table.is_set("preempts"),
                latency_target=table.number("latency_target"),
                deadline=table.number("deadline"),
                expires=table.number("expires"),
                on_ledger_loss=OnLoss(table.text("on_ledger_loss") or OnLoss.LOCAL),
                preempt=_methods(table),
                degrade=table.is_set("degrade") if "degrade" in table else None,
                lanes=table.integer("lanes") or 1,
                max_queued=_max_queued(table),
                on_overload=OnOverload(table.text("on_overload") or OnOverload.DELAY),
            )
        )
    _check_lanes(bands, owners, problems)
    total = fsum(band.min_share for band in bands)
    if total >= 1:
        problems.add("bands", f"the min_share of all bands adds up to {total:g}; keep it below 1")
    return bands


def _claim(
    queues: tuple[str, ...],
    band: str,
    owners: dict[str, str],
    table: Table,
    problems: Problems,
) -> None:
    path = join(table.path, "queues")
    for queue in queues:
        if not queue.strip() or not is_text(queue):
            problems.add(path, "holds a name that no queue can have")
            continue
        owner = owners.setdefault(queue, band)
        if owner != band:
            how = "" if "queues" in table else " (its default, as it names no queues)"
            problems.add(path, f"queue {quote(queue)}{how} already belongs to band {owner}")
    if len(set(queues)) < len(queues):
        problems.add(path, "names a queue twice")


def _check_lanes(bands: list[Band], owners: Mapping[str, str], problems: Problems) -> None:
    for band in bands:
        path = join(join("bands", band.name), "lanes")
        for lane in band.lane_queues:
            if lane in owners:
                problems.add(
                    path,
                    f"lane {quote(lane)} is a queue of band {owners[lane]} already",
                    "give that queue another name",
                )
            elif not is_text(lane):
                problems.add(path, "a lane's name would be too long: its queue's name and .laneN")
                break


def _rules(raw: object, known: list[str], problems: Problems) -> list[TaskRule]:
    if not isinstance(raw, Mapping):
        problems.add("tasks", f"must be a table of rules, not {kind(raw)}")
        return []
    rules: list[TaskRule] = []
    for pattern, content in raw.items():
        path = join("tasks", pattern)
        if not is_pattern(pattern, path, problems):
            continue
        table = Table(TaskTable, content, path, problems)
        band = table.text("band")
        if band is not None and band not in known:
            problems.unknown_band(join(path, "band"), band, known)
        tenant = table.text("tenant")
        if tenant is not None:
            try:
                parse_template(tenant)
            except OptionError as error:
                problems.add(join(path, "tenant"), error.problem, error.suggestion)
        rules.append(
            TaskRule(
                pattern=pattern,
                band=band,
                tenant=tenant,
                deadline=table.number("deadline"),
                expires=table.number("expires"),
                cost=read_cost(table.raw("cost"), join(path, "cost"), problems)
                if "cost" in table
                else None,
                preempt=_methods(table),
                degrade=table.is_set("degrade") if "degrade" in table else None,
            )
        )
    return rules


def _specificity(rule: TaskRule | BudgetRule | CeilingRule | TenantRule) -> tuple[bool, int]:
    return specificity(rule.pattern)
