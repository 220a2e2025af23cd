"""Envelopes in the sender: which calls draw on which one, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import pytest
from celery import Celery, Task, chain, chord, group
from celery.signals import before_task_publish

from celery_budget import install
from celery_budget.errors import NotInstalled, OptionError, UnknownResource
from celery_budget.headers import HEADER, Stamp, read
from celery_budget.producer.inherited import opened
from celery_budget.task import budget

POLICY = {"envelopes": {"resources": ["usd", "cpu"]}}

MAPPING = {"usd": 2, "deadline": "10m"}


@pytest.fixture
def app() -> Iterator[Celery]:
    """Offer an app whose broker and results are in memory."""
    with Celery("app", broker="memory://", backend="cache+memory://") as app:
        install(app, policy=POLICY)
        yield app


@pytest.fixture
def task(app: Celery) -> Task:
    """Offer a task that takes anything."""

    @app.task(shared=False)
    def anything(*args: object) -> None: ...

    return anything


@pytest.fixture
def sent() -> Iterator[list[Stamp]]:
    """Collect the stamps of what is published."""
    stamps: list[Stamp] = []

    def receive(headers: dict[str, Any], **_signal: object) -> None:
        stamps.append(read(headers[HEADER]))

    before_task_publish.connect(receive)
    yield stamps
    before_task_publish.disconnect(receive)


def ids(sent: list[Stamp]) -> list[list[str]]:
    """Name the envelopes of each message."""
    return [[envelope.id for envelope in stamp.envelopes] for stamp in sent]


# --- budget.envelope ---


def test_what_is_published_inside_draws_on_it(task: Task, sent: list[Stamp]) -> None:
    """However it is published."""
    with budget.envelope(usd=2, deadline="10m") as envelope:
        task.delay()
        task.app.send_task("elsewhere")
        chord([task.s(), task.s()])(task.s())
        task.map([1, 2]).delay()
        task.chunks([(1,), (2,)], 1).apply_async()
    task.delay()

    assert [[envelope]] * 7 + [[]] == ids(sent)
    assert {"usd": 2_000_000} == sent[0].envelopes[0].limits
    assert {sent[0].envelopes[0]} == {stamp.envelopes[0] for stamp in sent[:-1]}


def test_its_deadline_is_the_parts_unless_theirs_is_earlier(task: Task, sent: list[Stamp]) -> None:
    """A part of urgent work is urgent."""
    with budget.envelope(deadline="10m"):
        task.apply_async(deadline="1m")
        task.apply_async(deadline="1h")
        task.delay()
    ends = sent[0].envelopes[0].deadline

    assert 59 < sent[0].deadline - sent[0].at <= 60
    assert [ends, ends] == [stamp.deadline for stamp in sent[1:]]


def test_envelopes_nest(task: Task, sent: list[Stamp]) -> None:
    """The inner one limits a part of what the outer one does."""
    with budget.envelope(usd=2) as outer:
        with budget.envelope(usd=1) as inner:
            task.delay()
        task.delay()

    assert [[outer, inner], [outer]] == ids(sent)


def test_an_error_inside_closes_it(task: Task, sent: list[Stamp]) -> None:
    """Else all that the process publishes later would draw on it."""
    with pytest.raises(ZeroDivisionError), budget.envelope(usd=2):
        _ = 1 / 0
    task.delay()

    assert [[]] == ids(sent)


def test_it_may_be_opened_again(task: Task, sent: list[Stamp]) -> None:
    """A workflow is often published in more than one place."""
    shared = budget.envelope(usd=2)
    with shared as first:
        task.delay()
    with shared as second, shared:
        task.delay()

    assert first == second
    assert [[first], [first]] == ids(sent)


def test_other_threads_are_outside(app: Celery) -> None:
    """A web server's next request is another workflow."""
    seen = []
    with budget.envelope(usd=2):
        thread = Thread(target=lambda: seen.append(opened.get()))
        thread.start()
        thread.join()

    assert [()] == seen


def test_five_inside_of_each_other_are_too_many(app: Celery) -> None:
    """It is told where the fifth is opened."""
    four = [budget.envelope(usd=1) for _ in range(4)]
    with four[0], four[1], four[2], four[3]:
        with pytest.raises(OptionError, match="inside of 4 others"), budget.envelope(usd=1):
            pass

        assert 4 == len(opened.get())
    assert 0 == len(opened.get())


def test_eager_and_plain_calls_work(task: Task) -> None:
    """A test-suite without a broker must not need another code path."""
    task.app.conf.task_always_eager = True
    with budget.envelope(usd=2) as envelope:
        task.delay()
        task()
    task.apply_async(envelope=MAPPING)

    assert envelope


def test_without_install_it_says_what_to_call() -> None:
    """An envelope that nobody keeps must not look like one."""
    with Celery("plain", broker="memory://"), pytest.raises(NotInstalled, match="install"):
        budget.envelope(usd=1)


@pytest.mark.parametrize("policy", [{}, {"bands": {"a": {}}}])
def test_without_accounts_it_says_what_to_add(policy: dict[str, Any]) -> None:
    """Workers keep no accounts under a policy that needs none."""
    with Celery("app", broker="memory://") as app:
        install(app, policy=policy)

        with pytest.raises(OptionError, match=re.escape("add [envelopes]")):
            budget.envelope(starts=1)


@pytest.mark.parametrize(
    ("asked", "error", "problem"),
    [
        ({}, OptionError, "option envelope: names neither an amount nor a deadline"),
        ({"usd": 0}, OptionError, "has nothing of usd; give more than zero"),
        ({"usd": "two"}, OptionError, "'two' is not an amount of usd"),
        ({"slots": 2}, OptionError, "names slots, which is held and given back"),
        ({"memory": "1GiB"}, OptionError, "names memory, which is held and given back"),
        ({"usdd": 2}, UnknownResource, "resource usdd is unknown"),
        ({"usdd": 2}, UnknownResource, "it names cpu, starts, usd; did you mean usd?"),
        ({"deadline": "soon"}, OptionError, "option envelope: is 'soon'"),
        ({"deadline": "31d"}, OptionError, "has a deadline beyond 30 days"),
        ({"deadline": datetime(2026, 1, 1)}, OptionError, "give it a time zone"),
        ({f"r{n}": 1 for n in range(9)}, OptionError, "names more than 8 resources"),
    ],
)
def test_what_means_nothing_is_refused_at_once(
    task: Task, sent: list[Stamp], asked: dict[str, Any], error: type[Exception], problem: str
) -> None:
    """Before anything of the workflow is published."""
    with pytest.raises(error, match=re.escape(problem)):
        budget.envelope(**asked)
    with pytest.raises(error, match=re.escape(problem)):
        task.apply_async(envelope=asked)

    assert [] == sent


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (2, "is 2; give a mapping such as"),
        ({"usd": 1, "id": "a b", "at": 1.0}, "has the id 'a b', which is no name"),
        ({"usd": 1, "id": "name"}, "has an id and not when it was made"),
        ({"usd": 1, "id": "name", "at": "noon"}, "has an id and not when it was made"),
        ({"a b": 1}, "names 'a b', which no resource can be called"),
    ],
)
def test_an_option_that_is_none_is_refused(task: Task, option: object, problem: str) -> None:
    """Its author sees what to write."""
    with pytest.raises(OptionError, match=re.escape(problem)):
        task.apply_async(envelope=option)


# --- the option ---

Publish = Callable[[Task, Any], object]

WORKFLOWS: list[tuple[str, Publish]] = [
    ("chain", lambda t, e: chain(t.s(), t.s()).apply_async(envelope=e)),
    ("chain set", lambda t, e: chain(t.s(), t.s()).set(envelope=e).delay()),
    ("group", lambda t, e: group(t.s(), t.s()).apply_async(envelope=e)),
    ("group set", lambda t, e: group(t.s(), t.s()).set(envelope=e).delay()),
    ("chord", lambda t, e: chord([t.s(), t.s()], t.s()).apply_async(envelope=e)),
    ("chord set", lambda t, e: chord([t.s(), t.s()], t.s()).set(envelope=e).delay()),
    ("chains", lambda t, e: group(chain(t.s(), t.s()), t.s()).apply_async(envelope=e)),
    ("groups", lambda t, e: group(group(t.s(), t.s()), t.s()).apply_async(envelope=e)),
    ("chunks", lambda t, e: t.chunks([(1,), (2,)], 1).apply_async(envelope=e)),
]


@pytest.mark.parametrize(
    ("publish", "protocol"),
    [
        pytest.param(publish, protocol, id=f"{name} {protocol}")
        for name, publish in WORKFLOWS
        for protocol in (1, 2)
        # Messages of protocol 1 do not tell the group that a chain is a part of.
        if (name, protocol) != ("chains", 1)
    ],
)
def test_a_mapping_is_one_envelope_for_one_workflow(
    task: Task, sent: list[Stamp], publish: Publish, protocol: int
) -> None:
    """Celery gives each part a copy of the option, and none says of which workflow it is."""
    task.app.conf.task_protocol = protocol
    publish(task, MAPPING)
    count = len(sent)
    publish(task, MAPPING)
    first, second = ids(sent)[:count], ids(sent)[count:]

    assert first == [first[0]] * count
    assert second == [second[0]] * count
    assert first[0] != second[0]
    assert MAPPING == {"usd": 2, "deadline": "10m"}


@pytest.mark.parametrize("publish", [pytest.param(p, id=name) for name, p in WORKFLOWS])
def test_an_envelope_may_be_made_before(task: Task, sent: list[Stamp], publish: Publish) -> None:
    """Then it is the same wherever it is given."""
    made = budget.envelope(usd="1.5", deadline=timedelta(minutes=10))
    publish(task, made)
    publish(task, json.loads(json.dumps(deepcopy(made))))

    with made as envelope:
        assert [[envelope]] * len(sent) == ids(sent)
    assert {1_500_000} == {stamp.envelopes[0].limits["usd"] for stamp in sent}
    assert 1 == len({stamp.envelopes[0].deadline for stamp in sent})


def test_an_option_is_inside_of_what_is_open(task: Task, sent: list[Stamp]) -> None:
    """As another block would be."""
    with budget.envelope(usd=2) as outer:
        task.apply_async(envelope={"usd": 1})

    assert outer == sent[0].envelopes[0].id
    assert 2 == len(sent[0].envelopes)


def test_a_retry_keeps_its_envelopes_and_gets_no_others(task: Task, sent: list[Stamp]) -> None:
    """A body may retry inside of an envelope that it opened for others."""
    with budget.envelope(usd=2) as envelope:
        task.delay()
    carried = {HEADER: json.dumps({"v": 1, "band": "default"})}
    with budget.envelope(usd=1):
        task.apply_async(headers=carried)
        task.apply_async(headers={HEADER: json.dumps(_header(sent[0]))})

    assert [[envelope], [], [envelope]] == ids(sent)


def _header(stamp: Stamp) -> dict[str, Any]:
    (envelope,) = stamp.envelopes
    said = {"id": envelope.id, "at": envelope.at, "limits": envelope.limits}
    return {"v": 1, "band": stamp.band, "envelopes": [said]}


def test_a_datetime_is_a_deadline(task: Task, sent: list[Stamp]) -> None:
    """The reader of a report knows when it is wanted."""
    moment = datetime.now(UTC) + timedelta(hours=1)
    with budget.envelope(deadline=moment):
        task.delay()

    assert moment.timestamp() == pytest.approx(sent[0].deadline, abs=0.001)
