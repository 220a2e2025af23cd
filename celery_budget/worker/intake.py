"""From a request to a ticket: read the sender's stamp, or settle Terms here.

Called once for each message, by the pump. What a sender got wrong is told once for each kind of
mistake and never stops the task: it runs with the Terms this worker would give it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from logging import Logger
from math import inf
from time import time
from typing import TYPE_CHECKING

from celery.utils.log import get_logger
from msgspec.structs import replace

from celery_budget.core.ticket import Ticket
from celery_budget.errors import BudgetError, HeaderError
from celery_budget.headers import HEADER, Stamp, read, write
from celery_budget.policy.abilities import can_degrade, methods
from celery_budget.policy.names import MAX_TEXT
from celery_budget.policy.terms import MAX_CACHED, NOTHING_ASKED, Declared, resolve
from celery_budget.producer.declared import arguments, declared
from celery_budget.worker.moves import version

if TYPE_CHECKING:
    from celery.worker.request import Request

    from celery_budget.policy.envelope import Envelope
    from celery_budget.policy.model import Policy
    from celery_budget.policy.preemption import Method
    from celery_budget.worker.channels import BandChannel

logger: Logger = get_logger(__name__)

#: Kinds of mistake remembered, so that a flood of bad headers is not a flood of warnings.
KNOWN_MISTAKES = 1_000

#: Tasks of Celery's own that publish parts of a workflow when others are done: a refused one would
#: leave callers waiting for ever. What they publish draws on the envelope again.
MESSENGERS = frozenset({"celery.chord_unlock"})

NO_ACCOUNTS = (
    "Task %(task)s[%(id)s] from %(sender)s runs without its envelope: this worker's policy keeps "
    "no accounts. Give all workers a policy with [envelopes]; it is not told again for this task."
)
BAD_TERMS = (
    "Task %(task)s[%(id)s] from %(sender)s runs with default terms: %(mistake)s. Mend the sender; "
    "the same mistake of this task is not told again."
)


class Held(Ticket):
    """A ticket with the request it stands for.

    Attributes:
        request: Celery's request; only the worker looks at it.
        source: The band channel it came through, or None for Celery's own consumer.
        started: When it was given to the pool, monotonic seconds; 0.0 before.
        is_kept: Whether it stays unacknowledged while it runs.
        run: Number of its execution on the board; 0 before it starts, or without one.
        usage: What its execution has used, units by resource; None until that is final and was
            asked for.
        stamped: The band that its header tells its task.
        has_left: Whether its execution has left its slot, and is to be run again.
        frozen_at: When it was frozen, monotonic seconds; 0.0 unless it is frozen now.
        frozen_s: For how long it was frozen before, seconds.
    """

    __slots__ = (
        "frozen_at",
        "frozen_s",
        "has_left",
        "is_kept",
        "request",
        "run",
        "source",
        "stamped",
        "started",
        "usage",
    )

    request: Request
    source: BandChannel | None
    started: float
    is_kept: bool
    run: int
    stamped: str
    usage: dict[str, int] | None
    has_left: bool
    frozen_at: float
    frozen_s: float

    def restamp(self) -> None:
        """Let its task see the band in which it starts, not the one it was published for."""
        headers = self.request.request_dict
        headers[HEADER] = write(replace(read(headers[HEADER]), band=self.band))
        self.stamped = self.band


class Intake:
    """Makes a `Held` of each request.

    Args:
        policy: Settles what a message does not say.
        clock: Gives Unix seconds.
        headers: Names of the message headers that have budgets.
        ways: In which running tasks can give way on this worker.
    """

    def __init__(
        self,
        policy: Policy,
        clock: Callable[[], float] = time,
        *,
        headers: tuple[str, ...] = (),
        ways: Collection[Method] = (),
    ) -> None:
        self._known: dict[tuple[str, str], tuple[tuple[Method, ...], bool]] = {}
        self._ways = ways
        self.amend(policy, headers)
        self._clock = clock
        self._mistakes: OrderedDict[tuple[str, str], None] = OrderedDict()

    def amend(self, policy: Policy, headers: tuple[str, ...]) -> None:
        """Settle Terms by another policy from now on, and read other headers."""
        self._policy = policy
        self._headers = headers
        self._known.clear()

    def read_again(self, held: Held) -> None:
        """Read what the policy of today asks for of one that came before."""
        found = held.request.request_dict
        held.values = tuple(str(found.get(name) or "")[:MAX_TEXT] for name in self._headers)
        held.methods, held.can_degrade = self._abilities(held.request, held.band)

    def ticket(self, request: Request, source: BandChannel | None, queue: str | None) -> Held:
        """Make the ticket of one request.

        Args:
            request: As Celery's strategy made it.
            source: The band channel it came through, or None.
            queue: Name of the queue it came through, as far as that is known.
        """
        stamp = self._stamp(request, queue)
        band = stamp.band
        held = Held(
            request.id,
            request.type,
            band,
            stamp.tenant,
            stamp.deadline,
            inf,
            stamp.at,
            version(request.request_dict, stamp.move),
        )
        held.request = request
        held.source = source
        held.started = 0.0
        held.is_kept = False
        held.run = 0
        held.usage = None
        held.has_left = False
        held.frozen_at = held.frozen_s = 0.0
        held.methods, held.can_degrade = self._abilities(request, band)
        held.is_degraded = stamp.degraded
        held.stamped = band
        held.cost = tuple(sorted(stamp.cost.items())) if stamp.cost else ()
        held.queue = queue or ""
        if self._headers:
            self.read_again(held)
        if stamp.envelopes and request.type not in MESSENGERS:
            if self._policy.has_accounts:
                held.envelopes = stamp.envelopes
            else:
                self._tell(request, NO_ACCOUNTS)
        if request.expires is not None:
            held.expires = request.expires.timestamp()
        if request.eta is not None:
            held.published = max(stamp.at, request.eta.timestamp())
        return held

    def _abilities(self, request: Request, band: str) -> tuple[tuple[Method, ...], bool]:
        """Settle how a task may give way while it runs here, and whether it can do less."""
        found = self._known.get((request.type, band))
        if found is None:
            try:
                said = declared(request.task)
            except BudgetError as error:
                self._warn(request, str(error))
                said = Declared()
            if len(self._known) >= MAX_CACHED:
                self._known.clear()
            asked = methods(self._policy, request.type, said, band)
            found = self._known[request.type, band] = (
                tuple(method for method in asked if method in self._ways),
                can_degrade(self._policy, request.type, said, band),
            )
        return found

    def _stamp(self, request: Request, queue: str | None) -> Stamp:
        """Read the sender's stamp; where it is missing or bad, settle Terms and stamp here."""
        value = request.request_dict.get(HEADER)
        envelopes: tuple[Envelope, ...] = ()
        if value is not None:
            try:
                stamp = read(value)
            except HeaderError as error:
                self._warn(request, str(error))
            else:
                if self._policy.band(stamp.band) is not None:
                    return stamp
                envelopes = stamp.envelopes  # another policy is no reason to spend more
                self._warn(
                    request,
                    f"header {HEADER!r} names the band {stamp.band!r}, which this worker's policy "
                    f"does not have (it has {', '.join(band.name for band in self._policy.bands)})",
                )
        stamp = replace(self._settle(request, queue), envelopes=envelopes)
        # The child process reads its own Terms from the same header.
        request.request_dict[HEADER] = write(stamp)
        return stamp

    def _settle(self, request: Request, queue: str | None) -> Stamp:
        now = self._clock()
        try:
            terms = resolve(
                self._policy,
                request.type,
                call=NOTHING_ASKED,
                declared=declared(request.task),
                inherited=NOTHING_ASKED,
                queue=queue,
                arguments=arguments(request.task, request.args, request.kwargs),
                now=now,
            )
        except BudgetError as error:
            self._warn(request, str(error))
            terms = resolve(
                self._policy,
                request.type,
                call=NOTHING_ASKED,
                declared=Declared(),
                inherited=NOTHING_ASKED,
                queue=queue,
                arguments=None,
                now=now,
            )
        return Stamp(
            terms.band,
            terms.tenant,
            terms.deadline,
            terms.correlation_id or request.id,
            now,
            cost=dict(terms.cost),
        )

    def _warn(self, request: Request, mistake: str) -> None:
        self._tell(request, BAD_TERMS, mistake)

    def _tell(self, request: Request, text: str, mistake: str = "") -> None:
        """Warn of a message, once for each task and kind of mistake."""
        kind = (request.type, mistake[:80] or text)
        if kind in self._mistakes:
            return
        self._mistakes[kind] = None
        if len(self._mistakes) > KNOWN_MISTAKES:
            self._mistakes.popitem(last=False)
        sender = request.request_dict.get("origin") or "an unknown sender"
        logger.warning(
            text, {"task": request.type, "id": request.id, "sender": sender, "mistake": mistake}
        )
