"""When tasks are asked to do less, and for how long."""

from __future__ import annotations

from collections.abc import Callable

from celery_budget.core.decisions import Start
from celery_budget.core.degrading import GRACE_S, MOST_REST_S, REST_S, Degrading
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.throttle import ENOUGH
from celery_budget.core.ticket import Ticket
from celery_budget.policy.model import Band
from tests.unit.core.worker import NOW, run, start, ticket


def follow(
    degrading: Degrading, shortage: Callable[[], float], begin: float, end: float
) -> list[float]:
    """Tell when it began or ended, in seconds, from one second to another."""
    turns = []
    for second in range(int(begin), int(end)):
        before = degrading.is_on
        degrading.step(shortage(), ENOUGH, NOW + second, is_free=True)
        if degrading.is_on != before:
            turns.append(float(second))
    return turns


def test_it_begins_with_the_shortage_and_ends_after_a_rest() -> None:
    """At once, and some seconds after the last one."""
    degrading = Degrading()

    assert [0] == follow(degrading, lambda: 1.0, 0, 30)
    assert [30 + REST_S] == follow(degrading, lambda: 0.0, 30, 100)


def test_it_does_not_end_while_slots_are_taken() -> None:
    """They come back first."""
    degrading = Degrading()
    follow(degrading, lambda: 1.0, 0, 1)
    for second in range(1, 100):
        degrading.step(0.0, ENOUGH, NOW + second, is_free=False)
    assert degrading.is_on
    assert [100 + REST_S] == follow(degrading, lambda: 0.0, 100, 200)


def test_it_lasts_longer_where_it_is_what_helps() -> None:
    """The shortage is back as soon as tasks do all again."""
    degrading = Degrading()
    turns = follow(degrading, lambda: 0.0 if degrading.is_on else 1.0, 0, 2_000)
    lasted = [end - begin for begin, end in zip(turns[::2], turns[1::2], strict=False)]

    assert [6, 11, 21, 41, 81, 161] == lasted[:6]
    assert MOST_REST_S + 1 == max(lasted)


def test_what_is_long_ago_does_not_count() -> None:
    """A shortage of tomorrow has other reasons."""
    degrading = Degrading()
    follow(degrading, lambda: 0.0 if degrading.is_on else 1.0, 0, 100)
    follow(degrading, lambda: 0.0, 100, 1_000)
    turns = follow(degrading, lambda: 1.0 if not degrading.is_on else 0.0, 1_000, 1_020)

    assert [1_000, 1_006] == turns[:2]


def test_a_clock_that_is_set_back_does_not_prolong_it() -> None:
    """By an hour, in the midst of the rest."""
    degrading = Degrading()
    follow(degrading, lambda: 1.0, 0, 1)
    follow(degrading, lambda: 0.0, 1, 3)

    assert [-3_600 + REST_S] == follow(degrading, lambda: 0.0, -3_600, -3_500)


BANDS = [Band("critical", 0, preempts=True, latency_target=0.1), Band("optional", 1)]


def able(band: str = "optional") -> Ticket:
    """Make a ticket that can do less."""
    made = ticket(band)
    made.can_degrade = True
    return made


def late(dispatcher: Dispatcher, seconds: int, begin: int = 0) -> None:
    """Let critical tickets start late for some seconds."""
    for second in range(begin, begin + seconds):
        for _ in range(4):
            now = NOW + second + 0.5
            dispatcher.offer(ticket("critical", published=now - 1.0), now)
            dispatcher.ended(start(dispatcher, now), now)
        run(dispatcher, now=NOW + second + 1)


def test_those_that_can_do_less_are_asked_before_slots_are_taken() -> None:
    """For two seconds, and then both."""
    dispatcher = Dispatcher(BANDS, 4)
    dispatcher.ended(run(dispatcher, able())[0].ticket, NOW)  # type: ignore[union-attr]
    late(dispatcher, 2)
    assert dispatcher.is_degraded("optional")
    assert 1.0 == dispatcher.throttled_to("optional")
    late(dispatcher, 1 + int(GRACE_S), begin=2)
    assert dispatcher.throttled_to("optional") < 1.0


def test_only_those_that_can_are_asked() -> None:
    """The others of the band do all they do; a band without such is throttled at once."""
    dispatcher = Dispatcher(BANDS, 4)
    dispatcher.ended(run(dispatcher, able())[0].ticket, NOW)  # type: ignore[union-attr]
    late(dispatcher, 2)
    asked, other = able(), ticket("optional")
    decisions = run(dispatcher, asked, other, now=NOW + 2.5)
    told = {each.ticket.id: each.is_degraded for each in decisions if isinstance(each, Start)}
    assert {asked.id: True, other.id: False} == told

    plain = Dispatcher(BANDS, 4)
    late(plain, 2)
    assert plain.throttled_to("optional") < 1.0
    assert not plain.is_degraded("optional")


def test_a_band_does_less_for_its_own_target() -> None:
    """Though nothing is above it, and nothing is throttled for it."""
    dispatcher = Dispatcher([BANDS[0]], 4)
    dispatcher.ended(run(dispatcher, able("critical"))[0].ticket, NOW)  # type: ignore[union-attr]
    assert not dispatcher.is_degraded("critical")
    late(dispatcher, 2)

    assert dispatcher.is_degraded("critical")


def test_a_few_waits_are_enough_if_they_go_on() -> None:
    """One a second begins it in the fourth, and a calm one between begins anew."""
    degrading = Degrading()
    for second in range(8):
        degrading.step(0.0 if second == 3 else 1.0, 1, NOW + second, is_free=True)
        assert degrading.is_on is (second == 7)


def test_no_slots_are_taken_before_less_was_asked_for() -> None:
    """However little tells the shortage."""
    dispatcher = Dispatcher(BANDS, 4)
    dispatcher.ended(run(dispatcher, able())[0].ticket, NOW)  # type: ignore[union-attr]
    for second in range(8):
        now = NOW + second + 0.5
        dispatcher.offer(ticket("critical", published=now - 1.0), now)
        dispatcher.ended(start(dispatcher, now), now)
        run(dispatcher, now=NOW + second + 1)
        assert dispatcher.throttled_to("optional") == 1.0 or dispatcher.is_degraded("optional")
    assert dispatcher.throttled_to("optional") < 1.0
