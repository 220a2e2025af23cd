"""What operators have changed while workers run: another policy, and pauses.

Kept in the ledger, so that a worker that starts later has it too. Values only; read from and
written to JSON by `stores/`, made by `client/operator.py`, followed by `worker/changes.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from celery_budget.policy.budget import Scope

#: Pauses at one time. Each is looked at for each new kind of ticket.
MOST_PAUSES = 100

#: Scopes that can be paused: those that every message has.
PAUSABLE = (Scope.FLEET, Scope.BAND, Scope.QUEUE, Scope.TASK, Scope.TENANT)


@dataclass(frozen=True, slots=True)
class Pause:
    """Tasks that match do not start; those that run go on.

    Attributes:
        scope: What the pattern is a pattern of; FLEET for all.
        pattern: Shell pattern over names; "*" for the fleet.
        until: Unix seconds; None: until it is lifted.
        by: Who paused, e.g. "ada@laptop".
        reason: Why, in their words; "" when they did not say.
    """

    scope: Scope
    pattern: str
    until: float | None = None
    by: str = ""
    reason: str = ""

    @property
    def target(self) -> str:
        """What is paused, as an operator writes it: "task:reports.*", "fleet"."""
        return self.scope.value if self.scope is Scope.FLEET else f"{self.scope}:{self.pattern}"

    def is_match(self, name: str) -> bool:
        """Tell whether a name of its scope is paused."""
        return fnmatchcase(name, self.pattern)

    def is_over(self, now: float) -> bool:
        """Tell whether its time has passed; `now` in Unix seconds."""
        return self.until is not None and self.until <= now


@dataclass(frozen=True, slots=True)
class Live:
    """All that operators have changed; the one with the highest version holds.

    Attributes:
        version: When it was changed, microseconds since 1970 by the ledger's clock, and always
            more than the version before; 0: nothing was ever changed.
        base: Fingerprint of the policy that `policy` takes the place of. A worker with another
            one, because a new file was deployed, keeps its own.
        policy: A whole policy, as JSON; "": the workers' own holds.
        pauses: At most `MOST_PAUSES`.
        by: Who applied the policy.
        reason: Why, in their words.
    """

    version: int = 0
    base: str = ""
    policy: str = ""
    pauses: tuple[Pause, ...] = ()
    by: str = ""
    reason: str = ""
