"""When a worker tells the fleet what it has seen, and what it does with the answer."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from celery_budget.core.decisions import Start
from celery_budget.core.exchange import Line, Report
from celery_budget.core.lesson import Lesson
from celery_budget.core.reporting import IDLE_S
from celery_budget.core.sketch import Profile, Sketch, bucket_of
from celery_budget.errors import LedgerUnavailable
from celery_budget.stores.memory_profiles import MemoryProfiles
from celery_budget.worker import leases
from celery_budget.worker import lessons as module
from celery_budget.worker.lessons import LESSON_S
from tests.unit.core.worker import NOW, ticket
from tests.unit.worker.test_leases import ONE, Desk


class Deaf(MemoryProfiles):
    """A store that can be out of reach, before or after it has heard."""

    is_away = False
    is_silent = False

    def learn(self, lesson: Lesson) -> dict[str, Profile]:
        """Learn unless the lesson does not arrive; the answer may be lost."""
        if self.is_away:
            raise LedgerUnavailable("learn", "nobody there")
        answer = super().learn(lesson)
        if self.is_silent:
            raise LedgerUnavailable("learn", "no answer")
        return answer


class Pupil(Desk):
    """A worker that learns."""

    def __init__(self) -> None:
        self.profiles = Deaf(lambda: 0)
        super().__init__(profiles=self.profiles)

    def run(self, usd: int) -> None:
        """Run a task of an unknown cost from its start to its end."""
        held = ticket("default")
        self.dispatcher.offer(held, NOW)
        while not isinstance(self.dispatcher.decide(NOW), Start):
            self.exchange()
        self.dispatcher.ended(held, NOW + 1, usage={"usd": usd})

    @property
    def count(self) -> int:
        """Tell how many executions the fleet has seen."""
        found = self.profiles.profiles()
        return found["task"]["usd"].count if found else 0


@pytest.fixture
def pupil(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pupil]:
    """Open a worker whose clock stands still."""
    made = Pupil()
    monkeypatch.setattr(leases, "monotonic", lambda: made.now)
    monkeypatch.setattr(leases, "time", lambda: NOW + made.now)
    made.open()
    yield made
    made.leases.close()


def test_what_was_seen_is_told_every_few_seconds(pupil: Pupil) -> None:
    """With each report it would cost the store more than the report does."""
    pupil.run(ONE)
    pupil.exchange(LESSON_S)
    pupil.run(ONE)
    counts = [pupil.count]
    # Its start may have taken one.
    pupil.exchange(LESSON_S - 2 * IDLE_S)
    counts.append(pupil.count)
    pupil.exchange(2 * IDLE_S)

    assert [1, 1, 2] == [*counts, pupil.count]


def test_a_task_type_that_is_met_is_asked_for_at_once(pupil: Pupil) -> None:
    """What is set aside for its first execution depends on it."""
    known = Sketch()
    known.observe(bucket_of(ONE), bucket_of(ONE))
    pupil.exchange(LESSON_S)
    pupil.profiles.learn(Lesson("other", 1, (("task", {"usd": known}),)))
    pupil.dispatcher.offer(ticket("default"), NOW)
    pupil.dispatcher.decide(NOW)
    pupil.exchange(0.05)

    assert pupil.accounts.profiles.estimate("task", "usd") == pytest.approx(ONE, rel=0.05)


def test_what_waits_for_a_guess_goes_on_when_it_was_too_much(pupil: Pupil) -> None:
    """A tenth of what is guessed may be left, and be enough."""
    cheap = Sketch()
    cheap.observe(bucket_of(ONE // 100), 0)
    pupil.profiles.learn(Lesson("other", 1, (("task", {"usd": cheap}),)))
    held = ticket("default")
    pupil.dispatcher.offer(held, NOW)
    pupil.dispatcher.decide(NOW)
    rule = pupil.accounts.allowances["fleet usd"].rule
    spent = Line("fleet usd", rule, spent=10 * ONE - ONE // 20)
    pupil.ledger.exchange(Report("other", 1, "", 0, (spent,)))
    decisions = []
    for _ in range(3):
        pupil.exchange()
        decisions.append(pupil.dispatcher.decide(NOW))

    assert any(isinstance(decision, Start) for decision in decisions)


@pytest.mark.parametrize("way", ["is_away", "is_silent"])
def test_a_lesson_that_was_not_answered_counts_once(
    pupil: Pupil, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it was lost or only the answer; and one line of the log tells of it."""
    caplog.set_level(logging.INFO, module.__name__)
    pupil.run(ONE)
    setattr(pupil.profiles, way, True)
    for _ in range(3):
        pupil.exchange(LESSON_S)
    pupil.run(ONE)
    setattr(pupil.profiles, way, False)
    for _ in range(2):
        pupil.exchange(LESSON_S)

    assert 2 == pupil.count
    assert 2 * ONE == pupil.spent()
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("the ledger is unavailable (learn: ")


def test_a_ledger_that_is_away_is_told_of_once(
    pupil: Pupil, caplog: pytest.LogCaptureFixture
) -> None:
    """Reports say it already."""
    caplog.set_level(logging.INFO)
    pupil.run(ONE)
    pupil.ledger.is_away = pupil.profiles.is_away = True
    for _ in range(5):
        pupil.exchange(LESSON_S)
    pupil.ledger.is_away = pupil.profiles.is_away = False
    for _ in range(3):
        pupil.exchange(LESSON_S)

    assert 1 == pupil.count
    assert 2 == len(caplog.records)


def test_what_is_left_is_told_at_the_end(pupil: Pupil) -> None:
    """Also when the last report is under way."""
    pupil.run(ONE)
    pupil.now += IDLE_S
    pupil.leases.poll()
    pupil.leases.close()

    assert 1 == pupil.count
    assert ONE == pupil.spent()
