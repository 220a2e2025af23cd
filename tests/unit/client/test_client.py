"""What the client refuses, without a server."""

from __future__ import annotations

import pytest
from celery import Celery

from celery_budget import install
from celery_budget.client import Client
from celery_budget.errors import MoveError, NotInstalled


def test_an_app_without_install_is_refused_with_the_remedy() -> None:
    """Its workers would answer nothing, and everything would look lost."""
    with pytest.raises(NotInstalled, match="from celery_budget import install"):
        Client(Celery("plain", set_as_current=False))


def test_on_other_transports_a_signature_is_asked_for() -> None:
    """Their queues cannot be searched; saying "not found" would be a lie."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    install(app, policy={"default_band": "a", "bands": {"a": {"queues": ["a"]}}})

    with pytest.raises(MoveError, match="give signature="):
        Client(app, timeout=0.01).move("4f", "a")


def test_without_bands_nothing_can_be_moved() -> None:
    """An empty policy leaves the app's queues as they are; none of them is a band's."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    install(app)

    with pytest.raises(MoveError, match="the policy declares no bands"):
        Client(app, timeout=0.01).move("4f", "default", signature=app.signature("any"))
