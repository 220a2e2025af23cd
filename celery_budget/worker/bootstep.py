"""The consumer bootstep: puts the pump, the slots and the band channels into a Celery worker.

Its `__init__` runs before strategies are built, so that they pick up our choke point and our
pool. A worker that reconnects starts and stops it again, and every part can be repeated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from functools import partial
from time import monotonic, time, time_ns
from typing import TYPE_CHECKING, Any

from celery.bootsteps import RUN, StartStopStep
from celery.exceptions import ImproperlyConfigured
from celery.utils.log import get_logger
from celery.worker.consumer.tasks import Tasks
from celery.worker.loops import synloop
from kombu.common import ignore_errors

from celery_budget.board import PoolKind
from celery_budget.core.accounts import Accounts
from celery_budget.core.calendar import calendar_window
from celery_budget.core.dispatcher import Dispatcher
from celery_budget.core.reporting import LEASE_S
from celery_budget.policy.budget import Scope
from celery_budget.policy.preemption import Method
from celery_budget.worker import notices, parts, seams
from celery_budget.worker.backlog import Backlog
from celery_budget.worker.changes import Changes
from celery_budget.worker.channels import Channels, windows
from celery_budget.worker.control import steps
from celery_budget.worker.demand import FairDemand, GrowingDemand, LimitedDemand
from celery_budget.worker.forecasts import Forecasts
from celery_budget.worker.intake import Intake
from celery_budget.worker.lanes import Lanes
from celery_budget.worker.leases import Leases
from celery_budget.worker.live import LivePolicy
from celery_budget.worker.metering import Metering
from celery_budget.worker.moves import Moves
from celery_budget.worker.preempter import preempter
from celery_budget.worker.pump import Pump
from celery_budget.worker.returns import Returns, give_back_unstarted
from celery_budget.worker.services import Services
from celery_budget.worker.slots import SlotPool
from celery_budget.worker.throttle_log import ThrottleLog
from celery_budget.worker.wakeup import SlicedConnection, WakePipe
from celery_budget.worker.ways import has_degrading, ways

if TYPE_CHECKING:
    from celery.worker.consumer import Consumer

    from celery_budget.core.admission import Group
    from celery_budget.policy.model import Policy
    from celery_budget.stores.protocols import ArrivalStore
    from celery_budget.worker.ceilings import Ceilings
    from celery_budget.worker.changes import Change
    from celery_budget.worker.demand import Ask
    from celery_budget.worker.intake import Held

logger = get_logger(__name__)

#: How often a worker to which nothing happens looks again, seconds: the autoscaler's own period.
TICK_S = 1.0


class BandStep(StartStopStep):
    """Runs the bands of one worker's consumer; an app without a policy works as without it."""

    requires = (Tasks,)

    def __init__(self, c: Consumer, **options: object) -> None:
        super().__init__(c, **options)
        policy: Policy = c.app.amqp.policy()
        self.enabled = not policy.is_empty
        if not self.enabled:
            return
        self._pipe: WakePipe | None = None
        self._told_fallback = False
        self._ticks: Any = None
        self._lost: list[Any] = []
        self.moves = Moves.restore(seams.persistence(c))
        seams.on_mingle(c, lambda moves: self.moves.merge((str(i), int(n)) for i, n in moves))
        pool = c.pool
        services: Services = c.app.amqp.services()
        accounts, self._leases = self._budgets(c, policy, services)
        metering = None
        self._ceilings: Ceilings | None = None
        kind = seams.pool_kind(pool)
        has_ceilings = bool(policy.ceilings) and kind is PoolKind.PREFORK
        possible, self._obstacles = ways(c, policy)
        can_stop = has_ceilings or Method.EVICT in possible
        is_read = policy.resources or possible - {Method.FREEZE} or has_degrading(c, policy)
        if is_read and kind is not None:
            # Before the pool starts: its children share the board with this process.
            metering = Metering(pool, kind, policy.resources, services.connect, can_stop=can_stop)
            if has_ceilings:
                self._ceilings = parts.ceilings(policy, pool, metering)
        self._returns = Returns(c.connection_errors + c.channel_errors)
        giving = preempter(c, policy, possible, metering, self._returns, self._thawed)
        spare = policy.preemption.spare if Method.FREEZE in possible else 0
        if spare:
            seams.add_spare(pool, spare)
        # The pool has not started: how many slots it has is asked again at each decision.
        dispatcher = Dispatcher(
            policy.bands,
            max(1, pool.limit - spare),
            seed=policy.seed,
            accounts=accounts if policy.has_accounts else None,
            weight=policy.tenant_weight if policy.tenants else None,
            preemption=policy.preemption,
            ways=possible,
            spare=spare,
            pressure=policy.pressure,
        )
        self._node = parts.node(policy, services, kind, lambda: self.pump.running)
        headers = accounts.groups.headers if accounts else ()
        self.pump = Pump(
            dispatcher=dispatcher,
            intake=Intake(policy, headers=headers, ways=possible),
            moves=self.moves,
            process=seams.process_task(c),
            size=seams.size(pool, spare),
            preempter=giving,
            leases=self._leases,
            metering=metering,
            ceilings=self._ceilings,
            node=self._node,
        )
        self.live = LivePolicy(policy, self.pump, accounts, self._ceilings, c.timer.call_after)
        self._throttle_log = ThrottleLog()
        self._backlog = Backlog(c, self.pump, lambda: self.policy, self._workers)
        self.scaling = parts.scaling(c, self.pump, self._backlog)
        self._lanes = Lanes(c.app, lambda: self.policy)
        metered = None if metering is None else metering.metered
        c.pool = self.pump.pool = SlotPool(pool, self.pump.ended, metered, c.hub, spare=spare)
        c.pool.before_signal = giving.release
        c.on_task_request = self.pump.offer
        steps[c] = self

    @property
    def policy(self) -> Policy:
        """The policy that holds now."""
        return self.live.policy

    @property
    def has_ledger(self) -> bool:
        """Whether operators can change anything while this worker runs."""
        return self._leases is not None

    def refresh(self) -> None:
        """Look for what operators have changed."""
        if self._leases is not None:
            self._leases.refresh()
            self.pump.tick()

    def _budgets(
        self, c: Consumer, policy: Policy, services: Services
    ) -> tuple[Accounts | None, Leases | None]:
        """Make the books of this worker and what carries them to the ledger.

        Without budgets the ledger still tells what operators change, if there is one.
        """
        # Two processes of one name follow each other: what the first held is not the second's.
        worker = f"{c.hostname}:{os.getpid()}:{time_ns()}"
        try:
            stores = services.stores(int(LEASE_S * 1e6))
        except ImproperlyConfigured:
            if policy.has_accounts:
                raise
            self._forecasts = self._forecast(None, worker)
            return None, None
        self._forecasts = self._forecast(stores.arrivals, worker)
        place = {
            Scope.WORKER: c.hostname,
            Scope.NODE: c.hostname.partition("@")[2] or c.hostname,
            Scope.REGION: services.region,
        }
        accounts = Accounts(
            policy, place, calendar_window, lease_s=LEASE_S, version=services.version
        )
        leases = Leases(
            stores,
            accounts,
            worker,
            lambda: self.pump.dispatcher,
            self._resume,
            Changes(policy, services.version),
            self._change,
            self._forecasts,
        )
        return accounts, leases

    def _forecast(self, store: ArrivalStore | None, worker: str) -> Forecasts:
        return Forecasts(store, lambda: self.pump.dispatcher, worker, self._received)

    def _received(self) -> Collection[str]:
        """Name the bands of which messages come here."""
        channels = self.pump.channels
        return [band.name for band in self.policy.bands] if channels is None else channels.bands

    def _thawed(self, held: Held) -> None:
        self.pump.dispatcher.thawed(held, time())

    def _change(self, change: Change) -> None:
        self.live.changed(change)

    def _workers(self) -> int:
        """Tell how many workers there are, as the ledger knows them; 0 without one."""
        return 0 if self._leases is None else self._leases.workers

    def _resume(self, groups: list[Group]) -> None:
        self.pump.resumed(groups)

    def start(self, c: Consumer) -> None:
        """Move the bands' queues to channels of their own and hand the loop our consumer."""
        self._attach(c)
        self._reclaim(c)
        after, later = c.timer.call_after, None
        if c.hub is None:
            # Its timer has a thread or greenlet of its own.
            later = c.call_soon

            def after(seconds: float, call: Callable[[], None]) -> object:
                return c.timer.call_after(seconds, lambda: c.call_soon(call))

        self._later = later
        make = windows(c.connection.transport.driver_type, self._demand(c), after)
        if make is None:
            if not self._told_fallback:
                self._told_fallback = True
                notices.fallback(c.connection.transport.driver_type)
            self.pump.channels = None
        else:
            c.task_consumer = self.pump.channels = Channels(
                c.task_consumer,
                policy=lambda: self.policy,
                channel=self._channels(c),
                window=make,
                expected=self.pump.dispatcher.expected,
                later=later,
                lanes=self._lanes.of,
            )
            self._follow_lanes()
            self.pump.dispatcher.listen(self.pump.channels.bands, time())
        # Without an event loop, the timer's thread or greenlet looks for answers.
        wake = self._pipe.wake if self._pipe else partial(c.timer.call_after, 0, self.pump.tick)
        if self._leases is not None:
            self._leases.open(wake)
        for part in (self._ceilings, self._node, self.scaling):
            if part is not None:
                part.open(wake)
        self._backlog.look()
        self.pump.open()
        self._ticks = c.timer.call_repeatedly(TICK_S, self._tick)
        notices.capped(self.pump.dispatcher, self.policy)
        notices.obstacles(self._obstacles)
        if self.policy.ceilings and self._ceilings is None:
            notices.no_ceilings()

    def _tick(self) -> None:
        with self.pump.lock:
            self._forecasts.look(monotonic())
            self._backlog.look()
        self.pump.tick()
        self._throttle_log.look(self.pump.dispatcher, self.policy)
        if self.scaling is not None:
            self.scaling.look()
        if self._later is None:
            self._follow_lanes()
        else:
            self._later(self._follow_lanes)

    def _follow_lanes(self) -> None:
        if self.pump.channels is not None and self.pump.is_open:
            self._lanes.follow(self.pump.channels)

    def register_with_event_loop(self, c: Consumer, _hub: object) -> None:
        """Go on where the pool has registered; only with an event loop."""
        c.pool.registered()

    def _channels(self, c: Consumer) -> Callable[[], Any]:
        """Tell how to open a band's channel; over AMQP, one that costs the loop less."""
        opened: Callable[[], Any] = c.connection.channel
        if c.hub is None or c.connection.transport.driver_type != "amqp":
            return opened
        seams.read_in_bulk(c.connection.connection, c.hub)

        def channel() -> Any:
            channel = opened()
            seams.acknowledge_directly(channel)
            return channel

        return channel

    def _attach(self, c: Consumer) -> None:
        """Find out how this worker's loop is reached."""
        if c.hub is None:
            connection = c.connection
            sliced = SlicedConnection(connection, c, self.pump)

            def loop(obj: Any, _connection: Any, *args: Any, **kwargs: Any) -> None:
                synloop(obj, sliced, *args, **kwargs)

            c.loop = loop
            self.pump.attach(None, c.timer.call_after)
            return
        if self._pipe is None:
            self._pipe = WakePipe(c.hub, self.pump.settle_over)
        self._pipe.register()
        self.pump.attach(self._pipe.wake, c.timer.call_after)

    def _reclaim(self, c: Consumer) -> None:
        """Give back what the worker had and did not run when the connection broke."""
        lost, self._lost = self._lost, []
        count = seams.reclaim(lost, c.connection.default_channel)
        self._returns.open(c.connection.default_channel)
        if count:
            logger.info("%d messages of the lost connection are with the broker again.", count)

    def _demand(self, c: Consumer) -> Ask:
        """Choose what windows ask; most workers need nothing beside the dispatcher."""
        ask: Ask = self.pump.dispatcher.demand
        is_polled = c.connection.transport.driver_type == "redis"
        if is_polled and any(band.lanes > 1 for band in self.policy.bands):
            ask = FairDemand(self.pump.dispatcher, self._has_lanes)
        most_slots = seams.most_slots(c)
        if most_slots and self.scaling is None:
            ask = GrowingDemand(self.pump.dispatcher, most_slots)
        limit = c.app.conf.worker_eta_task_limit
        if limit:
            ask = LimitedDemand(ask, limit, lambda: seams.parked(c))
        return ask

    def _has_lanes(self, name: str) -> bool:
        band = self.policy.band(name)
        return band is not None and band.lanes > 1

    def stop(self, c: Consumer) -> None:
        """Give back what is held: the broker keeps it for another worker."""
        if self._ticks is not None:
            self._ticks.cancel()
            self._ticks = None
        self._lanes.close()
        if c.connection is not None and c.task_consumer is not None:
            # First, or RabbitMQ sends what is given back here again.
            ignore_errors(c, c.task_consumer.cancel)
        held = self.pump.close()
        for part in (self._leases, self._ceilings):
            if part is not None:
                part.drain(self.pump.lock)
        # Celery 5.6 keeps the broken connection; only a shutdown changes the blueprint's state.
        if c.connection is None or c.blueprint.state == RUN:
            self._lose()
        elif held:
            begun = monotonic()
            try:
                give_back_unstarted(held)
            except c.connection_errors + c.channel_errors as error:
                self._lose()
                logger.warning("%d unstarted tasks could not be given back: %r.", len(held), error)
            else:
                logger.info(
                    "%d unstarted tasks given back to the broker in %.3f s.",
                    len(held),
                    monotonic() - begun,
                )
        self.moves.store(seams.persistence(c))

    def _lose(self) -> None:
        """Remember the channels of a broken connection until there is another one."""
        if self.pump.channels is not None:
            self._lost += self.pump.channels.channels

    def shutdown(self, _c: Consumer) -> None:
        """End for good."""
        for part in (self._leases, self._ceilings, self._node, self._backlog):
            if part is not None:
                part.close()
        self._returns.close()
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
