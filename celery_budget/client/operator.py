"""`Operator`: changes what holds for a fleet while it runs: another policy, and pauses.

The change goes to the ledger, where every worker sees within a second that there is one, and a
broadcast tells them to look at once.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING

from celery.exceptions import ImproperlyConfigured
from msgspec import json

from celery_budget.app import opened
from celery_budget.client.workers import Workers
from celery_budget.errors import OptionError, PolicyError, Problem
from celery_budget.ledger import MEMORY, URL, ledger_url, stores
from celery_budget.policy.budget import Scope
from celery_budget.policy.live import MOST_PAUSES, PAUSABLE, Live, Pause
from celery_budget.policy.load import load, read
from celery_budget.policy.problems import Problems
from celery_budget.policy.scope import read_target
from celery_budget.worker.changes import fixed_differences

if TYPE_CHECKING:
    from celery import Celery

    from celery_budget.stores.protocols import Ledger

#: Times that a change is made anew because somebody else has changed something meanwhile.
TRIES = 10

#: How often workers are asked whether they follow, seconds.
ASKED_S = 0.2

#: The lease does not matter to one who holds nothing.
_NO_LEASE = 0


@dataclass(frozen=True, slots=True)
class Changed:
    """A change, and who follows it.

    Attributes:
        live: As the ledger has it now.
        followers: Workers that follow it.
        problems: Workers that do not, and why; those that had not answered in time among them.
        after_s: Seconds from the change to the last follower's answer.
    """

    live: Live
    followers: tuple[str, ...]
    problems: Mapping[str, str]
    after_s: float


class Operator:
    """Changes what holds for the workers of one app, and those that start later.

    Args:
        app: On which `install` was called.
        timeout: Seconds to wait for the workers' answers.

    Raises:
        NotInstalled: `install` was not called on the app.
        PolicyError: The app's policy has mistakes.
        ImproperlyConfigured: The app has no ledger that its workers share.

    Source: docs/howto/change-while-running.md.

    .. versionadded:: 0.1
    """

    def __init__(self, app: Celery, *, timeout: float = 5.0) -> None:
        self._app, installation = opened(app)
        self._policy = installation.policy()
        self._timeout = timeout
        if ledger_url(self._app) == MEMORY:
            raise ImproperlyConfigured(
                f"each worker keeps its ledger by itself ({MEMORY}), where nobody else can change "
                f"anything: set {URL} to the URL of a Redis server"
            )
        self._ledger: Ledger = stores(self._app, _NO_LEASE).ledger

    def live(self) -> Live:
        """Tell what operators have changed.

        Raises:
            LedgerUnavailable: the ledger cannot be reached.
        """
        return self._ledger.live()

    def pause(self, target: str, *, for_s: float | None = None, reason: str = "") -> Changed:
        """Let no more tasks start that match; those that run go on, those that wait keep their age.

        Args:
            target: "fleet", or "band:", "queue:", "task:" or "tenant:" and a shell pattern.
            for_s: For so many seconds; None: until `resume`.
            reason: Why; others will ask.

        Raises:
            OptionError: the target cannot be read, or too much is paused.
            LedgerUnavailable: the ledger cannot be reached.
        """
        scope, pattern = self._target(target)
        until = None if for_s is None else time() + for_s
        pause = Pause(scope, pattern, until, _who(), reason)

        def amended(live: Live) -> Live:
            others = [p for p in _holding(live) if (p.scope, p.pattern) != (scope, pattern)]
            if len(others) >= MOST_PAUSES:
                raise OptionError("pause", f"{MOST_PAUSES} pauses hold already; resume some first")
            return replace(live, pauses=(*others, pause))

        return self._change(amended)

    def resume(self, target: str) -> Changed:
        """Lift a pause.

        Args:
            target: As it was paused.

        Raises:
            OptionError: nothing of that name is paused.
            LedgerUnavailable: the ledger cannot be reached.
        """
        wanted = self._target(target)

        def amended(live: Live) -> Live:
            paused = _holding(live)
            others = tuple(p for p in paused if (p.scope, p.pattern) != wanted)
            if len(others) == len(paused):
                names = ", ".join(p.target for p in paused) or "nothing is"
                raise OptionError("resume", f"{target} is not paused", f"paused: {names}")
            return replace(live, pauses=others)

        return self._change(amended)

    def apply(self, source: str | Path | Mapping[str, object], reason: str = "") -> Changed:
        """Let another policy hold in the place of the workers' own.

        Senders keep theirs. A worker that has another policy file than this app keeps its own
        and says so; so does every worker once another file is deployed.

        Args:
            source: Path of a TOML file, or the same as a mapping.
            reason: Why; others will ask.

        Raises:
            PolicyError: it has mistakes, or differs in what needs a restart of the workers.
            LedgerUnavailable: the ledger cannot be reached.
        """
        content = source if isinstance(source, Mapping) else read(Path(source))
        fixed = list(fixed_differences(self._policy, load(content)))
        if fixed:
            raise PolicyError([Problem("", each, "deploy it and restart") for each in fixed])
        text = json.encode(content).decode()
        base = self._policy.fingerprint
        return self._change(
            lambda live: replace(live, base=base, policy=text, by=_who(), reason=reason)
        )

    def reset(self, reason: str = "") -> Changed:
        """Let each worker's own policy hold again; pauses stay.

        Args:
            reason: Why; others will ask.

        Raises:
            LedgerUnavailable: the ledger cannot be reached.
        """
        return self._change(
            lambda live: replace(live, base="", policy="", by=_who(), reason=reason)
        )

    def _target(self, target: str) -> tuple[Scope, str]:
        problems = Problems()
        bands = [band.name for band in self._policy.bands]
        read = read_target(target, "", PAUSABLE, bands, problems)
        try:
            problems.raise_if_any()
        except PolicyError as error:
            first = error.problems[0]
            raise OptionError("target", first.message, first.suggestion) from error
        return read.scope, read.pattern

    def _change(self, amended: Callable[[Live], Live]) -> Changed:
        changed = None
        begun = monotonic()
        for _ in range(TRIES):
            live = self._ledger.live()
            changed = self._ledger.change(replace(amended(live), version=0), live.version)
            if changed is not None:
                break
        if changed is None:
            raise OptionError("change", f"others change something too: {TRIES} tries were in vain")
        return self._followed(changed, begun)

    def _followed(self, live: Live, begun: float) -> Changed:
        """Tell the workers, and wait until all that answer follow."""
        workers = Workers(self._app)
        workers.tell("budget_refresh", {})
        followers: dict[str, None] = {}
        problems: dict[str, str] = {}
        after_s = 0.0
        give_up = begun + self._timeout
        while True:
            answers = workers.ask("budget_live", {}, ASKED_S)
            problems = {}
            for worker, reply in answers.items():
                problem = str(reply.get("problem") or "")
                if problem:
                    problems[worker] = problem
                elif int(str(reply.get("version") or 0)) < live.version:
                    problems[worker] = "it has not followed in time"
                elif worker not in followers:
                    followers[worker] = None
                    after_s = monotonic() - begun
            if (answers and not problems) or monotonic() > give_up:
                return Changed(live, tuple(followers), problems, after_s)


def _holding(live: Live) -> list[Pause]:
    now = time()
    return [pause for pause in live.pauses if not pause.is_over(now)]


def _who() -> str:
    """Name who changes something, as the system knows them."""
    user = "unknown"
    with suppress(OSError, KeyError):  # a container's user may have no name
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}"
