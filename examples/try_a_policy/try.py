"""Let two workers go through eight minutes under each policy that is named."""

import sys
from random import Random

from celery_budget.policy.load import load
from celery_budget.simulate.world import World

MINUTE = 60.0
# How long each stretch lasts, seconds, and how much comes then.
LOAD = [(3 * MINUTE, 1), (2 * MINUTE, 5), (3 * MINUTE, 1)]


def arrivals(world, task, per_second, length_s, chance):
    """Make the jobs of one task: at random moments, and of random lengths."""
    at = world.clock.now
    for lasts_s, times in LOAD:
        end = at + lasts_s
        while (at := at + chance.expovariate(per_second * times)) < end:
            yield world.job(task, chance.expovariate(1 / length_s), at=at)
        at = end


for file in sys.argv[1:]:
    world = World(load(file), seed=7)
    for name in ("one", "two"):
        world.add_worker(name, slots=4)
    world.arrive(arrivals(world, "payments.charge", 8, 0.08, Random(1)))
    world.arrive(arrivals(world, "reports.daily", 5, 0.5, Random(2)))
    world.clock.run(sum(lasts_s for lasts_s, _ in LOAD))

    waits = sorted(run.waited_s for run in world.runs if run.job.band == "payments")
    half, most, nearly_all = (1e3 * waits[int(part * len(waits))] for part in (0.5, 0.95, 0.99))
    reports = sum(run.job.band == "reports" for run in world.runs)
    print(
        f"{file}: half of the payments started within {half:.0f} ms, 95 % within {most:.0f} ms, "
        f"99 % within {nearly_all:.0f} ms; {reports} reports in 8 minutes"
    )
