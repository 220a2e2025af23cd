"""Random histories of a fleet and its ledger: the same seed gives the same one.

Workers crash, repeat reports, obey nothing and lie; the clock jumps both ways; everything is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import NamedTuple

from celery_budget.core.account import AHEAD, MOST, AccountRule, Known, Want
from celery_budget.core.exchange import Line, Report
from celery_budget.core.standing import NONE, ByRank, Standing

SECOND = 1_000_000
DAY = 86_400 * SECOND
BEGIN = 1_700_000_000 * SECOND
LEASE_US = 5 * SECOND

#: The memory ledger keeps what may be forgotten for ten minutes, Redis by a clock of its own.
SET_BACK = 590 * SECOND

#: The last three are always a calendar window, a huge budget and an envelope; the others change.
ACCOUNTS = ("a", "b", "c", "day", "huge", "envelope")
WORKERS = ("w0", "w1", "ünï-дом", "w3")


class Step(NamedTuple):
    """What happens next.

    Attributes:
        now: What the ledger's clock shows.
        is_lost: Whether the ledger loses everything before.
        report: Without epoch and known, which depend on the ledger's answers.
    """

    now: int
    is_lost: bool
    report: Report


def steps(seed: int, length: int) -> Iterator[Step]:
    """Invent a history."""
    random = Random(seed)
    now = latest = BEGIN + random.randrange(DAY)
    numbers: dict[str, tuple[Report, int]] = {}
    for _ in range(length):
        now = max(now + _passing(random), latest - SET_BACK)
        latest = max(latest, now)
        worker = random.choice(WORKERS)
        last = numbers.get(worker)
        if last is not None and random.random() < 0.08 and last[1] > now - 3_000 * SECOND:
            report = last[0]
            if random.random() < 0.3 and report.number > 1:  # one that was overtaken
                report = replace(report, number=report.number - 1)
        else:
            number = 1 if last is None else last[0].number + 1
            lines = tuple(
                _line(random, account, now)
                for account in random.sample(ACCOUNTS, random.randrange(len(ACCOUNTS)))
            )
            room = random.choice([0, 0, random.randrange(5)])
            waiting = random.choice([0, 0, random.randrange(-4, 7)])
            places = random.choice([0, random.randrange(5)])
            next_us = random.randrange(300_000)
            report = Report(worker, number, "", next_us, lines, room, waiting, places)
            numbers[worker] = report, now
        yield Step(now, random.random() < 0.02, report)


def _passing(random: Random) -> int:
    chance = random.random()
    if chance < 0.10:
        return random.randrange(20 * SECOND)
    if chance < 0.14:
        return -random.randrange(20 * SECOND)
    if chance < 0.15:
        return -random.randrange(SET_BACK)
    if chance < 0.17:
        return random.randrange(1_200 * SECOND)
    if chance < 0.19:
        return random.randrange(2 * DAY)
    return random.randrange(100_000)


def _line(random: Random, account: str, now: int) -> Line:
    rule = _rule(random, account, now)
    scale = MOST // 2 if account == "huge" else 30 * SECOND
    held = random.choice([0, random.randrange(scale // 3)])
    spent = 0 if rule.is_capacity else random.choice([0, random.randrange(scale)])
    return Line(
        account, rule, spent, held, random.randrange(held + 1), _wants(random, scale, now),
        _known(random, scale, now) if random.random() < 0.3 else None,
        _standing(random, scale) if random.random() < 0.5 else NONE,
    )  # fmt: skip


def _rule(random: Random, account: str, now: int) -> AccountRule:
    version = random.choice([0, 0, 0, 1, 2])
    if account == "huge":
        limit = random.randrange(MOST // 2, MOST)
        burst = random.choice([0, MOST - limit])
        return AccountRule(limit, 7 * SECOND, max(1, burst), random.random() < 0.9, version=version)
    if account == "envelope":
        ends = BEGIN + random.choice([DAY, 2 * DAY, 3 * DAY])
        return AccountRule(40 * SECOND, turns=True, number=1, begins=ends)
    limit = random.choice([random.randrange(1, 100), random.randrange(1, 100) * SECOND])
    kind = "day" if account == "day" else random.choice(["capacity", "steady", "turning"])
    if kind == "capacity":
        return AccountRule(limit, version=version)
    if kind == "steady":
        window = random.choice([1, 60]) * SECOND
        return AccountRule(limit, window, random.randrange(1, 20) * SECOND, version=version)
    burst = random.choice([0, 0, 5 * SECOND])
    if kind == "turning":
        return AccountRule(limit, 3_600 * SECOND, burst, turns=True, version=version)
    # Some clocks are ahead or behind, and one policy in ten counts weeks.
    length = random.choice([DAY] * 9 + [7 * DAY])
    number = (now + random.choice([0, 0, 0, -2, 2, 40_000]) * SECOND) // length
    return AccountRule(
        random.choice([10, 20]) * SECOND, 0, burst, turns=True, number=number,
        begins=number * length, version=version,
    )  # fmt: skip


def _wants(random: Random, scale: int, now: int) -> tuple[Want, ...]:
    ranks = sorted(random.sample([0, 1, 2, AHEAD, AHEAD + 1], random.randrange(4)))
    wants = []
    for rank in ranks:
        units = random.randrange(1, scale)
        least = random.choice([1, min(units, SECOND), random.randrange(1, units + 1)])
        since = now - random.choice([0, random.randrange(10 * SECOND), random.randrange(2 * DAY)])
        floor = random.choice([0, 0, SECOND, 5 * SECOND])
        wants.append(Want(rank, units, least, since, floor))
    return tuple(wants)


def _known(random: Random, scale: int, now: int) -> Known:
    at = now - random.choice([random.randrange(30 * SECOND), random.randrange(DAY)])
    return Known(random.randrange(-scale // 3, scale), at, random.randrange(scale // 3))


def _standing(random: Random, scale: int) -> Standing:
    leaving = random.choice([0, 0, random.randrange(scale // 3)])
    return Standing(_by_rank(random, scale), leaving, _by_rank(random, scale))


def _by_rank(random: Random, scale: int) -> ByRank:
    ranks = sorted(random.sample(range(4), random.randrange(4)))
    return tuple((rank, random.randrange(1, scale // 3)) for rank in ranks)
