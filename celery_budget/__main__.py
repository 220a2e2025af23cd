"""`python -m celery_budget`: the same as the command `celery-budget`."""

from __future__ import annotations

from celery_budget.cli.main import main

if __name__ == "__main__":
    main()
