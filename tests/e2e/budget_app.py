"""The app of pytest-celery's worker nodes, with bands.

pytest-celery copies this file to the node and fills in `imports`, the app's name and `config`,
which must stand here as in its own template.
"""

from __future__ import annotations

from celery import Celery

from celery_budget import install

imports = None

app = Celery("celery_test_app")
config = None

if config:
    app.config_from_object(config)

install(
    app,
    policy={
        "default_band": "important",
        "bands": {
            "critical": {"queues": ["critical"], "preempts": True},
            "important": {"queues": ["celery"]},
        },
    },
)
