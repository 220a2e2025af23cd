"""What every store of arrivals promises, and that all of them give equal answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from celery_budget.core.season import RECENT, REST, SEEN, WEEK, WEEKS, Row
from celery_budget.core.tally import (
    CREW_S,
    MOST_COUNT,
    MOST_ENTRIES,
    MOST_TYPES,
    Entry,
    Recent,
    Tally,
)
from celery_budget.errors import LedgerUnavailable
from celery_budget.stores.memory_arrivals import IDLE_US, MemoryArrivals
from celery_budget.stores.protocols import ArrivalStore
from celery_budget.stores.redis.arrivals import RedisArrivals
from celery_budget.stores.redis.connect import connect
from celery_budget.units import LARGEST
from tests.servers import Broker

#: A bin in the middle of a week.
WEEK_NUMBER = 2_800
BIN = WEEK_NUMBER * WEEK + 300
_namespaces = count()


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> ArrivalStore:
    """Run the test on every store there is."""
    if request.param == "memory":
        return MemoryArrivals(lambda: 0)
    broker: Broker = request.getfixturevalue("redis_broker")
    return RedisArrivals(Redis.from_url(broker.url), "test")


def tally(
    number: int,
    *entries: Entry,
    worker: str = "w",
    at: int = BIN,
    bands: tuple[str, ...] = ("critical",),
    slots: int = 2,
) -> Tally:
    """Tell of a band."""
    return Tally(worker, number, slots, 0.0, at, bands, entries)


def came(
    arrivals: int, task: str = "pay", at: int = BIN, busy_us: int = 0, band: str = "critical"
) -> Entry:
    """Tell that some came."""
    return Entry(band, task, at, arrivals, busy_us)


def test_what_workers_tell_adds_up(store: ArrivalStore) -> None:
    """That is what the fleet's arrivals are."""
    store.count(tally(1, came(3, busy_us=500), came(1, SEEN), worker="one"))
    answer = store.count(
        tally(1, came(4, busy_us=70), came(2, at=BIN - 1), came(1, "ünï"), worker="ünï", slots=5)
    )

    first = BIN - RECENT
    rows = {
        "pay": Row(570, [0] * (RECENT - 1) + [2, 7]),
        SEEN: Row(0, [0] * RECENT + [1]),
        "ünï": Row(0, [0] * RECENT + [1]),
    }
    assert {"critical": Recent({"one": 2, "ünï": 5}, first, rows)} == answer
    place = BIN % WEEK
    whole = store.weeks("critical", WEEK_NUMBER)[WEEK_NUMBER]
    assert Row(570, [0] * (place - 1) + [2, 7]) == whole["pay"]


def test_a_repeated_tally_adds_nothing_and_is_answered(store: ArrivalStore) -> None:
    """Its first answer was lost; neither does one that was overtaken."""
    store.count(tally(1, came(3)))
    store.count(tally(2, came(4)))
    answers = [store.count(tally(number, came(9))) for number in (2, 1)]

    assert [[7], [7]] == [answer["critical"].rows["pay"].counts[-1:] for answer in answers]


def test_weeks_and_bands_are_apart(store: ArrivalStore) -> None:
    """What was published last week is counted there, and is not answered."""
    before = BIN - WEEK
    answer = store.count(
        tally(
            1,
            came(3, at=before),
            came(4, band="other", at=before - WEEKS * WEEK + WEEK),
            came(5, band="other"),
            bands=("critical", "other", "third"),
        )
    )

    assert {} == answer["critical"].rows == answer["third"].rows
    assert [5] == answer["other"].rows["pay"].counts[-1:]
    assert [WEEK_NUMBER - 1] == list(store.weeks("critical", WEEK_NUMBER))
    assert [WEEK_NUMBER - WEEKS, WEEK_NUMBER] == list(store.weeks("other", WEEK_NUMBER))
    assert [WEEK_NUMBER - WEEKS] == list(store.weeks("other", WEEK_NUMBER - 1))
    assert {} == store.weeks("third", WEEK_NUMBER)


def test_only_some_task_types_have_rows_of_their_own(store: ArrivalStore) -> None:
    """Task names may be made at run time; no arrival is lost for that."""
    names = [f"task {number}" for number in range(MOST_TYPES + 3)]
    store.count(tally(1, came(1, SEEN), came(1, REST), *(came(1, name) for name in names)))
    answer = store.count(tally(2, came(1, names[0]), came(1, names[-1]), came(1, SEEN)))

    rows = answer["critical"].rows
    assert {SEEN, REST, *names[:MOST_TYPES]} == set(rows)
    assert (2, 5, 2) == tuple(rows[name].counts[-1] for name in (names[0], REST, SEEN))


def test_counts_stop_where_they_would_not_fit(store: ArrivalStore) -> None:
    """A wrong clock or a flood must not make them begin anew."""
    store.count(tally(1, came(MOST_COUNT - 1, busy_us=LARGEST - 1)))
    row = store.count(tally(2, came(5, busy_us=5)))["critical"].rows["pay"]

    assert (LARGEST, MOST_COUNT) == (row.busy_us, row.counts[-1])


def test_the_beginning_of_a_week_is_answered_alone(store: ArrivalStore) -> None:
    """Rows are of one week; the one before was read when it ended."""
    monday = WEEK_NUMBER * WEEK
    store.count(tally(1, came(3, at=monday), came(1, at=monday - 1), at=monday))
    answer = store.count(tally(2, came(2, at=monday + 1), at=monday + 1))["critical"]

    assert (monday, [3, 2]) == (answer.first, answer.rows["pay"].counts)


@pytest.mark.parametrize(
    "bad",
    [
        came(1, band="unknown"),
        came(1, at=BIN + WEEK),
        came(1, at=BIN - (WEEKS + 1) * WEEK),
        came(-1),
        came(MOST_COUNT + 1),
        came(1, busy_us=-1),
        came(1, busy_us=LARGEST + 1),
    ],
)
def test_what_cannot_be_is_not_told(bad: Entry) -> None:
    """The store reckons with what it gets."""
    with pytest.raises(ValueError, match="impossible Entry"):
        tally(1, bad)


def test_a_tally_is_bounded() -> None:
    """It keeps the store busy for as long as it is."""
    many = [came(1, f"task {number}") for number in range(MOST_ENTRIES + 1)]
    with pytest.raises(ValueError, match=rf"at most {MOST_ENTRIES} entries"):
        tally(1, *many)
    with pytest.raises(ValueError, match="each task once a bin"):
        tally(1, came(1), came(2))
    with pytest.raises(ValueError, match="1 to 64 bands"):
        tally(1, bands=())
    with pytest.raises(ValueError, match="1 to 64 bands"):
        tally(1, bands=("a", "a"))
    with pytest.raises(ValueError, match="number 0"):
        tally(0)
    with pytest.raises(ValueError, match="slots 0"):
        tally(1, slots=0)


# --- equality ---

BANDS = ("critical", "größe")


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Invent what a worker may have counted."""
    return Entry(
        draw(st.sampled_from(BANDS)),
        draw(st.sampled_from([REST, SEEN, "pay", "дом", *(f"t{n}" for n in range(10))])),
        BIN + draw(st.one_of(st.integers(-20, 0), st.sampled_from([-WEEK, -WEEKS * WEEK]))),
        draw(st.one_of(st.integers(0, 5), st.just(MOST_COUNT))),
        draw(st.one_of(st.integers(0, 5), st.just(LARGEST))),
    )


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    """Invent a tally; its number is how far the worker goes on, and 1 is a repeated one."""
    found = draw(st.lists(entries(), max_size=12, unique_by=lambda entry: entry[:3]))
    worker = draw(st.sampled_from(["w", "дом"]))
    number = draw(st.sampled_from([2, 2, 2, 3, 1]))
    return tally(number, *found, worker=worker, bands=BANDS, slots=draw(st.integers(1, 9)))


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=st.lists(st.one_of(tallies(), tallies(), st.none()), max_size=12))
def test_memory_and_redis_are_equal(redis_broker: Broker, history: list[Tally | None]) -> None:
    """The rule is written twice; now and then everything is lost."""
    memory = MemoryArrivals(lambda: 0)
    numbers: Counter[str] = Counter()
    with Redis.from_url(redis_broker.url) as client:
        redis = RedisArrivals(client, f"équal{next(_namespaces)}")
        for each in history:
            if each is None:
                memory.clear()
                client.flushdb()
                continue
            number = max(1, numbers[each.worker] + each.number - 1)
            numbers[each.worker] = number
            numbered = replace(each, number=number)

            assert memory.count(numbered) == redis.count(numbered)
            for band in BANDS:
                assert memory.weeks(band, WEEK_NUMBER) == redis.weeks(band, WEEK_NUMBER)


# --- what is special of each ---


def test_memory_forgets_who_is_gone_and_what_is_old() -> None:
    """A worker that was killed takes no part any more."""
    now = 0
    store = MemoryArrivals(lambda: now)
    store.count(tally(1, came(1), worker="gone"))
    now = CREW_S * 1_000_000 - 1
    both = store.count(tally(1, worker="stays"))["critical"].crew
    now += 1
    one = store.count(tally(2, worker="stays"))["critical"].crew
    now = IDLE_US - 1
    kept = store.weeks("critical", WEEK_NUMBER)
    now += 1

    assert ({"gone": 2, "stays": 2}, {"stays": 2}) == (both, one)
    assert [WEEK_NUMBER] == list(kept)
    assert {} == store.weeks("critical", WEEK_NUMBER)


def test_redis_forgets_who_is_gone_and_what_is_old(redis_broker: Broker) -> None:
    """Nothing else would remove it; and all keys are in one slot."""
    with Redis.from_url(redis_broker.url, decode_responses=True) as client:
        store = RedisArrivals(connect(redis_broker.url), "n")
        now = int(client.time()[0])
        crew = "{celery-budget:n}:crew:critical"
        client.hset(crew, mapping={"gone": f"2 {now - CREW_S - 1}", "there": f"3 {now - 1}"})
        answer = store.count(tally(1, came(1), came(1, at=BIN - WEEK)))["critical"]
        lives = {key: client.ttl(key) for key in client.keys("*")}

        assert {"w": 2, "there": 3} == answer.crew
        assert {"w", "there"} == set(client.hkeys(crew))
        eight_weeks = 8 * 7 * 86_400
        assert {
            "{celery-budget:n}:tallies:w": 3_600,
            crew: 3_600,
            f"{{celery-budget:n}}:arrivals:{WEEK_NUMBER}:critical": eight_weeks,
            f"{{celery-budget:n}}:arrivals:{WEEK_NUMBER - 1}:critical": eight_weeks,
        } == pytest.approx(lives, abs=30)


def test_redis_that_is_away_or_refuses_is_told_as_such(redis_broker: Broker) -> None:
    """Workers go on with what they know."""
    away = RedisArrivals(connect("redis://127.0.0.1:1/0"), "n")
    with Redis.from_url(redis_broker.url) as client:
        client.set(f"{{celery-budget:n}}:arrivals:{WEEK_NUMBER}:critical", "not ours")
        refused = RedisArrivals(client, "n")

        with pytest.raises(LedgerUnavailable, match=r"\(count: "):
            away.count(tally(1, came(1)))
        with pytest.raises(LedgerUnavailable, match=r"\(arrivals: "):
            away.weeks("critical", WEEK_NUMBER)
        with pytest.raises(LedgerUnavailable, match="WRONGTYPE"):
            refused.count(tally(1, came(1)))
        with pytest.raises(LedgerUnavailable, match="WRONGTYPE"):
            refused.weeks("critical", WEEK_NUMBER)
        client.flushdb()
        client.hset(f"{{celery-budget:n}}:arrivals:{WEEK_NUMBER}:critical", "pay", "x")
        with pytest.raises(LedgerUnavailable, match=r"\(count: "):
            refused.count(tally(1, came(1)))
        with pytest.raises(LedgerUnavailable, match=r"\(arrivals: not as kept"):
            refused.weeks("critical", WEEK_NUMBER)
