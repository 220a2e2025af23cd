import os

from celery import Celery

from celery_budget import budget, install

app = Celery("research", broker="redis://localhost:6379/0")
app.conf.budget_ledger_url = os.environ.get("BUDGET_LEDGER_URL")
install(app, policy="budget.toml")


@app.task
def ask(topic, number):
    budget.charge(usd="0.30")
    print(f"asked about {topic} {number}")
