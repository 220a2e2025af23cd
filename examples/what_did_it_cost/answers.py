import os

from celery import Celery

from celery_budget import budget, install

app = Celery("answers", broker="redis://localhost:6379/0", backend="redis://localhost:6379/0")
app.conf.result_extended = True
app.conf.budget_ledger_url = os.environ.get("BUDGET_LEDGER_URL")
install(app, policy="budget.toml")


@app.task
def ask(customer, question):
    print(f"{customer} asks {question}")
    if budget.degraded:
        budget.charge(usd="0.02")
        return "small answer"
    budget.charge(usd="0.30")
    return "large answer"
