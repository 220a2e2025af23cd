"""What operators have changed, as this worker can follow it.

The leases' thread reads it here, which takes milliseconds; the bootstep then goes over to it in
the loop, in one step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from msgspec import MsgspecError, json

from celery_budget.errors import PolicyError
from celery_budget.policy.live import Live
from celery_budget.policy.load import load
from celery_budget.policy.model import Policy

#: What needs nothing in the children to be counted.
_COUNTED = frozenset({"starts", "slots"})


class Change(NamedTuple):
    """How a worker goes on.

    Attributes:
        live: As the ledger has it.
        policy: The policy that holds from now on.
        version: Of that policy, for the ledger.
        problem: Why the applied policy does not hold here; "" when it does, or there is none.
    """

    live: Live
    policy: Policy
    version: int
    problem: str = ""


class Changes:
    """Reads changes for one worker.

    Args:
        policy: The worker's own, with which it started.
        version: When that was loaded, microseconds since 1970.
    """

    def __init__(self, policy: Policy, version: int) -> None:
        self._own = policy
        self._version = version
        self._base = policy.fingerprint

    def read(self, live: Live) -> Change:
        """Find out what holds from now on.

        Args:
            live: As the ledger has it.
        """
        # A policy that was taken back leaves the workers' own, and the ledger must take that for
        # a later one than what it had.
        own = Change(live, self._own, max(self._version, 0 if live.policy else live.version))
        if not live.policy:
            return own
        if live.base != self._base:
            problem = (
                "it was made for another policy file than this worker has; apply it again, or "
                "take it back with: celery -A APP budget policy reset"
            )
            return own._replace(problem=problem)
        try:
            policy = load(json.decode(live.policy, type=dict[str, object]))
        except (PolicyError, MsgspecError) as error:
            return own._replace(problem=str(error))
        for problem in fixed_differences(self._own, policy):
            return own._replace(problem=f"{problem}; deploy the file and restart the workers")
        return Change(live, policy, live.version)


def fixed_differences(old: Policy, new: Policy) -> Iterator[str]:
    """Name what one policy has otherwise than another and no running worker can change.

    Queues are declared, children forked and what they meter chosen when a worker starts.
    """
    queues = {band.name: band.queues for band in old.bands}
    if queues.keys() != {band.name for band in new.bands} or old.default_band != new.default_band:
        yield "it has other bands"
        return
    for band in new.bands:
        if band.queues != queues[band.name]:
            yield f"band {band.name} has other queues"
    unknown = set(new.resources) - set(old.resources) - _COUNTED
    if unknown:
        yield f"nothing meters {', '.join(sorted(unknown))} yet"
    if (new.pressure is None) != (old.pressure is None):
        yield f"it has {'a' if new.pressure else 'no'} table [pressure]"
    elif new.pressure and old.pressure and (new.pressure.cpu is None) != (old.pressure.cpu is None):
        yield f"it has {'no' if new.pressure.cpu is None else 'a'} limit for cpu in [pressure]"
    if new.ceilings and not old.ceilings:
        yield "it has the first ceilings"
