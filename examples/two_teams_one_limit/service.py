import os
import time

from celery import Celery

from celery_budget import install

app = Celery("service", broker="redis://localhost:6379/0")
app.conf.budget_ledger_url = os.environ.get("BUDGET_LEDGER_URL")
install(app, policy="budget.toml")


@app.task
def ask(team, number):
    print(f"asked {team} {number} at {time.time():.2f}")
