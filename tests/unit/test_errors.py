"""The error tree: errors cross the border between processes and tell what to do."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from celery_budget import errors
from celery_budget.errors import (
    AmountError,
    BandOverloaded,
    BudgetError,
    BudgetRefused,
    CeilingExceeded,
    CheckpointTooLarge,
    DurationError,
    HeaderError,
    LedgerUnavailable,
    MoveError,
    NotInstalled,
    NotInTask,
    OptionError,
    PolicyError,
    Problem,
    StateUnavailable,
    TaskNotFound,
    UnknownResource,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"

SAMPLES: list[tuple[BudgetError, str]] = [
    (BudgetError("plain"), "plain"),
    (DurationError("'2x'", '"x" is not a unit'), "'2x' is not a duration: \"x\" is not a unit"),
    (
        AmountError("an amount of memory", "'12M'", '"M" is not a unit'),
        "'12M' is not an amount of memory: \"M\" is not a unit",
    ),
    (
        PolicyError([Problem("bands.a.wieght", "unknown key", "did you mean weight?")]),
        "the policy has a mistake:\n  bands.a.wieght: unknown key; did you mean weight?",
    ),
    (
        PolicyError([Problem("seed", "is wrong"), Problem("", "and 3 more mistakes")]),
        "the policy has 2 mistakes:\n  seed: is wrong\n  and 3 more mistakes",
    ),
    (HeaderError("band", "is missing"), "header budget, field band: is missing"),
    (HeaderError("", "must be an object"), "header budget: must be an object"),
    (OptionError("band", "'x' is unknown"), "option band: 'x' is unknown"),
    (
        OptionError("band", "'x' is unknown", "did you mean y?"),
        "option band: 'x' is unknown; did you mean y?",
    ),
    (
        NotInTask("deadline"),
        (
            "budget.deadline was used outside a task; "
            "call it from the task's body or from code that the body runs"
        ),
    ),
    (
        LedgerUnavailable("exchange", "Connection refused"),
        (
            "the ledger is unavailable (exchange: Connection refused); "
            "check the server behind budget_ledger_url"
        ),
    ),
    (
        StateUnavailable("load", "Connection refused"),
        (
            "the state store is unavailable (load: Connection refused); "
            "check the server behind budget_state_url"
        ),
    ),
    (
        CheckpointTooLarge(2_000, 1_024),
        (
            "a checkpoint of 2000 bytes is larger than the 1024 that are possible; keep the data "
            "elsewhere and its place in the checkpoint, or raise max_checkpoint under [preemption]"
        ),
    ),
    (
        BandOverloaded("optional", 12, 7.4),
        "12 tasks of band optional wait, more than bands.optional.max_queued; try again in 7 s",
    ),
    (
        BudgetRefused("tenant:acme usd", 'budgets."tenant:*".usd'),
        'tenant:acme usd is used up, and budgets."tenant:*".usd sheds what comes then',
    ),
    (
        CeilingExceeded("memory", "530MiB", "512MiB", 'ceilings."task:*".memory'),
        'memory 530MiB is above the 512MiB of ceilings."task:*".memory',
    ),
    (
        UnknownResource("usdd", ["usd"], "did you mean usd?"),
        ("resource usdd is unknown: the policy does not name it; it names usd; did you mean usd?"),
    ),
    (TaskNotFound("4f", ("w1", "queue x")), "task 4f was not found; searched: w1, queue x"),
    (TaskNotFound("4f", []), "task 4f was not found: nobody answered; is a worker running?"),
    (MoveError("4f", "it runs already"), "task 4f was not moved: it runs already"),
    (
        NotInstalled("shop"),
        (
            "the app shop has no celery-budget; where it is made, add: "
            "from celery_budget import install; install(app)"
        ),
    ),
]

CLASSES = {
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, BudgetError)
}


def test_every_class_has_a_sample_here() -> None:
    """A new error without a sample would escape the pickle test."""
    assert {type(sample) for sample, _ in SAMPLES} == CLASSES


def test_who_cleans_up_at_celerys_soft_time_limit_does_at_a_ceiling() -> None:
    """The same body must not need to know both."""
    assert issubclass(CeilingExceeded, SoftTimeLimitExceeded)


@pytest.mark.parametrize("sample", [sample for sample, _ in SAMPLES], ids=repr)
def test_an_error_survives_the_way_out_of_a_child_process(sample: BudgetError) -> None:
    """billiard pickles what a task raised; an error that cannot be rebuilt kills the result."""
    copy = pickle.loads(pickle.dumps(sample))

    assert type(sample) is type(copy)
    assert str(sample) == str(copy)
    assert vars(sample) == vars(copy)


@pytest.mark.parametrize(("sample", "text"), SAMPLES, ids=lambda value: repr(value)[:40])
def test_an_error_says_what_is_wrong_and_where(sample: BudgetError, text: str) -> None:
    """The text is all that most people will see of an error."""
    assert text == str(sample)


@pytest.mark.parametrize("error", sorted(CLASSES, key=lambda found: found.__name__))
def test_every_error_is_on_the_reference_page(error: type[BudgetError]) -> None:
    """Who meets an error looks it up by its name."""
    assert f"## `{error.__name__}" in PAGE.read_text(encoding="utf-8")
