"""`install`: joins all parts to an existing Celery app."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from threading import Lock
from time import time_ns
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

from celery.app.backends import by_url
from celery.backends.base import Backend
from celery.exceptions import ImproperlyConfigured
from celery.utils.imports import symbol_by_name

from celery_budget.child.results import billing
from celery_budget.errors import AmountError, NotInstalled
from celery_budget.ledger import stores
from celery_budget.policy.load import load
from celery_budget.producer.amqp import budgeted
from celery_budget.producer.stamp import connect
from celery_budget.task import task_class
from celery_budget.units import amount

if TYPE_CHECKING:
    from celery import Celery

    from celery_budget.policy.model import Policy
    from celery_budget.stores.state import State
    from celery_budget.worker.services import Services

#: Where a policy may come from: a path, the same as a dict, or None for the setting.
Source = str | Path | Mapping[str, object] | None

#: The setting that names the policy when `install` does not; `CELERY_BUDGET_POLICY` in Django.
SETTING = "budget_policy"

#: The setting that says how much of its node's memory a worker may use.
NODE_MEMORY = "budget_node_memory"

#: By name: a web process publishes and never loads the worker.
BAND_STEP = "celery_budget.worker.bootstep:BandStep"

#: By name: Celery 5.6.0 takes a backend class, or text.
BACKEND = "celery_budget.app:backend"

_installed: WeakKeyDictionary[Celery, Installation] = WeakKeyDictionary()
_lock = Lock()


class Installation:
    """What `install` joined to one app.

    Attributes:
        given: The policy as given to `install`; None when the setting decides.
        backend_cls: The result backend that the app's author named outside of the settings, as
            `app.backend_cls` had it.
    """

    def __init__(self, app: Celery, given: Source) -> None:
        self._app = ref(app)
        self.backend_cls = app.backend_cls
        self._lock = Lock()
        self._state: State | None = None
        self.replace(given)

    def replace(self, given: Source) -> None:
        """Take another policy from here on."""
        with self._lock:
            self.given = Path(given).absolute() if isinstance(given, str | Path) else given
            self._policy: Policy | None = None
            self._loaded_us = 0

    @property
    def policy_source(self) -> Source:
        """The policy's path or dict: what `install` was given, else the app's setting."""
        if self.given is not None:
            return self.given
        app = self._app()
        return None if app is None else app.conf.get(SETTING)

    def policy(self) -> Policy:
        """Load the policy, once, when it is first needed.

        Not at `install`: that must work before the settings are complete, and a policy with
        mistakes must not keep `celery -A app budget check` from naming them.

        Raises:
            PolicyError: the policy has mistakes; every one is named.
        """
        if self._policy is None:
            with self._lock:
                if self._policy is None:
                    self._policy = load(self.policy_source)
                    self._loaded_us = time_ns() // 1_000
        return self._policy

    def services(self) -> Services:
        """Give a worker of the app what it needs beside the policy."""
        # A web process never gets here, and loads neither.
        from celery_budget.child.meter import connect as connect_meter  # noqa: PLC0415
        from celery_budget.worker.services import Services  # noqa: PLC0415

        app = self._app()
        assert app is not None
        self.policy()
        region = app.conf.get("budget_region") or ""
        memory = node_memory(app)
        return Services(partial(stores, app), connect_meter, region, self._loaded_us, memory)

    def state(self) -> State:
        """Give the app's state store, the same one for all that runs in a process."""
        if self._state is None:
            # Only processes that use it get here.
            from celery_budget.state import state  # noqa: PLC0415

            app = self._app()
            assert app is not None
            with self._lock:
                if self._state is None:
                    self._state = state(app)
        return self._state


def install(app: Celery, policy: Source = None) -> None:
    """Give every task of an app a priority band.

    Cheap: reads no settings and no file, opens no connection. Installing again replaces the
    policy and changes nothing else. Call it before the app publishes, asks for a result or starts
    a worker.

    Args:
        app: An existing Celery app; its broker, queues, tasks and workers stay.
        policy: Path of a TOML file, relative to the working directory, or the same as a dict;
            None: the setting `budget_policy`, and without it one band that changes nothing.
    """
    app = _behind(app)
    with _lock:
        known = _installed.get(app)
        if known is not None:
            known.replace(policy)
            return
        installation = _installed[app] = Installation(app, policy)
    app.task_cls = task_class(app.task_cls)
    amqp_cls = symbol_by_name(app.amqp_cls)
    app.amqp_cls = budgeted(
        amqp_cls, installation.policy, installation.services, installation.state
    )
    app.__dict__.pop("amqp", None)  # made already: the next use makes ours
    app.backend_cls = BACKEND
    app.steps["consumer"].add(BAND_STEP)
    connect()


def backend(app: Celery, url: str | None = None) -> Backend:
    """Make the result backend of an app: the one it has without us, with bills if extended.

    Celery calls it when the app first needs its backend: the settings decide as they are then.

    Args:
        app: For which `install` was called.
        url: As Celery's backends take it; our own name has none.
    """
    installation = installed(app)
    named = None if installation is None else installation.backend_cls
    made, url = by_url(named or app.conf.result_backend, app.loader)
    # What is no class of Celery's kind is somebody's own way of making a backend.
    if app.conf.result_extended and isinstance(made, type) and issubclass(made, Backend):
        made = billing(made)
    return made(app=app, url=url)


def node_memory(app: Celery) -> int | None:
    """Read what a worker may use of its node's memory, bytes; None: all that there is.

    Raises:
        ImproperlyConfigured: the setting says what is no amount of memory.
    """
    said = app.conf.get(NODE_MEMORY)
    if said is None:
        return None
    try:
        found = amount("memory", said)
    except AmountError as error:
        raise ImproperlyConfigured(f"{NODE_MEMORY}: {error}") from error
    if found <= 0:
        raise ImproperlyConfigured(f'{NODE_MEMORY} is {said!r}; write for example "2GiB"')
    return found


def installed(app: Celery) -> Installation | None:
    """Find what `install` joined to an app; None when it was not called."""
    return _installed.get(app)


def opened(app: Celery) -> tuple[Celery, Installation]:
    """Find the app behind a proxy, as `shared_task` makes them, and what was joined to it.

    Raises:
        NotInstalled: `install` was not called on it.
    """
    found = _behind(app)
    installation = installed(found)
    if installation is None:
        raise NotInstalled(str(found.main))
    return found, installation


def _behind(app: Celery) -> Celery:
    """Find the app behind a proxy."""
    current = getattr(app, "_get_current_object", None)
    found: Celery = app if current is None else current()
    return found
