"""What every store of profiles promises, and that all of them give equal answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from celery_budget.core.lesson import MOST_TASKS, Lesson
from celery_budget.core.sketch import LAST_BUCKET, MOST_WEIGHT, WEIGHT, Profile, Sketch
from celery_budget.errors import LedgerUnavailable
from celery_budget.stores.memory_profiles import IDLE_US, MemoryProfiles
from celery_budget.stores.protocols import ProfileStore
from celery_budget.stores.redis.connect import connect
from celery_budget.stores.redis.profiles import MOST_READ, RedisProfiles
from celery_budget.units import LARGEST
from tests.servers import Broker

DAY_S = 86_400
_namespaces = count()


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> ProfileStore:
    """Run the test on every store there is."""
    if request.param == "memory":
        return MemoryProfiles(lambda: 0)
    broker: Broker = request.getfixturevalue("redis_broker")
    return RedisProfiles(Redis.from_url(broker.url), "test")


def sketch(*used: int, aside: int = 40) -> Sketch:
    """Make one of the buckets of what executions used."""
    made = Sketch()
    for bucket in used:
        made.observe(bucket, aside)
    return made


def told(number: int, *used: int, worker: str = "w", task: str = "task") -> Lesson:
    """Tell of one task and resource."""
    return Lesson(worker, number, ((task, {"usd": sketch(*used)}),))


def test_what_workers_tell_adds_up(store: ProfileStore) -> None:
    """That is what the fleet's profile is."""
    store.learn(told(1, 50, 60, worker="one"))
    answer = store.learn(told(1, 60, 20, worker="ünï"))

    assert {"task": {"usd": sketch(50, 60, 60, 20)}} == answer
    assert answer == store.profiles()


def test_resources_are_apart(store: ProfileStore) -> None:
    """One lesson tells of all that was metered, another of some."""
    store.learn(Lesson("w", 1, (("task", {"usd": sketch(50), "cpu": sketch(90)}),)))
    answer = store.learn(Lesson("w", 2, (("task", {"cpu": sketch(91), "größe": sketch(1)}),)))

    assert {"usd": sketch(50), "cpu": sketch(90, 91), "größe": sketch(1)} == answer["task"]


def test_a_repeated_lesson_adds_nothing_and_is_answered(store: ProfileStore) -> None:
    """Its first answer was lost; neither does one that was overtaken."""
    store.learn(told(1, 50))
    store.learn(told(2, 60))
    answers = [store.learn(told(number, 70)) for number in (2, 1)]

    assert [{"task": {"usd": sketch(50, 60)}}] * 2 == answers


def test_what_is_asked_for_is_given_and_not_made(store: ProfileStore) -> None:
    """A worker that is new has nothing to tell."""
    store.learn(told(1, 50))
    answer = store.learn(Lesson("new", 1, asked=("task", "unknown")))

    assert {"task": {"usd": sketch(50)}} == answer == store.profiles()
    assert {} == store.learn(Lesson("new", 2, asked=("unknown",)))


def test_what_is_old_weighs_half(store: ProfileStore) -> None:
    """A change of code is followed."""
    full = MOST_WEIGHT // WEIGHT
    store.learn(told(1, *[10] * full))
    (answer,) = store.learn(told(2, *[90] * 3))["task"].values()

    assert MOST_WEIGHT // 2 < answer.total <= MOST_WEIGHT // 2 + 3 * WEIGHT
    assert {10: full * WEIGHT // 2, 90: 3 * WEIGHT // 2} == answer.buckets
    assert full + 3 == answer.count


def test_a_count_stays_exact_and_within_what_lua_can_count(store: ProfileStore) -> None:
    """After a billion years it stands still."""
    for number, seen in enumerate([LARGEST - 2, 1, 5], 1):
        store.learn(Lesson("w", number, (("task", {"usd": Sketch(seen, 64, 0, 0, {1: 64})}),)))

    assert LARGEST == store.profiles()["task"]["usd"].count


def test_the_farthest_buckets_have_room_beside_one_another(store: ProfileStore) -> None:
    """Whatever came first."""
    orders = [(0, LAST_BUCKET, 100), (100, 0, LAST_BUCKET), (LAST_BUCKET, 0, 100)]
    for place, order in enumerate(orders):
        for number, bucket in enumerate(order, 1):
            store.learn(told(number, bucket, worker=f"w{place}", task=f"task {place}"))

    assert [sketch(0, 100, LAST_BUCKET)] * 3 == [
        profile["usd"] for profile in store.profiles().values()
    ]


def test_named_profiles_and_some_of_all_can_be_looked_up(store: ProfileStore) -> None:
    """The catalogue of a large app must not hold up the fleet."""
    for number in range(MOST_READ + 10):
        store.learn(told(number + 1, 50, task=f"task {number}"))

    assert MOST_READ + 10 == len(store.profiles())
    assert MOST_READ + 1 == len(store.profiles(most=MOST_READ + 1))
    assert ["task 3", "task 1"] == list(store.profiles(["task 3", "unknown", "task 1"]))
    assert ["task 3"] == list(store.profiles(["task 3", "task 1"], most=1))


@pytest.mark.parametrize(
    "bad",
    [
        Sketch(0, 0, 0, 0, {}),
        Sketch(1, 64, 0, 0, {1: 63}),
        Sketch(1, 64, 65, 0, {1: 64}),
        Sketch(1, 64, 0, 64 * (LAST_BUCKET + 1), {1: 64}),
        Sketch(1, 64, 0, 0, {LAST_BUCKET + 1: 64}),
        Sketch(1, 64, 0, 0, {-1: 64}),
        Sketch(1, 64, 0, 0, {1: 64, 2: 0}),
        Sketch(LARGEST + 1, 64, 0, 0, {1: 64}),
        Sketch(1, MOST_WEIGHT + 1, 0, 0, {1: MOST_WEIGHT + 1}),
    ],
)
def test_what_cannot_be_is_not_told(bad: Sketch) -> None:
    """The store reckons with what it gets."""
    with pytest.raises(ValueError, match="impossible sketch of usd"):
        Lesson("w", 1, (("task", {"usd": bad}),))


def test_a_lesson_is_bounded() -> None:
    """It keeps the store busy for as long as it is."""
    many = tuple(f"task {number}" for number in range(MOST_TASKS + 1))
    profile = {f"r{number}": sketch(1) for number in range(MOST_TASKS + 1)}
    with pytest.raises(ValueError, match=rf"1 to {MOST_TASKS} tasks, not {MOST_TASKS + 1}"):
        Lesson("w", 1, asked=many)
    with pytest.raises(ValueError, match=rf"1 to {MOST_TASKS} tasks, not 0"):
        Lesson("w", 1)
    with pytest.raises(ValueError, match=rf"at most {MOST_TASKS} sketches"):
        Lesson("w", 1, (("task", profile),))
    with pytest.raises(ValueError, match="each task once"):
        Lesson("w", 1, (("task", {"usd": sketch(1)}),), ("task",))
    with pytest.raises(ValueError, match="number 0"):
        Lesson("w", 0, asked=("task",))


# --- equality ---

buckets = st.one_of(st.integers(0, LAST_BUCKET), st.integers(100, 110))
#: Of some executions, or of so many that what is known fades.
weights = st.one_of(st.integers(1, 9 * WEIGHT), st.integers(MOST_WEIGHT // 9, MOST_WEIGHT // 8))


@st.composite
def sketches(draw: st.DrawFn) -> Sketch:
    """Invent what a worker may tell, up to as much as it may."""
    found = draw(st.dictionaries(buckets, weights, min_size=1, max_size=8))
    total = sum(found.values())
    return Sketch(
        draw(st.integers(1, LARGEST)),
        total,
        draw(st.integers(0, total)),
        draw(st.integers(0, LAST_BUCKET * total)),
        found,
    )


TASKS = ("a", "b", "ünï")
profiles: st.SearchStrategy[Profile] = st.dictionaries(
    st.sampled_from(["usd", "cpu", "größe"]), sketches(), min_size=1
)


@st.composite
def lessons(draw: st.DrawFn) -> Lesson:
    """Invent a lesson; its number is how far the worker goes on, and 1 is a repeated one."""
    named = draw(st.lists(st.sampled_from(TASKS), unique=True, min_size=1))
    tells = draw(st.integers(0, len(named)))
    tell = tuple((task, draw(profiles)) for task in named[:tells])
    worker = draw(st.sampled_from(["w", "дом"]))
    return Lesson(worker, draw(st.sampled_from([2, 2, 2, 3, 1])), tell, tuple(named[tells:]))


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=st.lists(st.one_of(lessons(), lessons(), st.none()), max_size=12))
def test_memory_and_redis_are_equal(redis_broker: Broker, history: list[Lesson | None]) -> None:
    """The rule is written twice; now and then everything is lost."""
    memory = MemoryProfiles(lambda: 0)
    numbers: Counter[str] = Counter()
    with Redis.from_url(redis_broker.url) as client:
        redis = RedisProfiles(client, f"équal{next(_namespaces)}")
        for lesson in history:
            if lesson is None:
                memory.clear()
                client.flushdb()
                continue
            number = max(1, numbers[lesson.worker] + lesson.number - 1)
            numbers[lesson.worker] = number
            numbered = replace(lesson, number=number)

            assert memory.learn(numbered) == redis.learn(numbered)
            assert memory.profiles() == redis.profiles()


# --- what is special of each ---


def test_memory_forgets_what_nobody_runs_any_more() -> None:
    """Task names may be made at run time."""
    now = 0
    store = MemoryProfiles(lambda: now)
    store.learn(told(1, 50, task="old"))
    store.learn(told(1, 50, task="kept", worker="other"))
    now = IDLE_US - 1
    store.learn(told(2, 50, task="kept"))
    before = set(store.profiles())
    now += 1

    assert {"old", "kept"} == before
    assert ["kept"] == list(store.profiles())


def test_redis_forgets_what_nobody_runs_any_more(redis_broker: Broker) -> None:
    """Nothing else would remove it; and all keys are in one slot."""
    with Redis.from_url(redis_broker.url, decode_responses=True) as client:
        store = RedisProfiles(connect(redis_broker.url), "n")
        today = int(client.time()[0]) // DAY_S
        client.zadd(
            "{celery-budget:n}:profiles",
            {**{f"gone {n}": today - 31 for n in range(3)}, "task {2}": today - 1},
        )
        store.learn(told(1, 50, task="task {2}"))
        store.learn(told(2, 50, task="task {2}"))
        lives = {key: client.ttl(key) for key in client.keys("*")}

        assert {
            "{celery-budget:n}:lessons:w": 3_600,
            "{celery-budget:n}:profiles": 31 * DAY_S,
            "{celery-budget:n}:profile:task {2}": 30 * DAY_S,
        } == pytest.approx(lives, abs=30)
        assert [("task {2}", today)] == client.zrange(
            "{celery-budget:n}:profiles", 0, -1, withscores=True
        )


def test_redis_lists_a_task_type_anew_once_a_day(redis_broker: Broker) -> None:
    """Each time would cost as much as all the rest of a lesson; never would unlist it."""
    with Redis.from_url(redis_broker.url) as client:
        store = RedisProfiles(client, "n")
        today = int(client.time()[0]) // DAY_S
        index, profile = "{celery-budget:n}:profiles", "{celery-budget:n}:profile:task"
        store.learn(told(1, 50))
        client.zadd(index, {"task": today - 2})
        store.learn(told(2, 50))
        same_day = client.zscore(index, "task")
        client.zadd(index, {"task": today - 1})
        client.setrange(profile, 0, (today - 1).to_bytes(4, "big"))
        store.learn(told(3, 50))

        assert [today - 2, today] == [same_day, client.zscore(index, "task")]
        assert today.to_bytes(4, "big") == client.getrange(profile, 0, 3)


def test_a_profile_that_is_gone_and_still_listed_is_passed_over(redis_broker: Broker) -> None:
    """The list is swept a few at a time."""
    with Redis.from_url(redis_broker.url) as client:
        store = RedisProfiles(client, "n")
        store.learn(told(1, 50))
        store.learn(told(2, 50, task="gone"))
        client.delete("{celery-budget:n}:profile:gone")

        assert ["task"] == list(store.profiles())


def test_redis_that_is_away_or_refuses_is_told_as_such(redis_broker: Broker) -> None:
    """Workers go on with what they know."""
    away = RedisProfiles(connect("redis://127.0.0.1:1/0"), "n")
    with Redis.from_url(redis_broker.url) as client:
        client.hset("{celery-budget:n}:profile:task", "not", "ours")
        client.set("{celery-budget:n}:profiles", "not ours")
        refused = RedisProfiles(client, "n")

        with pytest.raises(LedgerUnavailable, match=r"\(learn: "):
            away.learn(told(1, 50))
        with pytest.raises(LedgerUnavailable, match=r"\(profiles: "):
            away.profiles()
        with pytest.raises(LedgerUnavailable, match="WRONGTYPE"):
            refused.learn(told(1, 50))
        with pytest.raises(LedgerUnavailable, match="WRONGTYPE"):
            refused.profiles()
