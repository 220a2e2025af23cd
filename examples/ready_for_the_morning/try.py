"""Let two workers go through two days and a half under each policy that is named."""

import sys
from random import Random

from celery_budget.policy.load import load
from celery_budget.simulate.world import World

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
DAYS = 2.5
# From eight to half past eight (UTC) thirty times as many log in.
RUSH = 8 * HOUR, 8.5 * HOUR


def logins(world, end, chance):
    """Make the logins: at random moments, and many in the morning."""
    at = world.clock.now
    while at < end:
        is_rush = RUSH[0] <= at % DAY < RUSH[1]
        until = at - at % MINUTE + MINUTE
        while (at := at + chance.expovariate(1.5 if is_rush else 0.05)) < until:
            yield world.job("logins.check", chance.expovariate(1 / 2.0), at=at)
        at = until


def reports(world, end, chance):
    """Make the reports: day and night, somewhat less than the workers could do."""
    at = world.clock.now
    while (at := at + chance.expovariate(0.23)) < end:
        yield world.job("reports.daily", chance.expovariate(1 / 60.0), at=at)


for file in sys.argv[1:]:
    world = World(load(file), seed=7)
    for name in ("one", "two"):
        world.add_worker(name, slots=8)
    end = world.clock.now + DAYS * DAY
    world.arrive(logins(world, end, Random(1)))
    world.arrive(reports(world, end, Random(2)))
    world.clock.run(DAYS * DAY)

    print(f"{file}:")
    mornings = {}
    for run in world.runs:
        # The first two minutes of each rush.
        if run.job.band == "logins" and 0 <= run.job.published % DAY - RUSH[0] < 2 * MINUTE:
            mornings.setdefault(run.job.published // DAY, []).append(run.waited_s)
    for number, waits in enumerate(mornings.values(), 1):
        waits.sort()
        half, most = waits[len(waits) // 2], waits[int(0.9 * len(waits))]
        print(f"  morning {number}: half started within {half:.3f} s, 90 % within {most:.3f} s")
    print(f"  {sum(run.job.band == 'reports' for run in world.runs)} reports")
