"""The policy that a worker goes by now, and how it goes over to another one while it runs."""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING

from celery.utils.log import get_logger

from celery_budget.policy.budget import Scope
from celery_budget.policy.live import Live
from celery_budget.worker.changes import Change

if TYPE_CHECKING:
    from celery_budget.core.accounts import Accounts
    from celery_budget.policy.model import Policy
    from celery_budget.worker.ceilings import Ceilings
    from celery_budget.worker.pump import Pump

logger = get_logger(__name__)


class LivePolicy:
    """What holds on this worker; touched in the loop only.

    Args:
        policy: With which it started.
        pump: Its own.
        accounts: Its books; None without a ledger, and then nothing can change.
        ceilings: None where none are kept.
        call_after: Calls a function in so many seconds.

    Attributes:
        change: What was followed last.
    """

    def __init__(
        self,
        policy: Policy,
        pump: Pump,
        accounts: Accounts | None,
        ceilings: Ceilings | None,
        call_after: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self.change = Change(Live(), policy, 0)
        self._pump = pump
        self._accounts = accounts
        self._ceilings = ceilings
        self._call_after = call_after

    @property
    def policy(self) -> Policy:
        """The policy that holds now."""
        return self.change.policy

    @property
    def note(self) -> str:
        """What operators have changed here, for whoever looks at this worker; "" for nothing."""
        live = self.change.live
        now = time()
        paused = [pause.target for pause in live.pauses if not pause.is_over(now)]
        notes = [f"paused: {', '.join(paused)}"] if paused else []
        if self.change.problem:
            notes.append(f"an applied policy does not hold here: {self.change.problem}")
        elif live.policy:
            notes.append(f"the policy that {live.by} applied holds")
        return "; ".join(notes)

    def changed(self, change: Change) -> None:
        """Follow what operators have changed."""
        before, self.change = self.change, change
        live = change.live
        if change.problem:
            logger.warning(
                "The policy that %s applied does not hold on this worker: %s.",
                live.by or "somebody",
                change.problem,
            )
        elif (live.policy, live.base) != (before.live.policy, before.live.base):
            logger.info(
                "From now on the policy holds that %s applied: %s."
                if live.policy
                else "From now on this worker's own policy holds again: %s took the other one back"
                " (%s).",
                live.by or "somebody",
                live.reason or "no reason was given",
            )
        self._follow()

    def _follow(self) -> None:
        assert self._accounts is not None
        now = time()
        policy, live = self.policy, self.change.live
        pauses = [pause for pause in live.pauses if not pause.is_over(now)]
        self._accounts.amend(policy, self.change.version, pauses)
        paused = [
            band.name
            for band in policy.bands
            if any(
                pause.scope is Scope.FLEET
                or (pause.scope is Scope.BAND and pause.is_match(band.name))
                for pause in pauses
            )
        ]
        # Once it has books it keeps them: tickets that run are settled there.
        if policy.has_accounts or pauses:
            self._pump.dispatcher.accounts = self._accounts
        self._pump.amend(policy, self._accounts.groups.headers, paused)
        if self._ceilings is not None:
            self._ceilings.amend(policy)
        ends = [pause.until for pause in pauses if pause.until is not None]
        if ends:
            version = live.version
            # A little later: timers may be early by the clock's resolution.
            self._call_after(min(ends) - now + 0.01, lambda: self._end_pause(version))

    def _end_pause(self, version: int) -> None:
        if version != self.change.live.version:
            return  # something was changed since, and has a timer of its own
        with self._pump.lock:
            self._follow()
        self._pump.tick()
