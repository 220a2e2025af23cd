"""What the demo's worker processes load: `celery -A celery_budget.cli.demo.worker worker`."""

from __future__ import annotations

from celery_budget.cli.demo.app import Place, make_app

app = make_app(Place.from_environment())
