import os

from celery import Celery

from celery_budget import install

app = Celery("mail", broker="redis://localhost:6379/0")
app.conf.budget_ledger_url = os.environ.get("BUDGET_LEDGER_URL")
install(app, policy="budget.toml")


@app.task
def send(number):
    print(f"sent {number}")
