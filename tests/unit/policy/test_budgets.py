"""Budgets, ceilings, tenants and costs of a policy: their meaning, and their mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from celery_budget.errors import PolicyError
from celery_budget.policy.budget import (
    Action,
    BudgetRule,
    CeilingRule,
    Scope,
    TenantRule,
    Window,
)
from celery_budget.policy.load import load
from celery_budget.policy.model import OnLoss

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR

BANDS = {"default_band": "a", "bands": {"a": {}, "b": {}, "c": {}}}


def problems(source: dict[str, Any]) -> list[str]:
    """List what is wrong with a policy, one text a mistake."""
    with pytest.raises(PolicyError) as caught:
        load(source)
    return [str(problem) for problem in caught.value.problems]


def budget(key: str = "tenant:*", resource: str = "usd", **said: object) -> BudgetRule:
    """Load the one budget of a policy with three bands."""
    (rule,) = load({**BANDS, "budgets": {key: {resource: said}}}).budgets
    return rule


def test_a_budget_becomes_a_rule() -> None:
    """Every field has its reader elsewhere; all of them come from here."""
    policy = load(
        {
            **BANDS,
            "budgets": {
                "tenant:*": {
                    "usd": {
                        "limit": "5.00/month",
                        "time_zone": "Europe/Berlin",
                        "burst": "1",
                        "on_exhausted": [{"at": "80%", "do": "degrade"}, {"do": "hold"}],
                        "reserve": {"b": 0.25, "a": "20%"},
                    }
                }
            },
        }
    )

    assert (
        BudgetRule(
            path='budgets."tenant:*".usd',
            scope=Scope.TENANT,
            header="",
            pattern="*",
            resource="usd",
            limit=5 * SECOND,
            window=Window(0, "month", "Europe/Berlin", turns=True),
            burst=SECOND,
            actions=((0.8, Action.DEGRADE), (1.0, Action.HOLD)),
            reserve=(("a", 0.2), ("b", 0.25)),
        ),
    ) == policy.budgets


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("fleet", (Scope.FLEET, "", "*")),
        ("region:eu", (Scope.REGION, "", "eu")),
        ("task:a:b", (Scope.TASK, "", "a:b")),
        ("header:x-team:a:b*", (Scope.HEADER, "x-team", "a:b*")),
        ("band:[ab]", (Scope.BAND, "", "[ab]")),
        ("band:c", (Scope.BAND, "", "c")),
    ],
)
def test_a_key_says_for_whom(key: str, target: tuple[Scope, str, str]) -> None:
    """Names of tasks and hosts may hold colons of their own."""
    rule = budget(key, limit="5/1d")

    assert target == (rule.scope, rule.header, rule.pattern)


@pytest.mark.parametrize(
    ("resource", "limit", "window", "burst"),
    [
        ("starts", "50/1s", Window(SECOND), 5 * SECOND),
        ("starts", "2/1m", Window(60 * SECOND), SECOND),
        ("cpu", "120s/1m", Window(60 * SECOND), 12 * SECOND),
        ("network", "5/59m59s", Window(HOUR - SECOND), 1),
        ("usd", "5/1h", Window(HOUR, turns=True), 0),
        ("usd", "5/1d", Window(DAY, turns=True), 0),
        ("usd", "5 / 1h 30m", Window(HOUR * 3 // 2, turns=True), 0),
        ("usd", "5/60", Window(60 * SECOND), SECOND // 2),
        ("usd", "5/day", Window(0, "day", turns=True), 0),
        ("usd", "5/week", Window(0, "week", turns=True), 0),
        ("slots", 10, None, 0),
        ("memory", "8GiB", None, 0),
    ],
)
def test_the_window_decides_how_a_limit_comes_back(
    resource: str, limit: object, window: Window | None, burst: int
) -> None:
    """A rate in one go would be a burst; a day in drops would not be a day's sum."""
    rule = budget(resource=resource, limit=limit)

    assert (window, burst) == (rule.window, rule.burst)


@pytest.mark.parametrize("limit", ["50/1s", "10/1d"])
def test_a_text_is_a_budget_with_that_limit(limit: str) -> None:
    """Most budgets need no more."""
    long = load({"budgets": {"fleet": {"starts": {"limit": limit}}}})
    short = load({"budgets": {"fleet": {"starts": limit}}})

    assert long == short


@pytest.mark.parametrize(
    ("said", "actions"),
    [
        ({}, ((1.0, Action.HOLD),)),
        ({"on_exhausted": "shed"}, ((1.0, Action.SHED),)),
        ({"on_exhausted": "demote", "at": "50%"}, ((0.5, Action.DEMOTE),)),
        ({"on_exhausted": [{"do": "degrade"}]}, ((1.0, Action.DEGRADE),)),
    ],
)
def test_steps_are_as_written_or_hold(
    said: dict[str, Any], actions: tuple[tuple[float, Action], ...]
) -> None:
    """A budget that stops nothing must be one that its author asked for."""
    assert actions == budget(limit="5/1d", **said).actions


def test_ceilings_tenants_costs_and_the_way_out_become_values() -> None:
    """They are read by the worker and the ledger, which know no TOML."""
    policy = load(
        {
            "bands": {"a": {"on_ledger_loss": "closed"}},
            "ceilings": {
                "task:*": {"memory": "1KiB", "runtime": "10m", "grace": 0},
                "band:a": {"cpu": 2},
            },
            "tenants": {"*": {}, "vip-*": {"weight": 3}},
            "tasks": {"t": {"cost": {"usd": "0.02", "cpu": "3s", "starts": 0}}},
        }
    )

    assert (
        CeilingRule('ceilings."band:a"', Scope.BAND, "a", cpu=2 * SECOND, grace_us=5 * SECOND),
        CeilingRule(
            'ceilings."task:*"', Scope.TASK, "*", memory=1_024, runtime=600 * SECOND, grace_us=0
        ),
    ) == policy.ceilings
    assert (TenantRule("vip-*", 3.0), TenantRule("*", 1.0)) == policy.tenants
    assert (("cpu", 3 * SECOND), ("starts", 0), ("usd", 20_000)) == policy.tasks[0].cost
    assert OnLoss.CLOSED is policy.bands[0].on_ledger_loss


PLACE = 'budgets."tenant:*"'


@pytest.mark.parametrize(
    ("resource", "said", "expected"),
    [
        ("usd", None, f"{PLACE}.usd: must be a table, not nothing"),
        ("usd", True, f"{PLACE}.usd: must be a table, not true or false"),
        ("usd", {}, f'{PLACE}.usd: needs a limit; write for example {{ limit = "5.00/1d" }}'),
        ("usd", "5", f'{PLACE}.usd: usd needs a window; write for example "5/1d"'),
        (
            "cpu",
            {"limit": 90},
            f'{PLACE}.cpu.limit: cpu needs a window; write for example "1m30s/1d',
        ),
        ("starts", 50, f'{PLACE}.starts: starts needs a window; write for example "50/1s"'),
        ("slots", "5/1d", f"{PLACE}.slots: slots has no window; write the number alone, or starts"),
        ("memory", "5/1d", f"{PLACE}.memory: memory has no window; write the amount alone"),
        ("slots", "0.5", f"{PLACE}.slots: slots below 1 would never let a task start"),
        ("starts", "0.5/1d", f"{PLACE}.starts: starts below 1 would never let a task start"),
        ("usd", "0/1d", f"{PLACE}.usd: must be more than zero"),
        ("usd", "5M/1d", f"{PLACE}.usd: '5M' is not an amount of usd: write a plain number"),
        ("usd", "5/1x", f"{PLACE}.usd: '1x' is not a window: \"x\" is not a unit"),
        ("usd", "5/1d/2", f"{PLACE}.usd: '1d/2' is not a window"),
        ("usd", "5/", f"{PLACE}.usd: '' is not a window: it is empty"),
        ("usd", "5/monthly", f'{PLACE}.usd: "monthly" is not a window; did you mean month?'),
        ("usd", "5/s", f'{PLACE}.usd: "s" is not a window; write for example "1m", or day, week'),
        ("usd", "5/0s", f"{PLACE}.usd: the window must be longer than zero"),
        ("usd", "5/40000d", f"{PLACE}.usd: the window must be longer than zero and at most 100"),
        ("usd", {"limit": "5/1d", "burst": "x"}, f"{PLACE}.usd.burst: 'x' is not an amount of usd"),
        (
            "slots",
            {"limit": 5, "burst": 1},
            f"{PLACE}.slots.burst: what is held at once has no burs",
        ),
        (
            "starts",
            {"limit": "5/1s", "burst": 0},
            f"{PLACE}.starts.burst: nothing could be saved up to start with; at least 1",
        ),
        (
            "io",
            {"limit": f"{2**53 - 1}/1d", "burst": 1},
            f"{PLACE}.io.limit: limit and burst together are at most 9007199254740991",
        ),
        (
            "usd",
            {"limit": "5/day", "time_zone": "Europe/Berln"},
            'usd.time_zone: "Europe/Berln" is not a time zone; did you mean Europe/Berlin?',
        ),
        ("usd", {"limit": "5/day", "time_zone": "Europe"}, '"Europe" is not a time zone'),
        ("usd", {"limit": "5/day", "time_zone": "../x\0"}, "is not a time zone"),
        ("usd", {"limit": "5/day", "time_zone": 1}, "time_zone: expected str, got int"),
        ("usd", {"limit": "5/1d", "time_zone": "UTC"}, "time_zone: only windows of a day, a week"),
        ("usd", {"limit": "5/1d", "at": "80%"}, f"{PLACE}.usd.at: needs an on_exhausted"),
        ("usd", {"limit": "5/1d", "on_exhausted": "hodl"}, "is not an action; did you mean hold?"),
        ("usd", {"limit": "5/1d", "on_exhausted": 3}, "must be one of hold, degrade, demote, shed"),
        ("usd", {"limit": "5/1d", "on_exhausted": []}, f"{PLACE}.usd.on_exhausted: has no steps"),
        ("usd", {"limit": "5/1d", "on_exhausted": ["hold"]}, "on_exhausted[0]: must be a table"),
        ("usd", {"limit": "5/1d", "on_exhausted": [{}]}, "on_exhausted[0]: says not what to do"),
        (
            "usd",
            {"limit": "5/1d", "on_exhausted": [{"do": "hold"}], "at": "80%"},
            "at: belongs to a single on_exhausted; each step has its own",
        ),
        (
            "usd",
            {"limit": "5/1d", "on_exhausted": [{"do": "hold", "at": 0.5}, {"do": "shed"}]},
            "on_exhausted[0]: nothing can happen after hold; put hold last",
        ),
        (
            "usd",
            {"limit": "5/1d", "on_exhausted": [{"do": "degrade"}, {"do": "hold"}]},
            "on_exhausted: the steps must begin at different shares, in ascending order",
        ),
        ("usd", {"limit": "5/1d", "on_exhausted": "hold", "at": 80}, "at: 80 is not a share"),
        ("usd", {"limit": "5/1d", "reserve": 3}, "reserve: must be a table of shares by band"),
        ("usd", {"limit": "5/1d", "reserve": {"aa": 0.1}}, 'band "aa" is unknown; did you mean a?'),
        ("usd", {"limit": "5/1d", "reserve": {"a": 0}}, "reserve.a: 0 is not a share"),
        (
            "usd",
            {"limit": "5/1d", "reserve": {"a": 0.5, "b": "50%"}},
            "reserve: the shares add up to 1; keep them below 1",
        ),
        ("a b", "5/1d", f'{PLACE}."a b": a resource\'s name is 1 to 64'),
        ("usd", {"limit": "5/1d", "brst": 1}, "brst: unknown key; did you mean burst?"),
    ],
)
def test_a_mistake_of_a_budget_is_named_with_its_place(
    resource: str, said: object, expected: str
) -> None:
    """A budget that is not what it looks like is worse than none."""
    found = problems({**BANDS, "budgets": {"tenant:*": {resource: said}}})

    assert [True] == [expected in text for text in found], found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"budgets": 3}, "budgets: must be a table of budgets, not a number"),
        ({"budgets": {"fleet": "5/1d"}}, "budgets.fleet: must be a table of budgets by resource"),
        ({"budgets": {3: {}}}, 'budgets."<int>": the key must be text'),
        ({"budgets": {"tennant:*": {}}}, '"tennant" is not a scope; did you mean tenant?'),
        ({"budgets": {"Tenant:*": {}}}, '"Tenant" is not a scope; did you mean tenant?'),
        ({"budgets": {"xyz": {}}}, '"xyz" is not a scope; known: fleet, region, node, worker'),
        ({"budgets": {"fleet:*": {}}}, 'the fleet is one, and takes no pattern; write "fleet"'),
        ({"budgets": {"tenant": {}}}, 'tenant needs a pattern; write for example "tenant:*"'),
        ({"budgets": {"header": {}}}, 'write for example "header:x-team:*"'),
        ({"budgets": {"header:x": {}}}, "a header has a name and a pattern"),
        ({"budgets": {"header:a b:*": {}}}, "a header has a name and a pattern"),
        ({"budgets": {"task:": {}}}, 'budgets."task:": a pattern is text of 1 to 255'),
        ({"budgets": {"task: a": {}}}, 'the pattern has spaces around it; write "a"'),
        ({**BANDS, "budgets": {"band:d": {}}}, 'band "d" is unknown; the policy has a, b, c'),
        ({"budgets": {"band:a": {}}}, 'band "a" is unknown, as the policy has no bands'),
        (
            {"budgets": {"fleet": {"usd": {"limit": "5/1d", "on_exhausted": "demote"}}}},
            "there is no lower band to demote to",
        ),
        (
            {
                "bands": {"a": {}},
                "budgets": {"fleet": {"x": {"limit": "5/1d", "on_exhausted": "demote"}}},
            },
            "there is no lower band to demote to",
        ),
        (
            {**BANDS, "budgets": {"band:c": {"x": {"limit": "5/1d", "on_exhausted": "demote"}}}},
            "there is no lower band to demote to",
        ),
        ({"budgets": {f"task:{n}": {} for n in range(257)}}, "holds 257 tables; at most 256"),
        (
            {"budgets": {"fleet": {f"r{n}": "5/1d" for n in range(17)}}},
            "budgets.fleet: holds 17 budgets; at most 16",
        ),
        (
            {
                "budgets": {"fleet": {f"r{n}": "5/1d" for n in range(16)}},
                "tasks": {"t": {"cost": {"r1": 1, "cpu": 1, "more": 1}}},
            },
            "tasks.t.cost.more: is one custom resource too many; 16 are possible",
        ),
        ({"ceilings": []}, "ceilings: must be a table of ceilings, not a list"),
        ({"ceilings": {"node:*": {}}}, '"node" is not a scope; known: task, band, tenant, queue'),
        ({"ceilings": {"task:*": 3}}, 'ceilings."task:*": must be a table, not a number'),
        ({"ceilings": {"task:*": {"io": 3}}}, "io: unknown key; known: cpu, memory, runtime"),
        ({"ceilings": {"task:*": {"cpu": "0s"}}}, "cpu: must be more than zero"),
        ({"ceilings": {"task:*": {"cpu": "5MiB"}}}, "cpu: '5MiB' is not an amount of cpu"),
        ({"ceilings": {"task:*": {"grace": "5s"}}}, "limits nothing; write cpu, memory or runtime"),
        ({"tenants": 3}, "tenants: must be a table of rules, not a number"),
        ({"tenants": {"t": {"weight": 0}}}, "tenants.t.weight: expected float >= 0.001"),
        ({"tenants": {" t": {}}}, "the pattern has spaces around it"),
        ({**BANDS, "tasks": {"t": {"cost": 3}}}, "tasks.t.cost: must be a table, not a number"),
        ({**BANDS, "tasks": {"t": {"cost": {"cpu": -1}}}}, "tasks.t.cost.cpu: -1 is not an amount"),
        ({**BANDS, "tasks": {"t": {"cost": {"a b": 1}}}}, "a resource's name is 1 to 64"),
        (
            {"bands": {"a": {"on_ledger_loss": "lokal"}}},
            'bands.a.on_ledger_loss: "lokal" is not a way to go on; did you mean local?',
        ),
    ],
)
def test_a_mistake_of_a_table_is_named_with_its_place(
    source: dict[str, Any], expected: str
) -> None:
    """Keys are where the typing errors are: they have no editor's type to guide them."""
    found = problems(source)

    assert [True] == [expected in text for text in found], found


def test_mistakes_of_budgets_are_reported_at_once() -> None:
    """Below a key that was refused everything else is checked all the same."""
    found = problems(
        {"budgets": {"tennant:*": {"usd": {"limit": "5", "burst": "x", "at": 80}, "cpu": "1"}}}
    )

    assert 6 == len(found), found
