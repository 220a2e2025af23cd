"""Loading a policy: what it means when it is right, and every mistake when it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from celery_budget.errors import PolicyError, Problem
from celery_budget.policy.load import load
from celery_budget.policy.model import Band, Policy, TaskRule

TOML = """
default_band = "important"
caller_options = ["deadline"]
seed = 7

[bands.critical]
preempts = true
reserve = 1
latency_target = "250ms"
deadline = "2s"

[bands.important]
queues = ["celery", "important"]
weight = 4
min_share = 0.05
expires = "1d"

[tasks."*"]
tenant = "{customer_id}"

[tasks."payments.*"]
band = "critical"
deadline = 5
"""

MEANING = Policy(
    bands=(
        Band(
            name="critical",
            rank=0,
            queues=("critical",),
            reserve=1,
            preempts=True,
            latency_target=0.25,
            deadline=2.0,
        ),
        Band(
            name="important",
            rank=1,
            queues=("celery", "important"),
            weight=4.0,
            min_share=0.05,
            expires=86_400.0,
        ),
    ),
    default_band="important",
    tasks=(
        TaskRule("payments.*", band="critical", deadline=5.0),
        TaskRule("*", tenant="{customer_id}"),
    ),
    caller_options=frozenset({"deadline"}),
    seed=7,
)


def problems(source: object) -> list[str]:
    """List what is wrong with a policy, one text a mistake."""
    with pytest.raises(PolicyError) as caught:
        load(source)  # type: ignore[arg-type]
    return [str(problem) for problem in caught.value.problems]


def bands(**tables: object) -> dict[str, object]:
    """Make a policy of these bands; the first is the default."""
    return {"default_band": next(iter(tables), ""), "bands": tables}


@pytest.mark.parametrize("source", [None, "", {}])
def test_no_policy_is_an_empty_policy(source: str | dict[str, object] | None) -> None:
    """An app that sets nothing must behave as without celery-budget."""
    assert Policy() == load(source)
    assert load(source).is_empty


def test_a_file_becomes_a_policy(tmp_path: Path) -> None:
    """Path and text of a path are both what users pass."""
    file = tmp_path / "budget.toml"
    file.write_text(TOML, encoding="utf-8")

    assert MEANING == load(file)
    assert MEANING == load(str(file))


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    """Editors on Windows write one, and the message about it would puzzle anybody."""
    file = tmp_path / "budget.toml"
    file.write_text(TOML, encoding="utf-8-sig")

    assert MEANING == load(file)


def test_the_only_band_is_the_default() -> None:
    """With one band there is nothing to choose."""
    assert "only" == load({"bands": {"only": {}}}).default_band


def test_rules_are_sorted_most_specific_first() -> None:
    """The first match decides, so the order is the precedence."""
    patterns = ["*", "a*", "a.*", "b.*", "a.b?", "a.[bcdefg]", "a.b"]
    policy = load({"bands": {"x": {}}, "tasks": {pattern: {} for pattern in patterns}})

    assert ["a.b", "a.b?", "a.*", "b.*", "a.[bcdefg]", "a*", "*"] == [
        rule.pattern for rule in policy.tasks
    ]


def test_every_mistake_is_reported_at_once() -> None:
    """A file mended mistake by mistake takes as many deployments as it has mistakes."""
    found = problems(
        {
            "default_band": "criticl",
            "sed": 3,
            "caller_options": ["bnad"],
            "bands": {
                "critical": {"wieght": 3, "reserve": "2", "min_share": 0.6},
                "important": {"queues": ["critical", 3], "deadline": "2x", "min_share": 0.5},
                "bad name": {},
            },
            "tasks": {
                "a.*": {"band": "imporant", "tenant": "{a.b}", "expires": 0},
                " b": {},
            },
        }
    )

    assert [
        "sed: unknown key; did you mean seed?",
        'caller_options[0]: "bnad" is not an option of a call; did you mean band?',
        "bands.critical.wieght: unknown key; did you mean weight?",
        "bands.critical.reserve: expected int, got str",
        "bands.important.queues[1]: expected str, got int",
        "bands.important.deadline: '2x' is not a duration: \"x\" is not a unit; use ms, s, m, h, d",
        'bands.important.queues: queue "critical" already belongs to band critical',
        'bands."bad name": a band\'s name is 1 to 64 of the characters A-Z a-z 0-9 _ . -',
        "bands: the min_share of all bands adds up to 1.1; keep it below 1",
        'tasks."a.*".expires: must be longer than zero; leave the key out for none',
        'tasks."a.*".band: band "imporant" is unknown; did you mean important?',
        (
            "tasks.\"a.*\".tenant: field 'a.b' is more than the name of an argument; "
            "write for example {customer_id}"
        ),
        'tasks." b": the pattern has spaces around it; write "b"',
        'default_band: band "criticl" is unknown; did you mean critical?',
    ] == found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (3, "a policy is a path or a table, not a number"),
        ({"bands": []}, "bands: must be a table of bands, not a list"),
        ({"tasks": 1}, "tasks: must be a table of rules, not a number"),
        (bands(a=None), "bands.a: must be a table, not nothing"),
        ({"bands": {"a": {}}, "tasks": {"t": "a"}}, "tasks.t: must be a table, not text"),
        ({"bands": {3: {}}}, 'bands."<int>": a band\'s name is'),
        (bands(a={3: 1}), 'bands.a."<int>": a key must be text, not a number'),
        ({"bands": {"": {}}}, 'bands."": a band\'s name is'),
        ({"bands": {"x" * 65: {}}}, "a band's name is"),
        (bands(a={"weight": 0}), "bands.a.weight: expected float >= 0.001"),
        (bands(a={"weight": -1}), "bands.a.weight: expected float >= 0.001"),
        (bands(a={"weight": float("nan")}), "bands.a.weight: expected float >= 0.001"),
        (bands(a={"weight": float("inf")}), "bands.a.weight: expected float <= 1000000"),
        (bands(a={"weight": "4"}), "bands.a.weight: expected float, got str"),
        (bands(a={"weight": 10**400}), "bands.a.weight: "),
        (bands(a={"reserve": -1}), "bands.a.reserve: expected int >= 0"),
        (bands(a={"reserve": True}), "bands.a.reserve: expected int, got bool"),
        (bands(a={"reserve": 1, "lend": 2}), "bands.a.lend: lends 2 slots of a reserve of 1"),
        (bands(a={"reserve_most": -1}), "bands.a.reserve_most: expected int >= 0"),
        (
            bands(a={"reserve": 2, "reserve_most": 1}),
            "bands.a.reserve_most: keeps 1 slots at most, and reserve keeps 2 in any case",
        ),
        (bands(a={"reserve": 1.5}), "bands.a.reserve: expected int, got float"),
        (bands(a={"min_share": 1}), "bands.a.min_share: expected float < 1"),
        (bands(a={"min_share": -0.1}), "bands.a.min_share: expected float >= 0"),
        (bands(a={"preempts": 1}), "bands.a.preempts: expected bool, got int"),
        (bands(a={"queues": "q"}), 'bands.a.queues: expected array, got str; write ["q"]'),
        (bands(a={"queues": []}), "bands.a.queues: expected array of length >= 1"),
        (bands(a={"queues": [""]}), "bands.a.queues[0]: expected str of length >= 1"),
        (bands(a={"queues": [" "]}), "bands.a.queues: holds a name that no queue can have"),
        (bands(a={"queues": ["q", "q"]}), "bands.a.queues: names a queue twice"),
        (bands(a={"latency_target": True}), "bands.a.latency_target: True is not a duration"),
        (bands(a={"latency_target": 0}), "bands.a.latency_target: must be longer than zero"),
        (bands(a={"expires": "-1s"}), "bands.a.expires: '-1s' is not a duration: it is negative"),
        (
            {"bands": {"a": {"queues": ["b"]}, "b": {}}, "default_band": "a"},
            (
                'bands.b.queues: queue "b" (its default, as it names no queues) already belongs to '
                "band a"
            ),
        ),
        (bands(**{f"b{n}": {} for n in range(65)}), "bands: holds 65 bands; at most 64"),
        (
            {"bands": {"a": {}, "b": {}}},
            "default_band: is missing, and there is more than one band; write one of a, b",
        ),
        ({"default_band": "a"}, 'default_band: band "a" is unknown, as the policy has no bands'),
        ({"bands": {"a": {}}, "default_band": 3}, "default_band: expected str, got int"),
        ({"tasks": {"t": {}}}, "bands: at least one band is needed for the rules in tasks"),
        (
            {"bands": {"a": {}}, "tasks": {"t": {"band": "zzz"}}},
            'tasks.t.band: band "zzz" is unknown; the policy has a',
        ),
        (
            {"bands": {"Critical": {}}, "default_band": "critical"},
            'default_band: band "critical" is unknown; did you mean Critical?',
        ),
        (
            {"bands": {"a": {}}, "tasks": {"payments": {"charge": {"band": "a"}}}},
            (
                "tasks.payments.charge: unknown key; "
                'names with dots need quotes: [tasks."payments.charge"]'
            ),
        ),
        ({"bands": {"a": {}}, "tasks": {"": {}}}, 'tasks."": a pattern is text of 1 to 255'),
        ({"bands": {"a": {}}, "tasks": {"x" * 256: {}}}, "a pattern is text of 1 to 255"),
        (
            {"bands": {"a": {}}, "tasks": {"t": {"tenant": "{x"}}},
            "tasks.t.tenant: the template is not balanced",
        ),
        ({"caller_options": ["x"]}, "known: band, tenant, deadline, expires"),
        ({"caller_options": "band"}, "caller_options: expected array, got str"),
        ({"seed": -1}, "seed: expected int >= 0"),
        ({"seed": 2**63}, "seed: "),
        ({"wholly": 1}, "wholly: unknown key; known: default_band, bands, tasks"),
    ],
)
def test_a_mistake_is_named_with_its_place(source: object, expected: str) -> None:
    """Each check has a reason in the worker; none may go by in silence."""
    found = problems(source)

    assert [True] == [expected in text for text in found], found


def test_a_band_that_was_refused_is_not_unknown_as_well() -> None:
    """One mistake is one line; echoes of it hide the others."""
    found = problems(
        {
            "default_band": "a b",
            "bands": {"a b": {}, "c": {}},
            "tasks": {"t": {"band": "a b"}},
        }
    )

    assert 1 == len(found)


def test_a_name_that_is_none_is_not_suggested() -> None:
    """It would reach the terminal of whoever reads the advice, with all that it can do there."""
    found = problems({"default_band": "a", "bands": {"A\x1f": {}}})

    assert 'default_band: band "a" is unknown' in found
    assert all(text.isprintable() for text in found), found


def test_wrong_queues_do_not_claim_the_bands_own_name() -> None:
    """A second message about a default that the author never meant would mislead."""
    source = {"default_band": "a", "bands": {"a": {"queues": ["b"]}, "b": {"queues": 3}}}

    assert ["bands.b.queues: expected array, got int"] == problems(source)


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        (b"seed = \n", ":1:8", "is not TOML: invalid value"),
        (b"[bands.a]\nweight = 1\nweight = 2\n", ":3:11", "is not TOML: cannot overwrite a value"),
        (b"[bands", "", "is not TOML: expected ']' at the end of a table declaration"),
        (b"seed = 1\nx = '\xff'\n", ":2", "is not UTF-8 text"),
        (b"seed = " + b"9" * 5_000, "", "is not TOML: exceeds the limit"),
        (b"seed = " + b"[" * 100_000, "", "is nested too deeply"),
        (b"#" * 1_048_577, "", "is larger than 1 MiB"),
    ],
)
def test_an_unreadable_file_is_a_policy_error_with_its_place(
    tmp_path: Path, content: bytes, place: str, message: str
) -> None:
    """Whoever loads a policy has one error to catch, and an editor a line to jump to."""
    file = tmp_path / "budget.toml"
    file.write_bytes(content)

    with pytest.raises(PolicyError) as caught:
        load(file)

    (problem,) = caught.value.problems
    assert f"{file}{place}" == problem.path
    assert problem.message.startswith(message), problem.message


@pytest.mark.parametrize("name", ["missing.toml", ".", "a\0b"])
def test_a_file_that_cannot_be_opened_is_a_policy_error(tmp_path: Path, name: str) -> None:
    """A typing error in the path is the most common mistake of all."""
    with pytest.raises(PolicyError, match="cannot be read"):
        load(tmp_path / name)


def test_the_list_of_mistakes_is_bounded() -> None:
    """A file that is no policy at all must not fill the log."""
    with pytest.raises(PolicyError) as caught:
        load({f"key{number}": 1 for number in range(3_000)})

    assert 1_001 == len(caught.value.problems)
    assert Problem("", "and 2000 more mistakes") == caught.value.problems[-1]
